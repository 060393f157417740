"""The typed client of the example app, run by Node.js against the service, keeps its promises."""
# [Task]: T025, T090, T132, T137, T138, T148, T149, T151, T152, T165, T166, T167, T168, T169, T185 [From]: specs/features/authentication.md, specs/reliability.md, specs/features/task-crud.md, specs/features/live-changes.md, specs/features/frontend.md, specs/features/moving.md

import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest

from main import create_app
from tests.databases import MakeDatabase
from tests.server import serving
from tests.service import make_settings, make_token
from tests.test_better_auth import better_auth, needs_better_auth
from tests.test_docs import TYPESCRIPT
from tests.typescript import CLIENT, EXAMPLE, NODE_MODULES, needs_typescript, transpile, write_javascript
from tests.waiting import BOUND_SECONDS

pytestmark = needs_typescript

PRELUDE = """
const { connect, createServer } = require("node:net");
setInterval(() => {}, 1000); // goes on until the function has returned

// The client's timers: pauses, which are shorter here, and how long it waits for a connection that may be dead.
const pauses = [];
let silence = 45_000;
globalThis.clientTimeout = (work, time) => {
  if (time === 45_000) return setTimeout(work, silence);
  pauses.push(time);
  return setTimeout(work, time / 100);
};

// What a page has.
globalThis.window = globalThis;
globalThis.location = { href: "http://page.example/tasks" };

// What becomes of the next requests, if they don't reach the service and come back.
const send = fetch;
const sent = [];
const fates = [];
globalThis.fetch = (request, init) => {
  sent.push(request);
  return (fates.shift() ?? send)(request, init);
};
const lose = async (...request) => {
  await send(...request);
  throw new TypeError("fetch failed");
};
const cutShort = async (...request) => {
  const response = await send(...request);
  return new Response(new ReadableStream({ start: (body) => body.error(new TypeError("terminated")) }), response);
};
const answer = (status, body = {}, headers = {}) => async () =>
  new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers });
const cut = async () => {
  throw new TypeError("fetch failed");
};
const forever = (request, { signal }) =>
  new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));

const client = require("./index.js");
const { createTodoApi, exportTasks, importTasks, newKey, tokenFrom } = client;
const { TOKEN: token, SHORT_TOKEN: shortToken, USER: userId, TODO_API_URL: url } = process.env;
let asked = 0;
const tokens = [];
const fetchToken = async () => (asked++, tokens.shift() ?? token);
const open = (options) => createTodoApi({ url, userId, fetchToken, ...options });
const api = open();

// A token that nobody verifies.
const made = (claims) => `.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.`;
const contents = (tasks) => tasks.map(({ title, description, completed }) => ({ title, description, completed }));
const titles = (tasks) => tasks.map(({ title }) => title);
const keys = () => sent.map(({ headers }) => headers.get("Idempotency-Key")).filter(Boolean);
const told = ({ name, message, status, detail, retryAfter }) => ({ name, message, status, detail, retryAfter });
const faultOf = (promise) => promise.then(() => null, (error) => error);
async function until(holds) {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}
const { now } = Date;
const later = (minutes) => (Date.now = () => now() + minutes * 60_000);

// A way to the service that can be cut.
const ways = new Set();
const proxy = createServer((near) => {
  const far = connect(new URL(url).port);
  for (const way of [near, far]) ways.add(way.on("error", () => {}));
  near.pipe(far).pipe(near);
});
const listen = (server, port = 0) => new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));

// A page that looks at the titles of its list.
const leaving = new AbortController();
const seen = [];
async function look() {
  seen.push(titles(await api.all()).join());
}
const sees = (list) => until(() => seen.at(-1) === list);
const watch = (by = api, onChange = look) => by.onChanges(onChange, leaving.signal);
const streams = () => sent.filter(({ url }) => url.endsWith("/events"));
"""


Run: TypeAlias = Callable[[str], Any]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client as JavaScript."""
    folder = tmp_path_factory.mktemp("client")
    transpile(folder, {name: f"const setTimeout = clientTimeout;\n{text}" for name, text in CLIENT.items()})
    return folder


def run_page(client: Path, port: int, body: str, **environment: str) -> Any:
    """Runs the body of a function in a page, whose service is at this port, and returns what the function does."""
    environment |= {"PATH": os.environ["PATH"], "TODO_API_URL": f"http://127.0.0.1:{port}"}
    if "NODE_V8_COVERAGE" in os.environ:
        environment["NODE_V8_COVERAGE"] = os.environ["NODE_V8_COVERAGE"]
    end = "(result) => (console.log(JSON.stringify(result)), process.exit())"
    node = ["node", "--input-type=commonjs", "--eval", f"{PRELUDE}\n(async () => {{{body}}})().then({end});"]
    page = subprocess.run(node, cwd=client, env=environment, capture_output=True, check=False, timeout=BOUND_SECONDS)
    assert page.returncode == 0, page.stderr.decode()
    return json.loads(page.stdout)


@pytest.fixture(scope="module")
async def port(make_database: MakeDatabase) -> AsyncIterator[int]:
    """The service's port; on SQLite it answers the same."""
    with serving(create_app(make_settings(database_url=await make_database("postgresql")))) as port:
        yield port


