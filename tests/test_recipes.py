"""The recipes of the frontend guide, run by Node.js against the service, do what the guide says of them."""
# [Task]: T090, T132, T137, T138 [From]: specs/reliability.md, specs/features/task-crud.md

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest

from tests.service import make_token
from tests.test_docs import DECLARATIONS, TSC, TYPESCRIPT

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not TSC.exists(),
    reason="TypeScript needs Node.js 20.19+ and: npm ci --prefix tests/better_auth",
)

# All that the guide puts into `lib/`, apart from Better Auth's own configuration.
RECIPES = {name: text for name, text in TYPESCRIPT.items() if name.startswith("lib/") and name != "lib/auth.ts"}
COMMONJS = ("--target", "es2022", "--module", "commonjs", "--moduleResolution", "bundler", "--types", "")

PRELUDE = """
Object.assign(globalThis, ...["all", "change", "tasks", "writes"].map((name) => require(`./lib/${name}.js`)));
const { TOKEN: token, USER: userId } = process.env;
const draft = (title) => ({ key: crypto.randomUUID(), title });
const titles = (tasks) => tasks.map(({ title }) => title);

// Cuts the connection of the next request when the service has answered it.
const send = fetch;
function loseAnswer() {
  globalThis.fetch = async (...request) => {
    globalThis.fetch = send;
    await send(...request);
    throw new TypeError("fetch failed");
  };
}
"""

Run: TypeAlias = Callable[[str], Any]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipes as JavaScript."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "lib").mkdir()
    for name, text in {"next.d.ts": DECLARATIONS, **RECIPES}.items():
        (folder / name).write_text(text)
    subprocess.run([TSC, *COMMONJS, "--rootDir", ".", "next.d.ts", *RECIPES], cwd=folder, check=True)
    return folder


@pytest.fixture
def run(recipes: Path, live_port: int) -> Run:
    """Runs the body of a function in a page of a new user, and returns what the function does."""
    user_id = uuid4().hex
    environment = {"TOKEN": make_token(user_id), "USER": user_id}
    environment |= {"PATH": os.environ["PATH"], "NEXT_PUBLIC_TODO_API": f"http://127.0.0.1:{live_port}"}

    def run(body: str) -> Any:
        page = f"{PRELUDE}\n(async () => {{{body}}})().then((result) => console.log(JSON.stringify(result)));"
        node = ["node", "--input-type=commonjs", "--eval", page]
        return json.loads(subprocess.run(node, cwd=recipes, env=environment, capture_output=True, check=True).stdout)

    return run


@pytest.mark.requirement("T132")
def test_all_pages_have_every_task_once(run: Run) -> None:
    found = run("""
        for (const title of "abcde") await createTask(token, userId, draft(title));
        return titles(await allTasks(token, userId, { limit: "2" }));
    """)

    assert found == ["a", "b", "c", "d", "e"]


@pytest.mark.requirement("T137")
def test_a_change_is_shown_before_its_answer(run: Run) -> None:
    tag, shown = run("""
        const task = await createTask(token, userId, draft("Milk"));
        const shown = [];
        await change(token, task, { title: "Bread" }, (one) => shown.push(one));
        await change(token, shown.at(-1), { completed: true }, (one) => shown.push(one));
        return [task.updated_at, shown];
    """)

    assert [(task["title"], task["completed"]) for task in shown] == [("Bread", False)] * 2 + [("Bread", True)] * 2
    assert shown[0]["updated_at"] == tag < shown[1]["updated_at"] == shown[2]["updated_at"] < shown[3]["updated_at"]


@pytest.mark.requirement("T137")
def test_a_change_of_a_changed_task_is_rolled_back(run: Run) -> None:
    other, shown, error = run("""
        const task = await createTask(token, userId, draft("Milk"));
        const other = await tick(token, task, true);
        const shown = [];
        const error = await change(token, task, { title: "Bread" }, (one) => shown.push(one)).catch((error) => error);
        return [other, shown, error];
    """)

    assert [task["title"] for task in shown] == ["Bread", "Milk", "Milk"]
    assert shown[-1] == other
    assert error == {"status": 412, "tag": f'"{other["updated_at"]}"'}


@pytest.mark.requirement("T137")
def test_a_change_whose_answer_is_lost_is_done_once(run: Run) -> None:
    shown, task = run("""
        const task = await createTask(token, userId, draft("Milk"));
        const shown = [];
        loseAnswer();
        await change(token, task, { title: "Bread" }, (one) => shown.push(one));
        return [shown, ...(await allTasks(token, userId))];
    """)

    assert [one["title"] for one in shown] == ["Bread", "Milk", "Bread"]
    assert shown[-1] == task


@pytest.mark.requirement("T090")
def test_a_draft_whose_answer_is_lost_makes_one_task(run: Run) -> None:
    first, again, *tasks = run("""
        const milk = draft("Milk");
        loseAnswer();
        const first = await createTask(token, userId, milk);
        const again = await createTask(token, userId, milk);
        return [first, again, ...(await allTasks(token, userId))];
    """)

    assert [first, again] == tasks * 2


@pytest.mark.requirement("T138")
def test_a_tick_whose_answer_is_lost_stays(run: Run) -> None:
    ticked = run("""
        const task = await createTask(token, userId, draft("Milk"));
        loseAnswer();
        return tick(token, task, true);
    """)

    assert ticked["completed"]


def test_a_deletion_whose_answer_is_lost_succeeds(run: Run) -> None:
    left = run("""
        const task = await createTask(token, userId, draft("Milk"));
        loseAnswer();
        await removeTask(token, task);
        return allTasks(token, userId);
    """)

    assert left == []


@pytest.mark.requirement("T138")
def test_a_flip_whose_answer_is_lost_is_not_repeated(run: Run) -> None:
    error, task = run("""
        const task = await createTask(token, userId, draft("Milk"));
        loseAnswer();
        const flip = { method: "PATCH", body: JSON.stringify({ completed: undefined }) };
        const error = await call(token, tasksUrl(userId, `/${task.id}/complete`), flip).catch((error) => error);
        return [[error.message, error.cause.message], ...(await allTasks(token, userId))];
    """)

    assert error == ["The service can't be reached", "fetch failed"]
    assert task["completed"]


def test_a_request_that_the_page_gives_up_is_not_sent(run: Run) -> None:
    name, *tasks = run("""
        const init = { method: "POST", headers: { "Idempotency-Key": "1" }, body: JSON.stringify({ title: "Milk" }) };
        const error = await call(token, tasksUrl(userId), { ...init, signal: AbortSignal.abort() }).catch((e) => e);
        return [error.name, ...(await allTasks(token, userId))];
    """)

    assert (name, tasks) == ("AbortError", [])
