// [Task]: T170 [From]: specs/features/frontend.md
import { useCallback, useEffect, useState } from "react";
import { authClient } from "./auth-client";

/** Whether a user is signed in, as far as is known, and `check` to ask again. Tabs tell each other of a sign-out. */
export function useSession(userId: string) {
  const { data, error, isPending, isRefetching, refetch } = authClient.useSession();
  const [isKnown, setKnown] = useState(false); // until then, it may be what another page has left

  const check = useCallback(async () => {
    await refetch();
    setKnown(true);
  }, [refetch]);

  useEffect(() => void check(), [check]);

  // A session that can't be asked for isn't a session that has ended.
  const isSignedIn = !isKnown || isPending || isRefetching || error !== null || data?.user.id === userId;
  return { isSignedIn, check };
}