@pytest.fixture
def run(client: Path, port: int) -> Run:
    """Runs the body of a function in a page of a new user, who has two tokens, and returns what the function does."""
    user_id = uuid4().hex

    def run(body: str) -> Any:
        tokens = {"TOKEN": make_token(user_id), "SHORT_TOKEN": make_token(user_id, exp=time.time() + 1)}
        return run_page(client, port, body, USER=user_id, **tokens)

    return run


@pytest.mark.requirement("T165")
def test_the_calls_of_the_guide_work(run: Run) -> None:
    (snippet,) = [text for text in TYPESCRIPT.values() if "await api.list(" in text]
    calls = snippet.partition("\n\n")[2].replace('"https://api.example.com"', "url").replace('"…"', "userId")

    found = run(f"""
        fates.push(answer(200, {{ token }}));
        {calls}
        return [tasks, cursor ?? null, total, titles(await api.all({{ status: "completed" }}))];
    """)

    assert found == [[], None, 0, ["Milk"]]


@pytest.mark.requirement("T165")
def test_the_types_are_those_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(create_app(make_settings()).openapi()))
    command = NODE_MODULES / ".bin/openapi-typescript"
    subprocess.run([command, "openapi.json", "--output", "schema.d.ts"], cwd=tmp_path, check=True, capture_output=True)

    made, kept = (folder / "schema.d.ts" for folder in (tmp_path, EXAMPLE / "lib/todo-api"))
    assert made.read_text() == kept.read_text(), "The API has changed. Run: npm run types --prefix examples/nextjs"


@pytest.mark.requirement("T165")
def test_the_client_does_all_that_the_service_does(run: Run) -> None:
    task, got, changed, ticked, many, left = run("""
        const task = await api.create({ title: " Milk ", description: "2 l" });
        const got = await api.get(task.id);
        const changed = await api.update(task, { title: "Bread", description: null });
        const ticked = await api.complete(task.id, true);
        const two = await api.createAll([{ title: "a" }, { title: "b", completed: true }]);
        const many = await api.completeAll(two.map(({ id }) => id), true);
        await api.remove(task.id);
        return [task, got, changed, ticked, many, titles(await api.all())];
    """)

    assert task == got
    assert (task["title"], task["description"]) == ("Milk", "2 l")
    assert (changed["title"], changed["description"], changed["completed"]) == ("Bread", None, False)
    assert ticked["completed"]
    assert [(one["title"], one["completed"]) for one in many] == [("a", True), ("b", True)]
    assert left == ["a", "b"]


@pytest.mark.requirement("T165")
def test_a_server_component_keeps_no_answer(run: Run) -> None:
    found = run("""
        await api.list();
        delete globalThis.window;
        await open({ url: url + "/" }).list();
        return sent.map(({ cache }) => cache);
    """)

    assert found == ["default", "no-store"]


# --- tokens


@pytest.mark.requirement("T166")
def test_one_token_is_fetched_for_all_who_wait(run: Run) -> None:
    found = run("""
        await Promise.all([api.list(), api.list(), api.list()]);
        await api.list();
        return [asked, new Set(sent.map(({ headers }) => headers.get("Authorization"))).size];
    """)

    assert found == [1, 1]


@pytest.mark.requirement("T166")
@pytest.mark.parametrize("clock", ["{ iat: 0, exp: 900 }", "{ exp: now() / 1000 + 900 }"], ids=["by its iat", "by exp"])
def test_a_token_is_kept_until_a_minute_before_its_end(run: Run, clock: str) -> None:
    found = run(f"""
        tokens.push(made({clock}));
        fates.push(...Array(3).fill(answer(200, [])));
        await api.list();
        later(13.9);
        await api.list();
        const kept = asked;
        later(14.1);
        await api.list();
        return [kept, asked];
    """)

    assert found == [1, 2]


