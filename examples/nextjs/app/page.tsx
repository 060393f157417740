// [Task]: T170 [From]: specs/features/frontend.md
import { redirect } from "next/navigation";
import { getSession } from "@/lib/session";
import { SignIn } from "@/components/sign-in";

export default async function Page() {
  if (await getSession()) redirect("/tasks");
  return <SignIn />;
}
