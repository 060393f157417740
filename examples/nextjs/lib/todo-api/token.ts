// [Task]: T166 [From]: specs/features/frontend.md
import { ApiError, errorOf, SignedOutError } from "./errors";
import { fetchAgain } from "./fetch";

export type FetchToken = () => Promise<string>;

export interface Tokens {
  get: FetchToken;
  /** Gives up a token that was refused, unless another has taken its place. */
  forget(refused: string): void;
}

/** Keeps a token until a minute before it expires. Whoever asks meanwhile waits for the same request. */
export function keepToken(fetchToken: FetchToken): Tokens {
  let kept: { token: Promise<string>; value?: string } | undefined;
  let until = 0;

  function get(): Promise<string> {
    if (!kept || Date.now() >= until) {
      until = Infinity;
      kept = { token: renew() };
    }
    return kept.token;
  }

  async function renew(): Promise<string> {
    try {
      const value = await fetchToken();
      until = Date.now() + lifetime(value) - 60_000;
      kept!.value = value;
      return value;
    } catch (error) {
      // Refused for being asked too often, it is refused to all until it may be asked again.
      until = Date.now() + 1000 * ((error instanceof ApiError && error.retryAfter) || 0);
      throw error;
    }
  }

  function forget(refused: string): void {
    if (kept?.value === refused) kept = undefined;
  }

  return { get, forget };
}

/** Fetches a token for a page: from Better Auth's `/api/auth/token`, or from a route of your own. */
export function tokenFrom(path: string): FetchToken {
  return async () => {
    const response = await fetchAgain(new Request(new URL(path, location.href), { cache: "no-store" }));
    if (response.status === 401) throw new SignedOutError();
    const body = await response.json().catch(() => undefined);
    if (typeof body?.token !== "string") throw errorOf(response, body);
    return body.token;
  };
}

/** In milliseconds, by the clock that signed it, since the browser's may be wrong. */
function lifetime(token: string): number {
  const payload = token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
  const { exp, iat = Date.now() / 1000 }: { exp: number; iat?: number } = JSON.parse(atob(payload));
  return 1000 * (exp - iat);
}
