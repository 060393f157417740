// [Task]: T170, T171 [From]: specs/features/frontend.md
"use client";
import { useCallback, useEffect, useRef, useState } from "react";
import { type Change, deletionOf, failureOf } from "@/lib/changes";
import { FIRST_FILTERS } from "@/lib/queries";
import { ApiError, newKey, type Task, type TodoApi } from "@/lib/todo-api";
import { useDebounced } from "@/lib/use-debounced";
import { useHydrated } from "@/lib/use-hydrated";
import { useLive } from "@/lib/use-live";
import { isTemporary, useChange, useNewest, useRefresh, useTasks } from "@/lib/use-tasks";
import { Account } from "./account";
import { FilterBar } from "./filter-bar";
import { NewTask } from "./new-task";
import { TaskList } from "./task-list";

interface Props {
  name: string;
  api: TodoApi;
  checkSession: () => Promise<void>;
}

interface Failure {
  text: string;
  error: unknown;
  time: number;
}

interface Deletion {
  tasks: Task[];
  key: string;
}

export function TaskPage({ name, api, checkSession }: Props) {
  const isHydrated = useHydrated();
  const [filters, setFilters] = useState(FIRST_FILTERS);
  const search = useDebounced(filters.search);
  const list = useTasks(api, { ...filters, search });
  const { query } = list;
  const [failure, setFailure] = useState<Failure>();
  const [deletions, setDeletions] = useState<Deletion[]>([]); // the one that is undone first is the last
  const deletion = deletions.at(-1);
  const heading = useRef<HTMLHeadingElement>(null);
  const input = useRef<HTMLInputElement>(null);

  const change = useChange(api);
  const refresh = useRefresh();
  const newest = useNewest();

  /** Makes a change, and returns why it couldn't be made. */
  const act = useCallback(
    async (what: Change): Promise<unknown> => {
      setFailure(undefined);
      try {
        const deleted = await change(what);
        if (deleted.length) setDeletions((earlier) => [...earlier, { tasks: deleted, key: newKey() }]);
      } catch (error) {
        setFailure({ text: failureOf(what, error), error, time: Date.now() });
        if (isRefused(error)) await checkSession();
        return error;
      }
    },
    [change, checkSession],
  );

  const onChange = useCallback(async () => {
    await refresh();
    if (!newest().length) await checkSession(); // the tasks of an account go with it
  }, [refresh, newest, checkSession]);
  const onEnd = useCallback(() => void checkSession(), [checkSession]);
  useLive(api, !isTemporary(query.failureReason), onChange, onEnd); // opened again as soon as the list can be read

  useEffect(() => {
    if (isRefused(query.error)) void checkSession();
  }, [query.error, checkSession]);

  async function undo(deletion: Deletion): Promise<void> {
    setDeletions((deletions) => deletions.filter((other) => other !== deletion));
    heading.current?.focus(); // since the button goes
    if (await act({ kind: "restore", ...deletion })) setDeletions((deletions) => [...deletions, deletion]);
  }

  function dismiss(): void {
    setDeletions([]);
    heading.current?.focus();
  }

  // A passing problem is shown for as long as it lasts; what it kept from being done, until the next change.
  const isPassing = failure && isTemporary(failure.error);
  const isOver = isPassing && failure.time < query.dataUpdatedAt;
  const error = query.failureReason ?? query.error ?? (isOver ? undefined : failure?.error);
  const undone = error === failure?.error && !isPassing ? `${failure?.text} ` : "";
  return (
    // Nothing can be clicked, and lost, before the scripts run.
    <fieldset className="app" disabled={!isHydrated}>
      <header>
        <h1 ref={heading} tabIndex={-1}>
          Tasks
        </h1>
        <Account name={name} onSignedOut={checkSession} />
      </header>
      <main>
        <NewTask input={input} act={act} />
        <FilterBar filters={filters} onChange={setFilters} />
        {error != null && <p role="alert">{undone + textOf(error)}</p>}
        <div role="status" className="happened">
          {isPassing && <p>{failure.text}</p>}
          {deletion && (
            <p>
              <span>{deletionOf(deletion.tasks)}</span>
              <button type="button" onClick={() => undo(deletion)}>
                Undo
              </button>
              <button type="button" className="quiet" onClick={dismiss}>
                Dismiss
              </button>
            </p>
          )}
        </div>
        <TaskList {...list} act={act} onEmpty={() => input.current?.focus()} />
      </main>
    </fieldset>
  );
}

function isRefused(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 401 || error.status === 403);
}

function textOf(error: unknown): string {
  return error instanceof ApiError ? error.message : "Something went wrong. Please load the page again.";
}
