// [Task]: T185 [From]: specs/features/moving.md
import { ApiError } from "./errors";
import { pause } from "./fetch";
import type { NewTask, Task, TodoApi } from "./index";

/** All tasks of the user as JSON, in the order of their creation: each that is there throughout, once. */
export async function exportTasks(api: TodoApi, signal?: AbortSignal): Promise<string> {
  const tasks: Task[] = [];
  let cursor: string | undefined;
  do {
    const query = { limit: 1000, ...(cursor && { cursor }) };
    const page = await patiently(() => api.list(query, signal), signal);
    tasks.push(...page.tasks);
    cursor = page.cursor;
  } while (cursor);
  return JSON.stringify(tasks, null, 2);
}

/**
 * Creates the tasks of an export, in its order, and answers them: with new ids and times. They are sent in parts, each
 * with a key of its content and its place, so that an import can be repeated, whatever became of it: no task is made
 * twice. With a `key` of your own, the same file can be imported again.
 *
 * Throws an `ApiError` with status 422 before anything is sent, if the text is no such export.
 */
export async function importTasks(api: TodoApi, text: string, key = "import", signal?: AbortSignal): Promise<Task[]> {
  const tasks = read(text);
  const created: Task[] = [];
  for (const [number, part] of inParts(tasks).entries()) {
    const partKey = `${key}-${number}-${await digest(JSON.stringify(part))}`;
    created.push(...(await patiently(() => api.createAll(part, partKey), signal)));
  }
  return created;
}

/** Lists for one `POST` each: of at most 100 tasks, and well below the 64 KiB of a body. */
export function inParts(tasks: NewTask[]): NewTask[][] {
  const parts: NewTask[][] = [];
  let room = 0;
  for (const task of tasks) {
    const size = new TextEncoder().encode(JSON.stringify(task)).length + 1;
    if (size > room || parts.at(-1)!.length === 100) {
      parts.push([]);
      room = 60_000;
    }
    parts.at(-1)!.push(task);
    room -= size;
  }
  return parts;
}

/** Waits for a limit of requests to end, but no longer than a person would. */
async function patiently<T>(request: () => Promise<T>, signal = new AbortController().signal): Promise<T> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 429 && (error.retryAfter ?? Infinity) <= 60)) throw error;
      await pause(1000 * error.retryAfter!, signal);
    }
  }
}

async function digest(text: string): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The tasks in a text, if each of them is one that the service takes. */
function read(text: string): NewTask[] {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {} // as if it were another value
  if (!Array.isArray(found)) throw new ApiError("This file isn’t an export of tasks.", 422);
  return found.map((task: Partial<Record<keyof NewTask, unknown>> | null, index) => {
    const { title, description = null, completed = false } = task ?? {};
    const isFit = isText(title, 200) && HAS_LETTER.test(title) && (description === null || isText(description, 1000));
    if (isFit && typeof completed === "boolean") return { title, description, completed };
    throw new ApiError(`Nothing was imported: entry ${index + 1} of this file isn’t a task.`, 422);
  });
}

/** What is left of a title after the service has trimmed it: Python's white space isn't quite JavaScript's. */
const HAS_LETTER = /[^\s\x1c-\x1f\x85]|\ufeff/;

/** Whether a value is text of at most `most` characters that the service can store. */
function isText(value: unknown, most: number): value is string {
  return typeof value === "string" && [...value].length <= most && !/[\0\p{Surrogate}]/u.test(value);
}
