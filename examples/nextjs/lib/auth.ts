// [Task]: T170 [From]: specs/features/frontend.md
import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";
import { Pool } from "pg";

// BETTER_AUTH_URL and BETTER_AUTH_SECRET are read by Better Auth itself.
export const auth = betterAuth({
  database: new Pool({ connectionString: process.env.DATABASE_URL }),
  emailAndPassword: { enabled: true },
  user: { deleteUser: { enabled: true } },
  // The service needs the user's id alone. By default the whole user would be in each token.
  plugins: [jwt({ jwt: { definePayload: () => ({}) } })],
  telemetry: { enabled: false },
});
