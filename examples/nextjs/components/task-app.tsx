// [Task]: T170 [From]: specs/features/frontend.md
"use client";
import { QueryClientProvider } from "@tanstack/react-query";
import { useRouter } from "next/navigation";
import { useEffect, useState } from "react";
import type { Connection } from "@/lib/session";
import { createTodoApi, type Page, tokenFrom } from "@/lib/todo-api";
import { useSession } from "@/lib/use-session";
import { createCache } from "@/lib/use-tasks";
import { TaskPage } from "./task-page";

interface Props {
  name: string;
  connection: Connection;
  firstPage?: Page;
}

/** The app of one user: its cache and its connection go with it, so that the next user finds nothing of them. */
export function TaskApp({ name, connection, firstPage }: Props) {
  const router = useRouter();
  const [cache] = useState(() => createCache(firstPage));
  const [api] = useState(() => createTodoApi({ ...connection, fetchToken: tokenFrom(connection.tokenPath) }));
  const { isSignedIn, check } = useSession(connection.userId);

  useEffect(() => {
    if (isSignedIn) return;
    cache.clear();
    router.replace("/");
    router.refresh(); // or else a step back would show the page that Next.js has kept
  }, [isSignedIn, cache, router]);

  if (!isSignedIn) return <p className="notice" role="status">You are signed out.</p>;
  return (
    <QueryClientProvider client={cache}>
      <TaskPage name={name} api={api} checkSession={check} />
    </QueryClientProvider>
  );
}
