// [Task]: T170 [From]: specs/features/frontend.md
import "server-only";
import { SignJWT } from "jose";
import { headers } from "next/headers";
import { auth } from "./auth";
import { createTodoApi, type TodoApi } from "./todo-api";

/** How a page reaches the service: handed to it when it is served, so that one build runs anywhere. */
export interface Connection {
  url: string;
  userId: string;
  tokenPath: string;
}

export const isSecretShared = process.env.TODO_API_TOKENS === "shared-secret";

export async function getSession() {
  return auth.api.getSession({ headers: await headers() });
}

export function connectionOf(userId: string): Connection {
  const url = process.env.TODO_API_URL ?? "http://127.0.0.1:8000";
  return { url, userId, tokenPath: isSecretShared ? "/api/token" : "/api/auth/token" };
}

/** The tasks of a user who is signed in, for a server component. It tries once: the page that it renders tries again. */
export function todoApiOf(userId: string): TodoApi {
  const fetchToken = async () =>
    isSecretShared ? signToken(userId) : (await auth.api.getToken({ headers: await headers() })).token;
  const connection = connectionOf(userId);
  // Inside a container, the address that browsers use may lead elsewhere.
  const url = process.env.TODO_API_INTERNAL_URL ?? connection.url;
  return createTodoApi({ ...connection, url, fetchToken, attempts: 1 });
}

/** A token that the service verifies by the secret that it shares with Better Auth. */
export function signToken(userId: string): Promise<string> {
  return new SignJWT()
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(userId)
    .setIssuedAt()
    .setExpirationTime("15m")
    .sign(new TextEncoder().encode(process.env.BETTER_AUTH_SECRET));
}
