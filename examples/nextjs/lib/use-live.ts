// [Task]: T170 [From]: specs/features/frontend.md
import { useEffect } from "react";
import type { TodoApi } from "./todo-api";

/**
 * Calls `onChange` whenever the list has changed elsewhere, while the tab is visible: a browser has six HTTP/1.1
 * connections to a host for all of its tabs, and a stream takes one of them. `onEnd` is called if nobody is signed in.
 */
export function useLive(api: TodoApi, isOn: boolean, onChange: () => Promise<unknown>, onEnd: () => void): void {
  useEffect(() => {
    let stream: AbortController | undefined;

    function follow(): void {
      stream?.abort();
      if (!isOn || document.visibilityState !== "visible") return;
      stream = new AbortController();
      api.onChanges(onChange, stream.signal).catch(onEnd);
    }

    follow();
    document.addEventListener("visibilitychange", follow);
    return () => {
      document.removeEventListener("visibilitychange", follow);
      stream?.abort();
    };
  }, [api, isOn, onChange, onEnd]);
}
