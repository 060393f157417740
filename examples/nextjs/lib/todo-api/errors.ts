// [Task]: T168 [From]: specs/features/frontend.md
// Error
// └─ ApiError             status, detail, retryAfter; its message can be shown to a person
//    ├─ ConflictError     412: the task has changed; `current` is the task as it is now
//    ├─ InvalidError      422: `faults` says what is wrong with which field
//    ├─ SignedOutError    there is no token, since nobody is signed in
//    └─ UnreachableError  no answer: no network, no service, or an origin that it doesn't allow

import type { components } from "./schema";

export type Fault = components["schemas"]["Fault"];
type Task = components["schemas"]["TaskPublic"];

export class ApiError extends Error {
  override name = "ApiError";

  /** `status` is 0 without an answer, `detail` is the service's own text, and `retryAfter` is in seconds. */
  constructor(
    message: string,
    readonly status: number,
    readonly detail = "",
    readonly retryAfter?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export class ConflictError extends ApiError {
  override name = "ConflictError";

  constructor(readonly current: Task) {
    super(`This task has changed elsewhere: it is now “${current.title}”.`, 412, "The task has changed");
  }
}

export class InvalidError extends ApiError {
  override name = "InvalidError";

  constructor(readonly faults: Fault[]) {
    super(faults.map(explain).join(" "), 422, faults.map(({ msg }) => msg).join("; "));
  }
}

export class SignedOutError extends ApiError {
  override name = "SignedOutError";

  constructor() {
    super("You are signed out. Please sign in again.", 401);
  }
}

export class UnreachableError extends ApiError {
  override name = "UnreachableError";

  constructor(cause: unknown) {
    super("The service can’t be reached at the moment. Is there a connection?", 0, "", undefined, { cause });
  }
}

const TEXTS: Record<number, string> = {
  401: "Your sign-in isn’t accepted. Please sign in again.",
  403: "These tasks are somebody else’s. Please sign in again.",
  404: "This task is no longer there.",
  412: "This task has changed elsewhere.",
  413: "This is too long.",
};

/** The error of an answer that isn't a success, whose body is parsed if it is JSON. */
export function errorOf({ status, headers }: Response, body: unknown): ApiError {
  const detail = isObject(body) ? body.detail : undefined;
  if (status === 422 && Array.isArray(detail)) return new InvalidError(detail as Fault[]);
  const retryAfter = Number(headers.get("Retry-After") ?? headers.get("X-Retry-After")) || undefined; // Better Auth's
  return new ApiError(textOf(status, retryAfter), status, typeof detail === "string" ? detail : "", retryAfter);
}

function textOf(status: number, retryAfter = 1): string {
  if (status === 429) return `Too many requests. Please try again in ${timeOf(retryAfter)}.`;
  if (status >= 500) return "The service has a problem at the moment. Please try again.";
  return TEXTS[status] ?? `The service refused this (HTTP ${status}).`;
}

function timeOf(seconds: number): string {
  if (seconds === 1) return "a second";
  return seconds < 100 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
}

function explain({ loc, msg, type }: Fault): string {
  if (type === "idempotency_key_reused") return "This was saved already, in another wording. Please look at the list.";
  const field = loc.filter((part) => typeof part === "string" && part !== "body").at(-1);
  const text = msg.charAt(0).toLowerCase() + msg.slice(1);
  return field ? `${String(field).charAt(0).toUpperCase()}${String(field).slice(1)}: ${text}.` : `${msg}.`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
