// [Task]: T170, T171 [From]: specs/features/frontend.md
"use client";
import { useLayoutEffect, useRef, useState } from "react";
import { type Change, hasTexts, type Texts } from "@/lib/changes";
import { ConflictError, type Task } from "@/lib/todo-api";
import { rowsOf, useKeptFocus } from "@/lib/use-kept-focus";
import type { useTasks } from "@/lib/use-tasks";
import { type Edit, TaskEditor } from "./task-editor";
import { TaskRow } from "./task-row";

interface Props extends ReturnType<typeof useTasks> {
  act: (change: Change) => Promise<unknown>;
  onEmpty: () => void;
}

export function TaskList({ query, tasks, added, total, act, onEmpty }: Props) {
  const [edits, setEdits] = useState<Edit[]>([]);
  const list = useRef<HTMLUListElement>(null);
  const firstNew = useRef<number>(undefined);
  const keptFocus = useKeptFocus(list, onEmpty);

  useLayoutEffect(() => {
    const row = rowsOf(list.current)[firstNew.current ?? Infinity];
    if (!row) return;
    firstNew.current = undefined;
    row.querySelector("input")?.focus();
  });

  /** Opens an editor, unless the task has one. */
  function open(edit: Edit): void {
    setEdits((edits) => (edits.some(({ base }) => base.id === edit.base.id) ? edits : [edit, ...edits]));
  }

  function close({ base }: Edit): void {
    setEdits((edits) => edits.filter((edit) => edit.base.id !== base.id));
  }

  async function save(edit: Edit, changes: Texts): Promise<void> {
    close(edit);
    if (hasTexts(edit.base, changes)) return;
    const error = await act({ kind: "edit", task: edit.base, changes });
    if (!error) return;
    const theirs = error instanceof ConflictError ? error.current : undefined;
    // The text isn't lost, and saving it again overwrites the version that is known by now.
    open({ base: theirs ?? edit.base, texts: changes, theirs });
  }

  async function showMore(): Promise<void> {
    const pages = query.data!.pages.length;
    firstNew.current = rowsOf(list.current).length;
    // A change elsewhere may cancel this, and read only the pages that were there.
    for (let isMore = true; isMore; ) {
      const { data, hasNextPage, isError } = await query.fetchNextPage();
      isMore = !isError && hasNextPage && data?.pages.length === pages;
    }
  }

  const isLoading = query.data === undefined && !query.error;
  // A task stays while it is edited, even if it is deleted elsewhere or no longer matches the filters.
  const kept = edits.map(({ base }) => base).filter(({ id }) => !tasks.some((task) => task.id === id));
  const rows: Task[] = [...kept, ...tasks];
  return (
    <>
      {rows.length + added.length > 0 && (
        <ul ref={list} aria-label="Tasks" aria-busy={query.isPlaceholderData} {...keptFocus}>
          {added.map((title, index) => (
            <li key={`added ${added.length - index}`} className="added">
              {title}
            </li>
          ))}
          {rows.map((task) => {
            const edit = edits.find(({ base }) => base.id === task.id);
            return (
              <li key={task.id} data-id={task.id}>
                {edit ? (
                  <TaskEditor edit={edit} onSave={(changes) => save(edit, changes)} onCancel={() => close(edit)} />
                ) : (
                  <TaskRow task={task} act={act} onEdit={() => open({ base: task, texts: task })} />
                )}
              </li>
            );
          })}
        </ul>
      )}
      <footer>
        <p role="status">{isLoading ? "Loading your tasks…" : countOf(tasks.length + added.length, total)}</p>
        {query.hasNextPage && !query.isPlaceholderData && (
          <button type="button" onClick={showMore}>
            Show more
          </button>
        )}
        <button type="button" className="quiet" onClick={() => act({ kind: "clear" })}>
          Clear completed
        </button>
      </footer>
    </>
  );
}

function countOf(shown: number, total: number): string {
  return total ? `${shown} of ${total}` : "There are no tasks here.";
}
