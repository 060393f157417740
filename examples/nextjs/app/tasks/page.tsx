// [Task]: T170 [From]: specs/features/frontend.md
import { redirect } from "next/navigation";
import { Suspense } from "react";
import { TaskApp } from "@/components/task-app";
import { FIRST_QUERY } from "@/lib/queries";
import { connectionOf, getSession, todoApiOf } from "@/lib/session";

export default function Page() {
  return (
    <Suspense fallback={<p className="notice" role="status">Loading your tasks…</p>}>
      <Tasks />
    </Suspense>
  );
}

/** Reads the first page of tasks on the server, so that the browser shows it at once. */
async function Tasks() {
  const session = await getSession();
  if (!session) redirect("/");
  const { id, name } = session.user;
  // If it fails, the page asks by itself, and says what is wrong.
  const firstPage = await todoApiOf(id).list(FIRST_QUERY).catch(() => undefined);
  return <TaskApp key={id} name={name} connection={connectionOf(id)} firstPage={firstPage} />;
}