@pytest.mark.requirement("T166")
def test_a_refused_token_is_renewed_once_for_all(run: Run) -> None:
    found = run("""
        tokens.push(made({ exp: 2 ** 32 }));
        const pages = await Promise.all([api.list(), api.list()]);
        return [pages.map(({ tasks }) => tasks), asked, sent.length];
    """)

    assert found == [[[], []], 2, 4]


@pytest.mark.requirement("T166", "T168")
def test_a_token_refused_twice_is_not_tried_again(run: Run) -> None:
    error, found = run("""
        tokens.push(made({ exp: 2 ** 32 }), made({ exp: 2 ** 32 + 1 }));
        const error = await faultOf(api.list());
        return [told(error), [asked, sent.length]];
    """)

    assert (error["status"], error["detail"]) == (401, "Invalid token")
    assert error["message"] == "Your sign-in isn’t accepted. Please sign in again."
    assert found == [2, 2]


@pytest.mark.requirement("T166")
def test_a_page_asks_its_own_origin_for_a_token(run: Run) -> None:
    found = run("""
        fates.push(answer(503), answer(200, { token }));
        const { tasks } = await open({ fetchToken: tokenFrom("/api/auth/token") }).list();
        return [tasks, sent.slice(0, 2).map(({ url, cache }) => [url, cache])];
    """)

    assert found == [[], [["http://page.example/api/auth/token", "no-store"]] * 2]


@pytest.mark.requirement("T166", "T168")
def test_no_token_is_asked_for_before_its_endpoint_allows(run: Run) -> None:
    error, again, found = run("""
        const api = open({ fetchToken: tokenFrom("/api/auth/token") });
        fates.push(answer(429, { message: "Too many requests." }, { "X-Retry-After": "7" }), answer(200, { token }));
        const error = await faultOf(api.list());
        later(6.9 / 60);
        const again = await faultOf(api.list());
        const before = sent.length;
        later(7.1 / 60);
        return [told(error), told(again), [before, (await api.list()).tasks]];
    """)

    assert error == again
    assert (error["status"], error["retryAfter"]) == (429, 7)
    assert error["message"] == "Too many requests. Please try again in 7 seconds."
    assert found == [1, []]


@pytest.mark.requirement("T166", "T168")
def test_no_token_without_a_session(run: Run) -> None:
    errors = run("""
        const api = open({ fetchToken: tokenFrom("/api/auth/token") });
        fates.push(answer(401), answer(403, "<html>"), answer(200, {}));
        fates.push(answer(200, { token: "?" }), answer(200, { token }));
        const errors = [];
        for (const _ of "1234") errors.push(await faultOf(api.list()));
        await api.list(); // a failure isn't kept
        return errors.map(told);
    """)

    assert [error["name"] for error in errors] == ["SignedOutError", "ApiError", "ApiError", "TypeError"]
    assert [error.get("status") for error in errors] == [401, 403, 200, None]
    assert errors[0]["message"] == "You are signed out. Please sign in again."


@pytest.mark.requirement("T025", "T166")
@needs_better_auth
async def test_better_auth_gives_a_token_that_lasts(client: Path, make_database: MakeDatabase) -> None:
    # In production it also limits how often, by the address of who asks.
    async with better_auth(NODE_ENV="production") as frontend:
        cookie = "; ".join(f"{name}={value}" for name, value in frontend.client.cookies.items())
        keys = {"better_auth_secret": None, "better_auth_url": frontend.origin}
        with serving(create_app(make_settings(database_url=await make_database("sqlite"), **keys))) as port:
            body = """
                globalThis.location = { href: process.env.ORIGIN };
                let count = 0;
                globalThis.fetch = (request, init) => {
                  if (!request.url.endsWith("/api/auth/token")) return send(request, init);
                  count++;
                  const headers = { Cookie: process.env.COOKIE, "X-Forwarded-For": "192.0.2.1" };
                  return send(request.url, { ...init, headers });
                };
                const { tasks } = await open({ fetchToken: tokenFrom("/api/auth/token") }).list();
                const page = open({ fetchToken: tokenFrom("/api/auth/token") });
                await Promise.all([page.list(), page.list()]);
                later(13.5);
                await page.list();
                const kept = count;
                Date.now = now;
                let error;
                while (!(error = await faultOf(tokenFrom("/api/auth/token")())) && count < 300);
                return [tasks, kept, error.status, error.retryAfter > 0];
            """
            found = run_page(client, port, body, USER=frontend.user_id, COOKIE=cookie, ORIGIN=frontend.origin)

    assert found == [[], 2, 429, True]


# --- answers that are lost


