// [Task]: T170 [From]: specs/features/frontend.md
"use client";
import { useRouter } from "next/navigation";
import { type FormEvent, useState } from "react";
import { authClient } from "@/lib/auth-client";
import { reasonOf } from "@/lib/auth-errors";
import { useHydrated } from "@/lib/use-hydrated";

export function SignIn() {
  const router = useRouter();
  const isHydrated = useHydrated();
  const [isNew, setNew] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<string>();

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    if (isBusy) return;
    setBusy(true);
    setError(undefined);
    const form = new FormData(event.currentTarget);
    const field = (name: string) => String(form.get(name));
    const credentials = { email: field("email"), password: field("password") };
    const reason = await reasonOf(() =>
      isNew ? authClient.signUp.email({ ...credentials, name: field("name") }) : authClient.signIn.email(credentials),
    );
    setError(reason);
    setBusy(!reason); // until the next page is there
    if (reason) return;
    router.replace("/tasks");
    router.refresh();
  }

  return (
    <main className="card">
      {/* By POST, so that no password gets into an address, even if it is sent before the scripts run. */}
      <form method="post" onSubmit={submit}>
        <fieldset disabled={!isHydrated}>
          <h1>{isNew ? "Create an account" : "Sign in"}</h1>
          {isNew && (
            <label>
              Name
              <input name="name" autoComplete="name" required />
            </label>
          )}
          <label>
            E-mail
            <input name="email" type="email" autoComplete="username" required />
          </label>
          <label>
            Password
            <input
              name="password"
              type="password"
              autoComplete={isNew ? "new-password" : "current-password"}
              required
            />
          </label>
          {error && <p role="alert">{error}</p>}
          <button type="submit" aria-disabled={isBusy}>
            {isNew ? "Create account" : "Sign in"}
          </button>
          <button
            type="button"
            className="quiet"
            onClick={() => {
              setNew(!isNew);
              setError(undefined);
            }}
          >
            {isNew ? "Sign in instead" : "Create an account instead"}
          </button>
        </fieldset>
      </form>
    </main>
  );
}
