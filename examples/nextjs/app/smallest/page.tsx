// [Task]: T165 [From]: specs/features/frontend.md
import { redirect } from "next/navigation";
import { Tasks } from "@/components/smallest";
import { connectionOf, getSession } from "@/lib/session";

/** The least that a page needs, as the frontend guide shows it, for published keys. */
export default async function Page() {
  const session = await getSession();
  if (!session) redirect("/");
  const { url, userId } = connectionOf(session.user.id);
  return <Tasks key={userId} url={url} userId={userId} />;
}
