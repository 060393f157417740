// [Task]: T167 [From]: specs/features/frontend.md
import { UnreachableError } from "./errors";

/**
 * Fetches, up to `attempts` times if there is no answer, only a part of one, or a 5xx. This is only for requests that can
 * be done twice: whether the one whose answer is missing was done isn't known. (Chromium repeats a request by itself,
 * too, of whatever method, if a kept-alive connection is cut before the answer.)
 */
export async function fetchAgain(request: Request, attempts = 5): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const timeout = AbortSignal.timeout(40_000); // longer than the service's REQUEST_TIMEOUT
    // Pauses differ, so that not all pages come back at the same moment.
    let seconds = (2 ** attempt / 4) * (1 + Math.random());
    try {
      const response = await fetch(request.clone(), { signal: AbortSignal.any([request.signal, timeout]) });
      await response.clone().arrayBuffer(); // fails if the connection is cut by now
      seconds = Number(response.headers.get("Retry-After")) || seconds;
      // Nobody looks at a page that does nothing for longer than a minute.
      if (response.status < 500 || attempt === attempts || seconds > 60) return response;
    } catch (cause) {
      request.signal.throwIfAborted();
      if (attempt === attempts) throw new UnreachableError(cause);
    }
    await pause(1000 * seconds, request.signal);
  }
}

/** Waits, until the signal's end at most. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(end, milliseconds);
    function end(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    }
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}
