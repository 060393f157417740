// [Task]: T170, T171 [From]: specs/features/frontend.md
import { ApiError, type NewTask, type Task, type TodoApi } from "./todo-api";

/** What a person does to the list. An edit's `task` is as that person has seen it. */
export type Change =
  | { kind: "add"; task: NewTask; key: string }
  | { kind: "restore"; tasks: NewTask[]; key: string }
  | { kind: "tick"; task: Task; completed: boolean }
  | { kind: "edit"; task: Task; changes: Texts }
  | { kind: "remove"; task: Task }
  | { kind: "clear" };

export type Texts = Pick<Task, "title" | "description">;

/** Changes of one scope wait for each other: added tasks keep their order, and no edit conflicts with one's own. */
export function scopeOf(change: Change): string {
  return "task" in change && "id" in change.task ? `task ${change.task.id}` : change.kind;
}

/** Makes a change, and returns the tasks that it has deleted. `newest` finds a task as it was read last. */
export async function make(change: Change, api: TodoApi, newest: (id: number) => Task | undefined): Promise<Task[]> {
  switch (change.kind) {
    case "add":
      await api.create(change.task, change.key);
      return [];
    case "restore":
      await api.createAll(change.tasks, change.key);
      return [];
    case "tick":
      await api.complete(change.task.id, change.completed);
      return [];
    case "edit": {
      const current = newest(change.task.id);
      // What hasn't been seen must not be overwritten. A tick is no conflict, nor is one's own edit, which was seen.
      await api.update(current && hasTexts(current, change.task) ? current : change.task, change.changes);
      return [];
    }
    case "remove":
      await api.remove(change.task.id);
      return [change.task];
    case "clear": {
      const tasks = await api.all({ status: "completed" });
      await api.removeAll(tasks.map(({ id }) => id));
      return tasks;
    }
  }
}

export function hasTexts(task: Task, { title, description }: Texts): boolean {
  return task.title === title && task.description === description;
}

/** The list as it will be when all changes under way are made, with the titles of new tasks. */
export function preview(tasks: Task[], changes: Change[]): { tasks: Task[]; added: string[] } {
  const added: string[] = [];
  for (const change of changes) {
    const alter = (id: number, by: Partial<Task>) => tasks.map((task) => (task.id === id ? { ...task, ...by } : task));
    if (change.kind === "add") added.unshift(change.task.title);
    if (change.kind === "restore") added.unshift(...change.tasks.map(({ title }) => title));
    if (change.kind === "tick") tasks = alter(change.task.id, { completed: change.completed });
    if (change.kind === "edit") tasks = alter(change.task.id, change.changes);
    if (change.kind === "remove") tasks = tasks.filter(({ id }) => id !== change.task.id);
    if (change.kind === "clear") tasks = tasks.filter(({ completed }) => !completed);
  }
  return { tasks, added };
}

const DONE = {
  add: "added",
  restore: "brought back",
  tick: "changed",
  edit: "changed",
  remove: "deleted",
  clear: "deleted",
};

/** What to say if a change failed. After an answer that was lost, or a 5xx, it may have been made after all. */
export function failureOf(change: Change, error: unknown): string {
  return `${subjectOf(change)} ${isOutage(error) ? "may not have been" : "was not"} ${DONE[change.kind]}.`;
}

/** Whether there was no answer, or one that doesn't say what was done. */
export function isOutage(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || error.status >= 500);
}

function subjectOf(change: Change): string {
  if (change.kind === "restore") return "What was deleted";
  return change.kind === "clear" ? "What is completed" : quote(change.task);
}

/** What to say of a deletion. */
export function deletionOf([first, ...others]: Task[]): string {
  return others.length ? `Deleted ${others.length + 1} completed tasks.` : `Deleted ${quote(first!)}.`;
}

function quote({ title }: NewTask): string {
  const characters = [...title];
  return characters.length > 60 ? `“${characters.slice(0, 60).join("")}…”` : `“${title}”`;
}