@pytest.mark.requirement("T090", "T167")
@pytest.mark.parametrize("fate", ["lose", "cutShort"])
def test_a_task_whose_answer_is_lost_is_created_once(run: Run, fate: str) -> None:
    tasks, found, keys = run(f"""
        fates.push({fate});
        const tasks = [await api.create({{ title: "Milk" }}, "one"), await api.create({{ title: "Milk" }}, "one")];
        return [tasks, await api.all(), keys()];
    """)

    assert tasks == found * 2
    assert keys == ["one"] * 3


@pytest.mark.requirement("T090", "T167")
def test_each_post_has_a_key_and_keeps_it(run: Run) -> None:
    found, keys = run("""
        fates.push(lose, cut);
        await api.create({ title: "Milk" });
        fates.push(lose);
        await api.createAll([{ title: "Bread" }]);
        return [titles(await api.all()), keys()];
    """)

    assert found == ["Milk", "Bread"]
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [3, 2]
    assert len(keys[0]) == 32


@pytest.mark.requirement("T167")
def test_any_number_of_tasks_is_created_once_in_order(run: Run) -> None:
    same, found, parts = run("""
        const tasks = Array.from({ length: 250 }, (_, number) => ({ title: `Task ${number}` }));
        const created = await api.createAll(tasks, "many");
        const again = await api.createAll(tasks, "many");
        return [JSON.stringify(created) === JSON.stringify(again), titles(await api.all()), keys()];
    """)

    assert same
    assert found == [f"Task {number}" for number in range(250)]
    assert parts == ["many-0", "many-1", "many-2"] * 2


@pytest.mark.requirement("T167")
def test_large_tasks_are_created_in_smaller_parts(run: Run) -> None:
    found, parts = run("""
        const description = "😀".repeat(1000);
        const tasks = Array.from({ length: 40 }, (_, number) => ({ title: `Task ${number}`, description }));
        await api.createAll(tasks);
        return [titles(await api.all()), keys().length];
    """)

    assert found == [f"Task {number}" for number in range(40)]
    assert parts == 3


@pytest.mark.requirement("T137", "T167")
@pytest.mark.parametrize("changes", ['{ title: " Bread " }', '{ description: "Rye" }', "{ completed: true }"])
def test_a_change_whose_answer_is_lost_is_no_conflict(run: Run, changes: str) -> None:
    changed, tasks = run(f"""
        const task = await api.create({{ title: "Milk" }});
        fates.push(lose);
        return [await api.update(task, {changes}), await api.all()];
    """)

    assert [changed] == tasks
    assert changed["updated_at"] > changed["created_at"]


@pytest.mark.requirement("T137", "T167", "T168")
def test_a_change_of_a_changed_task_is_a_conflict(run: Run) -> None:
    other, error, current, tasks = run("""
        const task = await api.create({ title: "Milk" });
        const other = await api.update(task, { title: "Bread" });
        const error = await faultOf(api.update(task, { title: "Eggs" }));
        return [other, told(error), error.current, await api.all()];
    """)

    assert (error["name"], error["status"]) == ("ConflictError", 412)
    assert error["message"] == "This task has changed elsewhere: it is now “Bread”."
    assert [other] == [current] == tasks


@pytest.mark.requirement("T167", "T168")
def test_a_deleted_task_can_not_be_changed(run: Run) -> None:
    errors = run("""
        const task = await api.create({ title: "Milk" });
        await api.remove(task.id);
        const calls = [api.update(task, { title: "Bread" }), api.get(task.id), api.complete(task.id, true)];
        return (await Promise.all(calls.map(faultOf))).map(told);
    """)

    assert [error["status"] for error in errors] == [404] * 3
    assert {error["message"] for error in errors} == {"This task is no longer there."}


@pytest.mark.requirement("T138", "T167")
def test_a_tick_whose_answer_is_lost_stays(run: Run) -> None:
    ticked = run("""
        const { id } = await api.create({ title: "Milk" });
        fates.push(lose);
        return [(await api.complete(id, true)).completed, (await api.get(id)).completed];
    """)

    assert ticked == [True, True]


@pytest.mark.requirement("T167")
def test_a_deletion_whose_answer_is_lost_succeeds(run: Run) -> None:
    left = run("""
        const { id } = await api.create({ title: "Milk" });
        fates.push(lose);
        await api.remove(id);
        await api.remove(id);
        return api.all();
    """)

    assert left == []


@pytest.mark.requirement("T167")
def test_any_number_of_tasks_is_deleted(run: Run) -> None:
    left, sizes = run("""
        const tasks = await api.createAll(Array.from({ length: 451 }, () => ({ title: "Task" })));
        const ids = tasks.map(({ id }) => id);
        sent.length = 0;
        fates.push(lose);
        await api.removeAll(ids.slice(1));
        const sizes = sent.map(({ url }) => new URL(url).searchParams.get("ids").split(",").length);
        return [(await api.all()).map(({ id }) => id).join() === ids[0].toString(), sizes];
    """)

    assert left
    assert sizes == [200, 200, 200, 50]


