// [Task]: T165, T166, T167, T169 [From]: specs/features/frontend.md
import createClient from "openapi-fetch";
import { ApiError, ConflictError, errorOf } from "./errors";
import { watch } from "./events";
import { fetchAgain } from "./fetch";
import { inParts } from "./moving";
import type { components, operations, paths } from "./schema";
import { type FetchToken, keepToken } from "./token";

export * from "./errors";
export { exportTasks, importTasks } from "./moving";
export { type FetchToken, tokenFrom } from "./token";

export type Task = components["schemas"]["TaskPublic"];
export type NewTask = components["schemas"]["TaskCreate"];
export type Changes = components["schemas"]["TaskUpdate"];
export type Query = NonNullable<operations["listTasks"]["parameters"]["query"]>;
export type TodoApi = ReturnType<typeof createTodoApi>;

export interface Page {
  tasks: Task[];
  /** Where the next page begins, if there is one. */
  cursor?: string;
  /** How many tasks there are on all pages, if the query has `count`. */
  total?: number;
}

export interface Options {
  /** The service's address, such as `https://api.example.com`. */
  url: string;
  /** Whose tasks: the user's id in Better Auth. */
  userId: string;
  /** Fetches a token: in a page `tokenFrom("/api/auth/token")`. */
  fetchToken: FetchToken;
  /** How often a request is tried if there is no answer, or a 5xx. */
  attempts?: number;
}

