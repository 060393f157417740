// [Task]: T170 [From]: specs/features/frontend.md
import type { Query } from "./todo-api";

/** The orders that a person can choose from. */
export const ORDERS = {
  newest: { label: "Newest first", sort: "created", order: "desc" },
  oldest: { label: "Oldest first", sort: "created", order: "asc" },
  changed: { label: "Recently changed", sort: "updated", order: "desc" },
  title: { label: "Title", sort: "title", order: "asc" },
} as const;

export interface Filters {
  status: NonNullable<Query["status"]>;
  order: keyof typeof ORDERS;
  search: string;
}

export const FIRST_FILTERS: Filters = { status: "all", order: "newest", search: "" };

/** One page of the list. */
export function queryOf({ status, order, search }: Filters): Query {
  const { sort, order: direction } = ORDERS[order];
  return { status, search, sort, order: direction, limit: 50, count: true };
}

/** The page that a list begins with, before anybody filters, sorts or searches it. */
export const FIRST_QUERY = queryOf(FIRST_FILTERS);