@pytest.mark.requirement("T167")
def test_all_tasks_of_a_status_are_deleted(run: Run) -> None:
    left, requests = run("""
        const many = Array.from({ length: 1001 }, () => ({ title: "Done", completed: true }));
        await api.createAll([{ title: "Milk" }, ...many]);
        sent.length = 0;
        await api.clear("completed");
        return [titles(await api.all()), sent.length - 1];
    """)

    assert (left, requests) == (["Milk"], 2)


@pytest.mark.requirement("T167")
def test_a_request_is_repeated_after_growing_pauses(run: Run) -> None:
    pauses, count = run("""
        fates.push(cut, answer(500), answer(503, {}, { "Retry-After": "2" }), answer(502, "<html>"));
        await api.list();
        return [pauses, sent.length];
    """)

    assert count == 5
    assert 500 <= pauses[0] <= 1000 <= pauses[1] <= 2000 == pauses[2] <= 4000 <= pauses[3] <= 8000


@pytest.mark.requirement("T167")
def test_a_request_that_is_never_answered_is_repeated(run: Run) -> None:
    tasks, limits = run("""
        const limits = [];
        const { timeout } = AbortSignal;
        AbortSignal.timeout = (time) => (limits.push(time), timeout.call(AbortSignal, limits.length === 1 ? 10 : time));
        fates.push(forever);
        return [(await api.list()).tasks, limits];
    """)

    assert (tasks, limits) == ([], [40_000, 40_000])


@pytest.mark.requirement("T167")
@pytest.mark.parametrize("fate", ["forever", "cut", "answer(503)"])
def test_a_request_that_the_page_gives_up_ends(run: Run, fate: str) -> None:
    name, count = run(f"""
        const leaving = new AbortController();
        fates.push({fate});
        const list = faultOf(api.list({{}}, leaving.signal));
        await until(() => sent.length === 1 && ({fate} === forever || pauses.length === 1));
        leaving.abort();
        const {{ name }} = await list;
        return [name, sent.length];
    """)

    assert name == "AbortError"
    assert count <= 2  # The second is aborted already.


# --- errors


@pytest.mark.requirement("T168")
def test_an_unreachable_service_is_told(run: Run) -> None:
    found = run("""
        const none = open({ url: "http://127.0.0.1:1", attempts: 2 });
        const error = await faultOf(none.list());
        return [told(error), error.cause.message, sent.length];
    """)

    text = "The service can’t be reached at the moment. Is there a connection?"
    assert found == [{"name": "UnreachableError", "message": text, "status": 0, "detail": ""}, "fetch failed", 2]


@pytest.mark.requirement("T168")
def test_another_users_tasks_are_told(run: Run) -> None:
    error = run("""return told(await faultOf(open({ userId: "somebody else" }).list()));""")

    assert (error["status"], error["detail"]) == (403, "Cannot access another user's tasks")
    assert error["message"] == "These tasks are somebody else’s. Please sign in again."


@pytest.mark.requirement("T168")
def test_each_field_that_is_wrong_is_told(run: Run) -> None:
    error, faults = run("""
        const error = await faultOf(api.create({ title: "", description: "x".repeat(1001) }));
        return [told(error), error.faults.map(({ loc }) => loc.at(-1))];
    """)

    assert (error["name"], error["status"]) == ("InvalidError", 422)
    assert faults == ["title", "description"]
    texts = "Title: string should have at least 1 character. Description: string should have at most 1000 characters."
    assert error["message"] == texts


@pytest.mark.requirement("T168")
def test_a_body_that_is_too_large_is_told(run: Run) -> None:
    error = run("""return told(await faultOf(api.create({ title: "x".repeat(70_000) })));""")

    assert (error["status"], error["message"]) == (413, "This is too long.")


@pytest.mark.requirement("T168")
def test_a_key_with_another_text_is_told(run: Run) -> None:
    error = run("""
        await api.create({ title: "Milk" }, "one");
        return told(await faultOf(api.create({ title: "Bread" }, "one")));
    """)

    assert error["message"] == "This was saved already, in another wording. Please look at the list."


@pytest.mark.requirement("T168")
def test_a_fault_without_a_field_is_told(run: Run) -> None:
    error = run("""
        fates.push(answer(422, { detail: [{ loc: ["body"], msg: "Field required", type: "missing" }] }));
        return told(await faultOf(api.list()));
    """)

    assert error["message"] == "Field required."