/** A key for a `POST`: one for each intent of a person, and the same for all attempts to carry it out. */
export function newKey(): string {
  // `crypto.randomUUID` is only there on https and on localhost.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * A client of one user's tasks. Whatever it sends can be sent twice, and is, if the answer is lost.
 *
 * Its methods throw an `ApiError`. After a status of 4xx, nothing has changed; after 0 or 5xx, a change may have been made.
 */
export function createTodoApi({ url, userId, fetchToken, attempts }: Options) {
  const tokens = keepToken(fetchToken);
  // Next.js could otherwise keep the answers in a server component. A browser asks whether its own are still good.
  const cache = typeof window === "undefined" ? "no-store" : "default";
  const again = (request: Request) => fetchAgain(request, attempts);
  const client = createClient<paths>({ baseUrl: url, cache, fetch: (request) => send(request, again) });
  const path = { user_id: userId };

  /** Sends a request with a token, and once more with a fresh one if that is refused. */
  async function send(request: Request, by: typeof again): Promise<Response> {
    for (let isSecond = false; ; isSecond = true) {
      const token = await tokens.get();
      request.headers.set("Authorization", `Bearer ${token}`);
      const response = await by(request);
      if (response.status !== 401 || isSecond) return response;
      tokens.forget(token);
    }
  }

  /** One page of the list: 100 tasks, unless the query has another `limit`. */
  async function list(query: Query = {}, signal?: AbortSignal): Promise<Page> {
    const { data, response } = await done(client.GET("/api/{user_id}/tasks", { params: { path, query }, signal }));
    const next = /<([^>]*)>; rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
    const total = response.headers.get("X-Total-Count");
    return {
      tasks: data,
      ...(next && { cursor: new URL(next, url).searchParams.get("cursor")! }),
      ...(total && { total: Number(total) }),
    };
  }

  /**
   * All pages of the list. In the default order a task that is there throughout is found exactly once; by `updated` or
   * `title`, one that changes meanwhile may come twice or not at all.
   */
  async function all(query: Query = {}, signal?: AbortSignal): Promise<Task[]> {
    const found: Task[] = [];
    let cursor: string | undefined;
    do {
      const page = await list({ limit: 1000, ...query, ...(cursor && { cursor }) }, signal);
      found.push(...page.tasks);
      cursor = page.cursor;
    } while (cursor);
    return found;
  }

  async function get(id: number): Promise<Task> {
    return (await done(client.GET("/api/{user_id}/tasks/{task_id}", { params: { path: { ...path, task_id: id } } }))).data;
  }

  async function create(task: NewTask, key = newKey()): Promise<Task> {
    const params = { path, header: { "Idempotency-Key": key } };
    return (await done(client.POST("/api/{user_id}/tasks", { params, body: task }))).data;
  }

  /** Creates any number of tasks, in this order, by as many requests as it takes: each is done as a whole or not at all. */
  async function createAll(tasks: NewTask[], key = newKey()): Promise<Task[]> {
    const created: Task[] = [];
    for (const [number, part] of inParts(tasks).entries()) {
      const params = { path, header: { "Idempotency-Key": `${key}-${number}` } };
      created.push(...(await done(client.POST("/api/{user_id}/tasks/bulk", { params, body: { tasks: part } }))).data);
    }
    return created;
  }

  /**
   * Changes a task if it is as `task` says. Throws `ConflictError` if it has changed elsewhere, unless to the very same:
   * then it was most likely this change, and its answer was lost.
   */
  async function update(task: Task, changes: Changes): Promise<Task> {
    const params = { path: { ...path, task_id: task.id }, header: { "If-Match": `"${task.updated_at}"` } };
    try {
      return (await done(client.PATCH("/api/{user_id}/tasks/{task_id}", { params, body: changes }))).data;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 412)) throw error;
      const current = await get(task.id);
      if (isAs(current, changes)) return current;
      throw new ConflictError(current);
    }
  }

  /** Sets whether a task is completed, whatever it was. */
  async function complete(id: number, completed: boolean): Promise<Task> {
    const params = { path: { ...path, task_id: id } };
    return (await done(client.PATCH("/api/{user_id}/tasks/{task_id}/complete", { params, body: { completed } }))).data;
  }

  /** Sets whether tasks are completed, at most 1000, and answers those that are there. */
  async function completeAll(ids: number[], completed: boolean): Promise<Task[]> {
    return (await done(client.PATCH("/api/{user_id}/tasks/bulk", { params: { path }, body: { ids, completed } }))).data;
  }

  /** Deletes a task. One that is gone already counts as deleted: the answer to an earlier attempt may have been lost. */
  async function remove(id: number): Promise<void> {
    const params = { path: { ...path, task_id: id } };
    const { error, response } = await client.DELETE("/api/{user_id}/tasks/{task_id}", { params });
    if (!response.ok && response.status !== 404) throw errorOf(response, error);
  }

  /** Deletes any number of tasks; those that are gone already count as deleted. */
  async function removeAll(ids: number[]): Promise<void> {
    for (let start = 0; start < ids.length; start += 200) {
      const query = { ids: ids.slice(start, start + 200).join() };
      await done(client.DELETE("/api/{user_id}/tasks", { params: { path, query } }));
    }
  }

  /** Deletes all tasks of a status, however many. */
  async function clear(status: NonNullable<Query["status"]>): Promise<void> {
    for (let isMore = true; isMore; ) {
      const { data } = await done(client.DELETE("/api/{user_id}/tasks", { params: { path, query: { status } } }));
      isMore = data.ids.length === 1000;
    }
  }

  /**
   * Calls `onChange` when the list may have changed, first as soon as the stream is open, until `signal` ends it.
   *
   * Throws `SignedOutError` when nobody is signed in any more; it survives everything else.
   */
  function onChanges(onChange: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
    const open = async (lastId: string, signal: AbortSignal) => {
      const params = { path, header: { "Last-Event-ID": lastId } };
      const once = (request: Request) => send(request, fetch); // without a time limit
      const init = { params, signal, fetch: once, parseAs: "stream" } as const;
      return (await done(client.GET("/api/{user_id}/tasks/events", init))).data!;
    };
    return watch(open, onChange, signal);
  }

  return { list, all, get, create, createAll, update, complete, completeAll, remove, removeAll, clear, onChanges };
}

/** The answer, if it is a success. */
async function done<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>) {
  const { data, error, response } = await answer;
  if (!response.ok) throw errorOf(response, error);
  return { data: data as T, response };
}

/** Whether the changes would change nothing. The service trims a title. */
function isAs(task: Task, { title = task.title, description = task.description, completed = task.completed }: Changes) {
  return task.title === title.trim() && task.description === description && task.completed === completed;
}
