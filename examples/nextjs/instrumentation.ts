// [Task]: T170 [From]: specs/features/frontend.md
/** Creates Better Auth's tables, and adds what a later version or another plugin needs, before the app serves anybody. */
export async function register(): Promise<void> {
  if (process.env.NEXT_RUNTIME === "nodejs") {
    const { getMigrations } = await import("better-auth/db/migration");
    const { auth } = await import("@/lib/auth");
    try {
      await (await getMigrations(auth.options)).runMigrations();
    } catch (error) {
      // Next.js would go on, and never try again: each answer would be a 500, even when the database is back.
      console.error("Better Auth's tables can't be created:", error);
      process.exit(1);
    }
  }
}