@pytest.mark.requirement("T168")
@pytest.mark.parametrize(
    ("fate", "text"),
    [
        ('412, { detail: "…" }', "This task has changed elsewhere."),
        ("405", "The service refused this (HTTP 405)."),
        ("422, { detail: '…' }", "The service refused this (HTTP 422)."),
        ("429", "Too many requests. Please try again in a second."),
        ('429, {}, { "Retry-After": "1" }', "Too many requests. Please try again in a second."),
        ('429, {}, { "Retry-After": "30" }', "Too many requests. Please try again in 30 seconds."),
        ('429, {}, { "Retry-After": "3590" }', "Too many requests. Please try again in 60 minutes."),
        ('503, {}, { "Retry-After": "3600" }', "The service has a problem at the moment. Please try again."),
        ('400, "<html>of a proxy</html>"', "The service refused this (HTTP 400)."),
        ('400, "null"', "The service refused this (HTTP 400)."),
    ],
)
def test_a_refusal_is_told(run: Run, fate: str, text: str) -> None:
    message, count = run(f"""
        fates.push(answer({fate}));
        return [(await faultOf(api.list())).message, sent.length];
    """)

    assert (message, count) == (text, 1)


@pytest.mark.requirement("T167", "T168")
def test_a_service_that_stays_broken_is_told(run: Run) -> None:
    error, count = run("""
        fates.push(...Array(5).fill(answer(502, "<html>of a proxy</html>")));
        return [told(await faultOf(api.remove(1))), sent.length];
    """)

    assert (error["status"], error["message"]) == (502, "The service has a problem at the moment. Please try again.")
    assert count == 5


# --- pages


@pytest.mark.requirement("T132", "T169")
def test_all_pages_have_every_task_once(run: Run) -> None:
    found, count = run("""
        await api.createAll([..."abcde"].map((title) => ({ title })));
        sent.length = 0;
        return [titles(await api.all({ limit: 2 })), sent.length];
    """)

    assert (found, count) == (["a", "b", "c", "d", "e"], 3)


@pytest.mark.requirement("T169")
def test_a_page_names_the_next_and_counts(run: Run) -> None:
    first, second, plain = run("""
        await api.createAll([..."abc"].map((title) => ({ title })));
        const query = { sort: "title", order: "desc", limit: 2, count: true };
        const { cursor, ...first } = await api.list(query);
        const second = await api.list({ ...query, cursor });
        const pages = [first, second].map(({ tasks, ...rest }) => [titles(tasks), rest]);
        return [...pages, Object.keys(await api.list({ search: "B", status: "pending" }))];
    """)

    assert first == [["c", "b"], {"total": 3}]
    assert second == [["a"], {"total": 3}]
    assert plain == ["tasks"]


# --- moving

# As a page exports and imports, by the snippet of the guide.
MOVE = """
const { linkTo, load } = require("./guide.js");
const exported = async (api) => (await fetch(new Request(await linkTo(api)))).text();
const imported = (api, text) => load(api, new File([text], "tasks.json"));
"""


@pytest.fixture(scope="module")
def guide(client: Path) -> Path:
    """The folder of the client, with the snippet of the guide."""
    (snippet,) = [text for text in TYPESCRIPT.values() if "importTasks(" in text]
    write_javascript(client, {"guide.ts": snippet.replace("@/lib/todo-api", "./index")})
    return client


@pytest.mark.requirement("T185")
def test_all_tasks_move_to_another_account_once(guide: Path, port: int) -> None:
    ada, bob = uuid4().hex, uuid4().hex
    same, counts, moved, keys = run_page(
        guide,
        port,
        f"""{MOVE}
        const tasks = Array.from({{ length: 1001 }}, (_, number) => ({{
          title: `Task ${{number}}`, description: number % 3 ? `${{number}}` : null, completed: number % 2 === 0,
        }}));
        await api.createAll(tasks);
        const text = await exported(api);
        const same = JSON.stringify(JSON.parse(text)) === JSON.stringify(await api.all());
        const other = open({{ userId: process.env.OTHER, fetchToken: async () => process.env.OTHERS }});
        sent.length = 0;
        fates.push(lose);
        const counts = [await imported(other, text), await imported(other, text)];
        const moved = JSON.stringify(contents(await other.all())) === JSON.stringify(tasks);
        return [same, counts, moved, keys()];
        """,
        USER=ada,
        TOKEN=make_token(ada),
        OTHER=bob,
        OTHERS=make_token(bob),
    )

    assert (same, counts, moved) == (True, [1001, 1001], True)
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [3] + [2] * 10


