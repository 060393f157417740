// [Task]: T170, T171 [From]: specs/features/frontend.md
"use client";
import { type FormEvent, type RefObject, useRef } from "react";
import type { Change } from "@/lib/changes";
import { newKey } from "@/lib/todo-api";

interface Props {
  input: RefObject<HTMLInputElement | null>;
  act: (change: Change) => Promise<unknown>;
}

interface Draft {
  title: string;
  key: string;
}

/** Adds tasks. What couldn't be added comes back, with the key that keeps it from being added twice. */
export function NewTask({ input, act }: Props) {
  const returned = useRef<Draft>(undefined);
  const waiting = useRef<Draft[]>([]); // for the field to be free

  async function add(event: FormEvent): Promise<void> {
    event.preventDefault();
    const title = input.current!.value;
    if (!title.trim()) return;
    const draft = title === returned.current?.title ? returned.current : { title, key: newKey() };
    fill(waiting.current.shift());
    const error = await act({ kind: "add", task: { title }, key: draft.key });
    if (!error) return;
    if (input.current?.value) waiting.current.push(draft);
    else fill(draft);
  }

  function fill(draft?: Draft): void {
    returned.current = draft;
    if (input.current) input.current.value = draft?.title ?? "";
  }

  return (
    <form className="new" onSubmit={add}>
      <input ref={input} aria-label="New task" placeholder="What needs to be done?" autoComplete="off" />
      <button type="submit">Add</button>
    </form>
  );
}
