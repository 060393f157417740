// [Task]: T170, T171 [From]: specs/features/frontend.md
import {
  type InfiniteData,
  keepPreviousData,
  QueryClient,
  useInfiniteQuery,
  useMutationState,
  useQueryClient,
} from "@tanstack/react-query";
import { useCallback } from "react";
import { type Change, isOutage, make, preview, scopeOf } from "./changes";
import { FIRST_FILTERS, type Filters, queryOf } from "./queries";
import { ApiError, type Page, type TodoApi } from "./todo-api";

const TASKS = ["tasks"];

type List = InfiniteData<Page, string | undefined>;

/** A cache for one user, with the page that the server has read. */
export function createCache(firstPage?: Page): QueryClient {
  const cache = new QueryClient({
    defaultOptions: {
      // The API's client tries again by itself, and says what is wrong. The cache would wait in silence for a network.
      mutations: { networkMode: "always" },
      queries: {
        networkMode: "always",
        staleTime: 30_000,
        retry: (_, error) => isTemporary(error),
        retryDelay: (_, error) => 1000 * ((error instanceof ApiError && error.retryAfter) || 3),
      },
    },
  });
  if (firstPage) {
    cache.setQueryData<List>([...TASKS, FIRST_FILTERS], { pages: [firstPage], pageParams: [undefined] });
  }
  return cache;
}

/** Whether the same request may work later. */
export function isTemporary(error: unknown): boolean {
  return isOutage(error) || (error instanceof ApiError && error.status === 429);
}

/** The list as the service has it, page by page, and as it will be with all changes that are under way. */
export function useTasks(api: TodoApi, filters: Filters) {
  const query = useInfiniteQuery({
    queryKey: [...TASKS, filters],
    queryFn: ({ pageParam: cursor, signal }) => api.list({ ...queryOf(filters), cursor }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: ({ cursor }) => cursor,
    placeholderData: keepPreviousData,
  });
  const changes = useMutationState({
    filters: { mutationKey: TASKS, status: "pending" },
    select: ({ state }) => state.variables as Change,
  });
  const read = query.data?.pages.flatMap(({ tasks }) => tasks) ?? [];
  const { tasks, added } = preview(read, changes);
  const total = (query.data?.pages[0]?.total ?? 0) + tasks.length - read.length + added.length;
  return { query, tasks, added, total };
}

/** Reads the list again, and forgets those of other filters. Throws if it can't be read. */
export function useRefresh() {
  const cache = useQueryClient();
  return useCallback(async () => {
    cache.removeQueries({ queryKey: TASKS, type: "inactive" });
    await cache.invalidateQueries({ queryKey: TASKS }, { throwOnError: true });
  }, [cache]);
}

/** The tasks that were read last. */
export function useNewest() {
  const cache = useQueryClient();
  return useCallback(() => {
    const lists = cache.getQueriesData<List>({ queryKey: TASKS, type: "active" });
    return lists.flatMap(([, list]) => list?.pages ?? []).flatMap(({ tasks }) => tasks);
  }, [cache]);
}

/**
 * Makes a change, and returns the tasks that it has deleted. It is under way until the list has been read again, so
 * that the list that is shown doesn't fall back meanwhile.
 */
export function useChange(api: TodoApi) {
  const cache = useQueryClient();
  const refresh = useRefresh();
  const newest = useNewest();
  return useCallback(
    (change: Change) =>
      cache
        .getMutationCache()
        .build(cache, {
          ...cache.defaultMutationOptions(),
          mutationKey: TASKS,
          scope: { id: scopeOf(change) },
          mutationFn: () => make(change, api, (id) => newest().find((task) => task.id === id)),
          onSettled: async (_, error) => {
            const refreshed = refresh().catch(() => undefined);
            if (!error) await refreshed;
          },
        })
        .execute(change),
    [cache, api, refresh, newest],
  );
}
