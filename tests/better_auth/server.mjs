// [Task]: T025, T159, T162 [From]: specs/features/authentication.md, specs/features/user-deletion.md
// A real Better Auth server on loopback that tests take tokens from, and whose users delete their accounts:
//
//   BETTER_AUTH_SECRET=… [KEY_ALG=ES256] [CACHE_SIGNER=jwks] [POSTGRES=postgresql://…] [AUTH_MODULE=…] [PORT=…] node server.mjs
//
// It prints its origin in one line when it listens, and ends with its standard input, so that it never outlives the test
// that started it. It keeps all it has in memory, or in the database `POSTGRES`, which it migrates. With `AUTH_MODULE`,
// a file, it is that module's `auth`, which takes what is the reader's from `globalThis.yours`.

import { once } from "node:events";
import { createServer } from "node:http";

import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { getMigrations } from "better-auth/db/migration";
import { fromNodeHeaders, toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";
import { SignJWT } from "jose";
import pg from "pg";

const { BETTER_AUTH_SECRET: secret, KEY_ALG: algorithm, CACHE_SIGNER: cacheSigner } = process.env;
const { POSTGRES: connectionString, AUTH_MODULE: authModule, PORT: port = 0 } = process.env;

process.stdin.on("end", () => process.exit()).resume();

// The base URL is the issuer of every token, so the port comes first.
const server = createServer();
server.listen(port, "127.0.0.1");
await once(server, "listening");
const origin = `http://127.0.0.1:${server.address().port}`;

globalThis.yours = {
  baseURL: origin,
  secret,
  database: connectionString
    ? new pg.Pool({ connectionString })
    : memoryAdapter({ user: [], session: [], account: [], verification: [], jwks: [] }),
  emailAndPassword: { enabled: true },
  telemetry: { enabled: false },
  // Standard output is for the origin alone.
  logger: { log: (level, message) => console.error(`${level}: ${message}`) },
};

const { auth } = authModule
  ? await import(authModule)
  : {
      auth: betterAuth({
        ...globalThis.yours,
        session: { cookieCache: { enabled: true, strategy: "jwt" } },
        user: { deleteUser: { enabled: true } },
        plugins: [
          jwt({
            // Without KEY_ALG it is the plugin's own default that is tested.
            jwks: algorithm ? { keyPairConfig: { alg: algorithm } } : {},
            sessionCookieCache: cacheSigner === "jwks",
          }),
        ],
      }),
    };
if (connectionString) await (await getMigrations(auth.options)).runMigrations();

// What the README shows for a frontend that signs with the shared secret.
async function signWithSecret(request, response) {
  const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
  if (!session) return response.writeHead(401).end();
  const token = await new SignJWT()
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(session.user.id)
    .setIssuer(origin)
    .setAudience(origin)
    .setIssuedAt()
    .setExpirationTime("15m")
    .sign(new TextEncoder().encode(secret));
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ token }));
}

const serveAuth = toNodeHandler(auth);
server.on("request", (request, response) =>
  (request.url === "/api/token" ? signWithSecret : serveAuth)(request, response),
);

// The signing key is made when first asked for. Now, an unknown KEY_ALG ends the start.
await auth.api.getJwks();
console.log(origin);
