// [Task]: T171 [From]: specs/features/frontend.md
import { type FocusEvent, type RefObject, useLayoutEffect, useRef } from "react";

interface Place {
  element: HTMLElement;
  id?: string;
  index: number;
  control: string;
}

/**
 * Keeps the focus in a list. When the focused element goes, the focus moves to the same control of its row, or of the
 * row that takes its place, or else to the `fallback`. Rows have a `data-id`, controls a `data-control`.
 */
export function useKeptFocus(list: RefObject<HTMLUListElement | null>, fallback: () => void) {
  const place = useRef<Place>(undefined);

  useLayoutEffect(() => {
    if (!place.current || place.current.element.isConnected) return;
    const { id, index, control } = place.current;
    place.current = undefined;
    const rows = rowsOf(list.current);
    const row = rows.find((row) => row.dataset.id === id) ?? rows[Math.min(index, rows.length - 1)];
    const next = row?.querySelector<HTMLElement>(`[data-control="${control}"]`) ?? row?.querySelector("input");
    if (next) next.focus();
    else fallback();
  });

  return {
    onFocus({ target, currentTarget }: FocusEvent<HTMLElement>): void {
      const row = target.closest<HTMLElement>("[data-id]");
      const index = rowsOf(currentTarget).findIndex((other) => other === row);
      place.current = { element: target, id: row?.dataset.id, index, control: target.dataset.control ?? "edit" };
    },
    // React tells of what a person does, and not of an element that it removes.
    onBlur(): void {
      place.current = undefined;
    },
  };
}

export function rowsOf(list: HTMLElement | null): HTMLElement[] {
  return [...(list?.querySelectorAll<HTMLElement>("[data-id]") ?? [])];
}
