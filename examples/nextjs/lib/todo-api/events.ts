// [Task]: T169 [From]: specs/features/frontend.md
import { ApiError, SignedOutError } from "./errors";
import { pause } from "./fetch";

/** Opens a stream that goes on after an event, or throws. */
export type Open = (lastId: string, signal: AbortSignal) => Promise<NonNullable<Response["body"]>>;

/**
 * Calls `onChange` whenever the list has changed, one call at a time, until `signal` ends it. A stream that ends, or is
 * silent for three times as long as the service ever is, is opened again, after pauses that grow to a minute. Nothing is
 * missed meanwhile: if the list has changed since the last id, the service says so at once.
 *
 * Throws `SignedOutError` when there are no more tokens.
 */
export async function watch(open: Open, onChange: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
  for (let lastId = "", retry = 500, failures = 0; !signal.aborted; failures++) {
    const attempt = new AbortController();
    let wait = 0;
    try {
      const body = await soon(open(lastId, AbortSignal.any([signal, attempt.signal])), attempt);
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = "", next; !(next = await soon(reader.read(), attempt)).done; ) {
        const lines = (rest + next.value).split("\n");
        rest = lines.pop()!;
        const last = (name: string) => lines.findLast((line) => line.startsWith(name))?.slice(name.length);
        retry = Number(last("retry: ") ?? retry);
        const id = last("id: "); // of `ready`, which comes first, or of `changed`
        if (id && id !== lastId) await onChange();
        if (id) [lastId, failures] = [id, 0];
      }
    } catch (error) {
      // Otherwise there was no token, no connection or no list: the next attempt has the same `lastId`.
      if (error instanceof SignedOutError) throw error;
      if (error instanceof ApiError) wait = 1000 * Math.min(error.retryAfter ?? 0, 3600);
    }
    attempt.abort();
    await pause(Math.max(wait, Math.min(retry * 2 ** failures, 60_000)), signal);
  }
}

async function soon<T>(answer: Promise<T>, attempt: AbortController): Promise<T> {
  const timer = setTimeout(() => attempt.abort(), 45_000);
  return answer.finally(() => clearTimeout(timer));
}
