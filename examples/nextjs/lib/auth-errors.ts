// [Task]: T170 [From]: specs/features/frontend.md

interface AuthError {
  status: number;
  code?: string;
  message?: string;
}

const TEXTS: Record<string, string> = {
  INVALID_EMAIL: "This isn’t an e-mail address.",
  INVALID_EMAIL_OR_PASSWORD: "The e-mail address or the password is wrong.",
  INVALID_PASSWORD: "The password is wrong.",
  PASSWORD_TOO_LONG: "The password is too long: at most 128 characters.",
  PASSWORD_TOO_SHORT: "The password is too short: at least 8 characters.",
  USER_ALREADY_EXISTS: "There is an account with this e-mail address already.",
  USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL: "There is an account with this e-mail address already.",
};

/** Why a request to Better Auth failed, in words for a person, or nothing if it didn't. */
export async function reasonOf(request: () => Promise<{ error: AuthError | null }>): Promise<string | undefined> {
  let error: AuthError | null;
  try {
    ({ error } = await request());
  } catch {
    return "The server can’t be reached at the moment. Is there a connection?";
  }
  if (!error) return undefined;
  if (error.status === 429) return "Too many attempts. Please wait a moment, and try again.";
  if (error.status >= 500) return "The server has a problem at the moment. Please try again.";
  return TEXTS[error.code ?? ""] ?? error.message ?? "The server refused this.";
}
