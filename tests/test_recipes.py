"""The recipes of the frontend guide, run by Node.js against the service, do what the guide says of them."""
# [Task]: T025, T090, T132, T137, T138, T148, T149, T151, T152 [From]: specs/features/authentication.md, specs/reliability.md, specs/features/task-crud.md, specs/features/live-changes.md

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest

from main import create_app
from tests.databases import MakeDatabase
from tests.server import serving
from tests.service import make_settings, make_token
from tests.test_better_auth import better_auth
from tests.test_docs import COMMONJS, DECLARATIONS, TSC, TYPESCRIPT
from tests.waiting import BOUND_SECONDS

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not TSC.exists(),
    reason="TypeScript needs Node.js 20.19+ and: npm ci --prefix tests/better_auth",
)

# All that the guide puts into `lib/`, apart from Better Auth's own configuration.
RECIPES = {name: text for name, text in TYPESCRIPT.items() if name.startswith("lib/") and name != "lib/auth.ts"}

# What a hook needs of React to run once.
REACT = """
exports.useState = () => [undefined, (value) => shown.push(value)];
exports.useEffect = (effect) => { globalThis.leave = effect(); };
"""

PRELUDE = """
const { connect, createServer } = require("node:net");

// The recipes' timers: pauses, which are shorter here, and how long they wait for a connection that may be dead.
const pauses = [];
let silence = 45_000;
globalThis.pageTimeout = (work, time) => {
  if (time === 45_000) return setTimeout(work, silence);
  pauses.push(time);
  return setTimeout(work, time / 100);
};

const names = ["all", "change", "events", "tasks", "token", "use-tasks", "writes"];
Object.assign(globalThis, { shown: [] }, ...names.map((name) => require(`./lib/${name}.js`)));
const { TOKEN: token, SHORT_TOKEN: shortToken, USER: userId, NEXT_PUBLIC_TODO_API: api } = process.env;
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

async function until(holds) {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}

// A way to the service that can be cut.
const ways = new Set();
const proxy = createServer((near) => {
  const far = connect(new URL(api).port);
  for (const way of [near, far]) ways.add(way.on("error", () => {}));
  near.pipe(far).pipe(near);
});
const listen = (server, port = 0) => new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
const turnTo = (server) => (process.env.NEXT_PUBLIC_TODO_API = `http://127.0.0.1:${server.address().port}`);

// A page that looks at the titles of its list.
const leaving = new AbortController();
const seen = [];
async function look() {
  seen.push(titles(await allTasks(token, userId)).join());
}
const sees = (list) => until(() => seen.at(-1) === list);

// The signals of the streams that were opened.
const streams = [];
globalThis.fetch = async (url, init) => {
  const response = await send(url, init);
  if (url.endsWith("/events")) streams.push(init.signal);
  return response;
};
const watch = (get = async () => token, onChange = look) => watchTasks(userId, get, onChange, leaving.signal);
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
    for script in (folder / "lib").glob("*.js"):
        script.write_text(f"const setTimeout = pageTimeout;\n{script.read_text()}")
    (folder / "node_modules").mkdir()
    (folder / "node_modules/react.js").write_text(REACT)
    return folder


def run_page(recipes: Path, port: int, body: str, **environment: str) -> Any:
    """Runs the body of a function in a page, whose service is at this port, and returns what the function does."""
    environment |= {"PATH": os.environ["PATH"], "NEXT_PUBLIC_TODO_API": f"http://127.0.0.1:{port}"}
    end = "(result) => (console.log(JSON.stringify(result)), process.exit())"
    node = ["node", "--input-type=commonjs", "--eval", f"{PRELUDE}\n(async () => {{{body}}})().then({end});"]
    page = subprocess.run(node, cwd=recipes, env=environment, capture_output=True, check=False, timeout=BOUND_SECONDS)
    assert page.returncode == 0, page.stderr.decode()
    return json.loads(page.stdout)


@pytest.fixture
def run(recipes: Path, live_port: int) -> Run:
    """Runs the body of a function in a page of a new user, who has two tokens, and returns what the function does."""
    user_id = uuid4().hex

    def run(body: str) -> Any:
        tokens = {"TOKEN": make_token(user_id), "SHORT_TOKEN": make_token(user_id, exp=time.time() + 1)}
        return run_page(recipes, live_port, body, USER=user_id, **tokens)

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


@pytest.mark.requirement("T148")
def test_a_page_is_told_of_a_change(run: Run) -> None:
    seen, pauses = run("""
        const watching = watch();
        await sees("");
        await createTask(token, userId, draft("Milk"));
        await sees("Milk");
        leaving.abort();
        await watching;
        return [seen, pauses];
    """)

    assert (seen, pauses) == (["", "Milk"], [])


@pytest.mark.requirement("T148")
def test_a_stream_is_read_in_any_pieces(run: Run) -> None:
    seen = run("""
        globalThis.fetch = async (...request) => {
          const response = await send(...request);
          const transform = (bytes, out) => bytes.forEach((byte) => out.enqueue(Uint8Array.of(byte)));
          return new Response(response.body.pipeThrough(new TransformStream({ transform })), response);
        };
        watch();
        await sees("");
        await createTask(token, userId, draft("Milk"));
        await sees("Milk");
        return seen;
    """)

    assert seen == ["", "Milk"]


@pytest.mark.requirement("T149")
def test_a_page_that_was_cut_off_misses_nothing(run: Run) -> None:
    seen, pauses = run("""
        await listen(proxy);
        turnTo(proxy);
        watch();
        await sees("");
        const { port } = proxy.address();
        proxy.close();
        ways.forEach((way) => way.destroy());
        await until(() => pauses.length === 1);
        const body = JSON.stringify({ title: "Milk" });
        await call(token, `${api}/api/tasks`, { method: "POST", headers: { "Idempotency-Key": "1" }, body });
        await until(() => pauses.length > 2);
        await listen(proxy, port);
        await sees("Milk");
        return [seen, pauses];
    """)

    assert seen == ["", "Milk"]
    assert 1000 <= pauses[0] <= 5000
    assert pauses[1:3] == [2 * pauses[0], 4 * pauses[0]]


@pytest.mark.requirement("T151")
def test_a_page_goes_on_when_its_token_expires(run: Run) -> None:
    seen, pauses = run("""
        const tokens = [shortToken];
        watch(async () => tokens.shift() ?? token);
        await sees("");
        await until(() => streams.length === 2);
        await createTask(token, userId, draft("Milk"));
        await sees("Milk");
        return [seen, pauses];
    """)

    assert seen == ["", "Milk"]
    assert len(pauses) == 1
    assert 1000 <= pauses[0] <= 5000


@pytest.mark.requirement("T149")
def test_a_page_that_could_not_look_looks_again(run: Run) -> None:
    seen, pauses, are_closed = run("""
        const failures = [new Error("no list"), new Error("no list")];
        watch(undefined, async () => {
          if (failures.length) throw failures.pop();
          await look();
        });
        await sees("");
        return [seen, pauses, streams.map((signal) => signal.aborted)];
    """)

    assert seen == [""]
    assert are_closed == [True, True, False]
    # Each stream has its own `retry`, of 1 to 5 s.
    assert 1000 <= pauses[0] <= 5000
    assert 2000 <= pauses[1] <= 10_000


@pytest.mark.requirement("T152")
def test_a_page_with_too_many_streams_waits(run: Run) -> None:
    pauses = run("""
        const others = new AbortController();
        const init = { headers: { Authorization: `Bearer ${token}` }, signal: others.signal };
        await Promise.all(Array.from({ length: 20 }, () => send(tasksUrl(userId, "/events"), init)));
        watch();
        await until(() => pauses.length === 2);
        others.abort();
        await sees("");
        return pauses;
    """)

    assert pauses[:2] == [5000, 5000]


@pytest.mark.requirement("T149")
def test_a_page_gives_up_a_dead_connection(run: Run) -> None:
    seen = run("""
        silence = 300;
        const mute = createServer(() => {});
        await listen(mute);
        turnTo(mute);
        watch();
        await until(() => pauses.length > 1);
        await listen(proxy);
        turnTo(proxy);
        await sees("");
        const given = pauses.length;
        await until(() => pauses.length > given);
        await createTask(token, userId, draft("Milk"));
        await sees("Milk");
        return seen;
    """)

    assert seen == ["", "Milk"]


@pytest.mark.requirement("T148")
def test_the_hook_shows_the_list_until_it_is_left(run: Run) -> None:
    lists = run("""
        globalThis.fetch = async (url, init) =>
          url === "/api/auth/token" ? Response.json({ token }) : send(url, init);
        useTasks(userId);
        await until(() => shown.length === 2);
        await createTask(token, userId, draft("Milk"));
        await until(() => shown.length === 3);
        let hasLeft = false;
        globalThis.fetch = async (url, init) => {
          const response = await send(url, init);
          if (url.includes("?")) {
            leave();
            hasLeft = true;
          }
          return response;
        };
        await createTask(token, userId, draft("Bread"));
        await until(() => hasLeft);
        await new Promise((resolve) => setTimeout(resolve, 50));
        return shown.map(titles);
    """)

    assert lists == [[], [], ["Milk"]]


@pytest.mark.requirement("T025")
async def test_a_page_keeps_its_token_until_it_ages(recipes: Path, make_database: MakeDatabase) -> None:
    async with better_auth() as frontend:
        cookie = "; ".join(f"{name}={value}" for name, value in frontend.client.cookies.items())
        keys = {"better_auth_secret": None, "better_auth_url": frontend.origin}
        with serving(create_app(make_settings(database_url=await make_database("sqlite"), **keys))) as port:
            body = """
                let asked = 0;
                let headers = { Cookie: process.env.COOKIE };
                globalThis.fetch = (url, init) => {
                  if (url !== "/api/auth/token") return send(url, init);
                  asked++;
                  return send(process.env.ORIGIN + url, { headers });
                };
                const { now } = Date;
                const twins = new Set(await Promise.all([getToken(), getToken()])).size;
                const { status } = await call(await getToken(), tasksUrl(userId));
                Date.now = () => now() + 13.5 * 60_000;
                await getToken();
                const kept = asked;
                Date.now = () => now() + 14.5 * 60_000;
                await Promise.all([getToken(), getToken()]);
                const renewed = asked;
                forgetToken();
                const session = headers;
                headers = {};
                const { message } = await getToken().catch((error) => error);
                headers = session;
                await getToken();
                return [twins, status, kept, renewed, message, asked];
            """
            found = run_page(recipes, port, body, USER=frontend.user_id, COOKIE=cookie, ORIGIN=frontend.origin)

    assert found == [1, 200, 1, 2, "There is no token: HTTP 401", 4]
