// [Task]: T170 [From]: specs/features/frontend.md
import { createAuthClient } from "better-auth/react";

export const authClient = createAuthClient();