@pytest.mark.requirement("T185")
def test_an_import_that_was_cut_off_goes_on(run: Run) -> None:
    status, found, again = run("""
        const tasks = Array.from({ length: 250 }, (_, number) => ({ title: `Task ${number}` }));
        fates.push(send, lose);
        const error = await faultOf(importTasks(open({ attempts: 1 }), JSON.stringify(tasks)));
        await importTasks(api, JSON.stringify(tasks));
        const found = titles(await api.all());
        await importTasks(api, JSON.stringify(tasks), newKey());
        return [error.status, found, (await api.all()).length];
    """)

    assert status == 0
    assert found == [f"Task {number}" for number in range(250)]
    assert again == 500


@pytest.mark.requirement("T185")
def test_texts_of_any_kind_and_size_move(run: Run) -> None:
    same, requests = run("""
        const odd = ["\\ufeff", "\\u200b", "😀".repeat(200), "\\u001fa", '"\\\\'];
        const large = Array.from({ length: 40 }, () => ({ title: "Large", description: "😀".repeat(1000) }));
        await api.createAll([...odd.map((title) => ({ title, description: "" })), ...large]);
        const text = await exportTasks(api);
        sent.length = 0;
        await importTasks(api, text);
        const requests = sent.length;
        const all = contents(await api.all());
        return [JSON.stringify(all.slice(0, 45)) === JSON.stringify(all.slice(45)), requests];
    """)

    assert (same, requests) == (True, 3)


@pytest.mark.requirement("T185")
def test_a_limit_of_requests_is_waited_for(run: Run) -> None:
    found = run("""
        const busy = (seconds) => answer(429, {}, seconds && { "Retry-After": seconds });
        fates.push(busy("7"), busy("60"), send, busy("7"));
        await importTasks(api, '[{ "title": "Milk" }]');
        const text = await exportTasks(api);
        fates.push(busy("61"), busy());
        const errors = [await faultOf(exportTasks(api)), await faultOf(importTasks(api, text))];
        const gone = AbortSignal.abort();
        const before = sent.length;
        errors.push(await faultOf(exportTasks(api, gone)), await faultOf(importTasks(api, text, "key", gone)));
        const told = errors.map(({ status, name }) => status ?? name);
        return [titles(JSON.parse(text)), pauses, told, sent.length - before];
    """)

    assert found == [["Milk"], [7000, 60_000, 7000], [429, 429, "AbortError", "AbortError"], 0]


NOT_AN_EXPORT = "This file isn’t an export of tasks."


@pytest.mark.requirement("T185")
@pytest.mark.parametrize(
    "text", ["", "title,completed", "null", "{}", '{ "tasks": [] }', '[{ "title": "cut o', '"[]"', "<html>"]
)
def test_no_other_file_is_imported(run: Run, text: str) -> None:
    error, count = run(f"return [told(await faultOf(importTasks(api, {json.dumps(text)}))), sent.length];")

    assert (error["name"], error["status"], error["message"]) == ("ApiError", 422, NOT_AN_EXPORT)
    assert count == 0


UNFIT: list[object] = [
    *(None, 1, "Milk", [], {}, {"title": None}, {"title": ["Milk"]}, {"title": ""}),
    *({"title": blank} for blank in (" \n\u3000", "\x1c\x85")),
    *({"title": text} for text in ("x" * 201, "a\0b", "\ud800")),
    *({"title": "Milk", "description": text} for text in (1, False, "x" * 1001, "a\0b", "\udfff")),
    *({"title": "Milk", "completed": value} for value in (None, 1, "true")),
]


@pytest.mark.requirement("T185")
def test_nothing_is_imported_if_a_task_does_not_fit(run: Run) -> None:
    faults, count = run(f"""
        const faults = [];
        for (const task of {json.dumps(UNFIT)})
          faults.push(await faultOf(importTasks(api, JSON.stringify([{{ title: "Fits" }}, task]))));
        return [faults.map(told), sent.length];
    """)

    message = "Nothing was imported: entry 2 of this file isn’t a task."
    assert [(fault["status"], fault["message"]) for fault in faults] == [(422, message)] * len(UNFIT)
    assert count == 0


# --- live changes


@pytest.mark.requirement("T148", "T169")
def test_a_page_is_told_of_a_change(run: Run) -> None:
    seen, pauses = run("""
        const watching = watch();
        await sees("");
        await api.create({ title: "Milk" });
        await sees("Milk");
        leaving.abort();
        await watching;
        return [seen, pauses.length];
    """)

    assert (seen, pauses) == (["", "Milk"], 1)


