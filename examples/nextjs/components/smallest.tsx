// [Task]: T165 [From]: specs/features/frontend.md
"use client";
import { type ChangeEvent, type FormEvent, useEffect, useState } from "react";
import { createTodoApi, newKey, type Task, tokenFrom } from "@/lib/todo-api";

export function Tasks({ url, userId }: { url: string; userId: string }) {
  const [api] = useState(() => createTodoApi({ url, userId, fetchToken: tokenFrom("/api/auth/token") }));
  const [tasks, setTasks] = useState<Task[]>([]);
  const [title, setTitle] = useState("");
  const [key, setKey] = useState(newKey);
  const [fault, setFault] = useState("");
  const show = (error: Error) => setFault(error.message);

  useEffect(() => {
    const leaving = new AbortController();
    api.onChanges(async () => setTasks(await api.all()), leaving.signal).catch(show);
    return () => leaving.abort();
  }, [api]);

  function add(event: FormEvent) {
    event.preventDefault();
    api.create({ title }, key).then(() => {
      setTitle("");
      setFault("");
    }, show);
  }

  function write(event: ChangeEvent<HTMLInputElement>) {
    setTitle(event.target.value);
    setKey(newKey());
  }

  return (
    <form onSubmit={add}>
      <input aria-label="New task" value={title} onChange={write} />
      <button>Add</button>
      <p role="alert">{fault}</p>
      <ul>{tasks.map((task) => <li key={task.id}>{task.title}</li>)}</ul>
    </form>
  );
}
