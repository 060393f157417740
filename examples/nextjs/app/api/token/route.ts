// [Task]: T170 [From]: specs/features/frontend.md
import { getSession, isSecretShared, signToken } from "@/lib/session";

/** A token for a page, where the secret is shared. With published keys, Better Auth's own `/api/auth/token` has it. */
export async function GET(): Promise<Response> {
  if (!isSecretShared) return new Response(null, { status: 404 });
  const session = await getSession();
  if (!session) return new Response(null, { status: 401 });
  const headers = { "Cache-Control": "no-store" };
  return Response.json({ token: await signToken(session.user.id) }, { headers });
}
