// [Task]: T170, T171 [From]: specs/features/frontend.md
"use client";
import type { FormEvent, KeyboardEvent } from "react";
import type { Texts } from "@/lib/changes";
import type { Task } from "@/lib/todo-api";

export interface Edit {
  /** The task as the person who edits it has seen it. */
  base: Task;
  /** What the editor begins with. */
  texts: Texts;
  /** The task as somebody else has changed it meanwhile. */
  theirs?: Task;
}

interface Props {
  edit: Edit;
  onSave: (texts: Texts) => void;
  onCancel: () => void;
}

export function TaskEditor({ edit: { texts, theirs }, onSave, onCancel }: Props) {
  const now = theirs && [`“${theirs.title}”`, theirs.description].filter(Boolean).join(": ");

  function save(event: FormEvent<HTMLFormElement>): void {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    onSave({ title: String(form.get("title")), description: String(form.get("description")) || null });
  }

  function cancel({ key, nativeEvent }: KeyboardEvent): void {
    if (key === "Escape" && !nativeEvent.isComposing) onCancel();
  }

  return (
    <form className="editor" onSubmit={save} onKeyDown={cancel}>
      <label>
        Title
        <input name="title" defaultValue={texts.title} autoFocus autoComplete="off" />
      </label>
      <label>
        Description
        <textarea name="description" defaultValue={texts.description ?? ""} rows={2} />
      </label>
      {now && <p>Elsewhere, it is now {now}</p>}
      <button type="submit">Save</button>
      <button type="button" className="quiet" onClick={onCancel}>
        Cancel
      </button>
    </form>
  );
}
