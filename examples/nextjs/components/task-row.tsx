// [Task]: T170 [From]: specs/features/frontend.md
"use client";
import type { Change } from "@/lib/changes";
import type { Task } from "@/lib/todo-api";

interface Props {
  task: Task;
  act: (change: Change) => Promise<unknown>;
  onEdit: () => void;
}

export function TaskRow({ task, act, onEdit }: Props) {
  const { title, description, completed } = task;
  return (
    <div className="row">
      <div>
        <label>
          <input
            type="checkbox"
            data-control="tick"
            checked={completed}
            onChange={() => act({ kind: "tick", task, completed: !completed })}
          />
          <span dir="auto">{title}</span>
        </label>
        {description && <p dir="auto">{description}</p>}
      </div>
      <button type="button" className="quiet" data-control="edit" aria-label={`Edit “${title}”`} onClick={onEdit}>
        Edit
      </button>
      <button
        type="button"
        className="quiet"
        data-control="delete"
        aria-label={`Delete “${title}”`}
        // The second click of a double one is on the next task, which has taken this one's place.
        onClick={({ detail }) => detail < 2 && act({ kind: "remove", task })}
      >
        Delete
      </button>
    </div>
  );
}
