// [Task]: T171 [From]: specs/features/frontend.md
"use client";

export default function ErrorPage({ reset }: { reset: () => void }) {
  return (
    <main className="card">
      <h1>Something went wrong</h1>
      <p role="alert">This page couldn’t be shown.</p>
      <button type="button" onClick={reset}>
        Try again
      </button>
    </main>
  );
}