@pytest.mark.requirement("T148", "T169")
def test_a_stream_is_read_in_any_pieces(run: Run) -> None:
    seen = run("""
        fates.push(async (...request) => {
          const response = await send(...request);
          const transform = (bytes, out) => bytes.forEach((byte) => out.enqueue(Uint8Array.of(byte)));
          return new Response(response.body.pipeThrough(new TransformStream({ transform })), response);
        });
        watch();
        await sees("");
        await api.create({ title: "Milk" });
        await sees("Milk");
        return seen;
    """)

    assert seen == ["", "Milk"]


@pytest.mark.requirement("T149", "T169")
def test_a_page_that_was_cut_off_misses_nothing(run: Run) -> None:
    seen, pauses = run("""
        await listen(proxy);
        const { port } = proxy.address();
        watch(open({ url: `http://127.0.0.1:${port}` }));
        await sees("");
        proxy.close();
        ways.forEach((way) => way.destroy());
        await until(() => pauses.length === 1);
        await api.create({ title: "Milk" });
        await until(() => pauses.length > 2);
        await listen(proxy, port);
        await sees("Milk");
        return [seen, pauses];
    """)

    assert seen == ["", "Milk"]
    assert 1000 <= pauses[0] <= 5000
    assert pauses[1:3] == [2 * pauses[0], 4 * pauses[0]]


@pytest.mark.requirement("T151", "T169")
def test_a_page_goes_on_when_its_token_expires(run: Run) -> None:
    seen, pauses, ids = run("""
        let isReady = false;
        tokens.push(shortToken);
        fates.push(send, send, async (...request) => {
          const response = await send(...request);
          const transform = (bytes, out) => (out.enqueue(bytes), (isReady = true));
          return new Response(response.body.pipeThrough(new TransformStream({ transform })), response);
        });
        watch(open());
        await sees("");
        await until(() => isReady);
        await api.create({ title: "Milk" });
        await sees("Milk");
        return [seen, pauses, streams().map(({ headers }) => headers.get("Last-Event-ID"))];
    """)

    assert seen == ["", "Milk"]
    assert len(pauses) == 1
    assert 1000 <= pauses[0] <= 5000
    assert ids[0] == ""
    assert ids[1]


@pytest.mark.requirement("T149", "T169")
def test_a_page_that_could_not_look_looks_again(run: Run) -> None:
    seen, pauses, are_closed = run("""
        const failures = [new Error("no list"), new Error("no list")];
        watch(api, async () => {
          if (failures.length) throw failures.pop();
          await look();
        });
        await sees("");
        return [seen, pauses, streams().map(({ signal }) => signal.aborted)];
    """)

    assert seen == [""]
    assert are_closed == [True, True, False]
    # Each stream has its own `retry`, of 1 to 5 s.
    assert 1000 <= pauses[0] <= 5000
    assert 2000 <= pauses[1] <= 10_000


@pytest.mark.requirement("T152", "T169")
def test_a_page_with_too_many_streams_waits(run: Run) -> None:
    pauses = run("""
        const others = new AbortController();
        const init = { headers: { Authorization: `Bearer ${token}` }, signal: others.signal };
        await Promise.all(Array.from({ length: 20 }, () => send(`${url}/api/tasks/events`, init)));
        watch();
        await until(() => pauses.length === 2);
        others.abort();
        await sees("");
        return pauses;
    """)

    assert pauses[:2] == [5000, 5000]


@pytest.mark.requirement("T149", "T169")
def test_a_page_gives_up_a_dead_connection(run: Run) -> None:
    seen = run("""
        silence = 300;
        fates.push(forever, answer(502, "<html>"));
        watch();
        await until(() => pauses.length > 1);
        await sees("");
        const given = pauses.length;
        await until(() => pauses.length > given);
        await api.create({ title: "Milk" });
        await sees("Milk");
        return seen;
    """)

    assert seen == ["", "Milk"]


@pytest.mark.requirement("T169")
def test_a_page_whose_session_ends_is_told(run: Run) -> None:
    name, seen = run("""
        fates.push(answer(200, { token: shortToken }), send, send, answer(401));
        const error = await faultOf(watch(open({ fetchToken: tokenFrom("/api/auth/token") })));
        return [error.name, seen];
    """)

    assert (name, seen) == ("SignedOutError", [""])


@pytest.mark.requirement("T169")
def test_a_page_that_left_opens_no_stream(run: Run) -> None:
    found = run("""
        leaving.abort();
        await watch();
        return sent.length;
    """)

    assert found == 0
