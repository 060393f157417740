// [Task]: T170 [From]: specs/features/frontend.md
"use client";
import { type FormEvent, useRef, useState } from "react";
import { authClient } from "@/lib/auth-client";
import { reasonOf } from "@/lib/auth-errors";

interface Props {
  name: string;
  onSignedOut: () => Promise<void>;
}

export function Account({ name, onSignedOut }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<string>();

  async function signOut(): Promise<void> {
    setError(await reasonOf(() => authClient.signOut()));
    await onSignedOut();
  }

  async function deleteAccount(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    if (isBusy) return;
    setBusy(true);
    const password = String(new FormData(event.currentTarget).get("password"));
    const reason = await reasonOf(() => authClient.deleteUser({ password }));
    setError(reason);
    setBusy(false);
    if (!reason) await signOut(); // which tells the other tabs
  }

  return (
    <div className="account">
      <span>{name}</span>
      <button type="button" className="quiet" onClick={signOut}>
        Sign out
      </button>
      <button type="button" className="quiet" onClick={() => dialog.current?.showModal()}>
        Delete account
      </button>
      {error && !dialog.current?.open && <p role="alert">{error}</p>}
      <dialog ref={dialog} aria-labelledby="delete-account" onClose={() => setError(undefined)}>
        <form method="post" onSubmit={deleteAccount}>
          <h2 id="delete-account">Delete your account?</h2>
          <p>All of your tasks are deleted, too. This can’t be undone.</p>
          <label>
            Password
            <input name="password" type="password" autoComplete="current-password" required />
          </label>
          {error && <p role="alert">{error}</p>}
          <button type="submit" className="danger">
            Delete my account
          </button>
          <button type="button" className="quiet" onClick={() => dialog.current?.close()}>
            Keep it
          </button>
        </form>
      </dialog>
    </div>
  );
}
