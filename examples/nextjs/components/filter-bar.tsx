// [Task]: T170 [From]: specs/features/frontend.md
"use client";
import { type Filters, ORDERS } from "@/lib/queries";

interface Props {
  filters: Filters;
  onChange: (filters: Filters) => void;
}

export function FilterBar({ filters, onChange }: Props) {
  return (
    <search className="filters">
      <input
        type="search"
        aria-label="Search"
        placeholder="Search"
        maxLength={200}
        value={filters.search}
        onChange={({ target }) => onChange({ ...filters, search: target.value })}
      />
      <select
        aria-label="Show"
        value={filters.status}
        onChange={({ target }) => onChange({ ...filters, status: target.value as Filters["status"] })}
      >
        <option value="all">All</option>
        <option value="pending">Open</option>
        <option value="completed">Completed</option>
      </select>
      <select
        aria-label="Sort by"
        value={filters.order}
        onChange={({ target }) => onChange({ ...filters, order: target.value as Filters["order"] })}
      >
        {Object.entries(ORDERS).map(([value, { label }]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
    </search>
  );
}
