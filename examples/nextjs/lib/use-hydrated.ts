// [Task]: T170 [From]: specs/features/frontend.md
import { useSyncExternalStore } from "react";

const subscribe = () => () => {};

/** Whether the page's scripts run: until then, what the server has rendered can be seen, but not used. */
export function useHydrated(): boolean {
  return useSyncExternalStore(subscribe, () => true, () => false);
}
