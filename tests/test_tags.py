"""Entity tags: of the list and of a task, unchanged answers, and writes that a change refuses, on both databases."""
# [Task]: T135, T136, T137, T145 [From]: specs/features/task-crud.md, specs/database/schema.md

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from tests.databases import MakeDatabase
from tests.outside import run_sql, transaction
from tests.service import Service, StartService, User, bearer, make_token

LIST_TAG = re.compile(r'W/"[!#-~]{1,64}"')
CHANGED = {"detail": "The task has changed"}
NO_SUCH_TASK = {"detail": "Task not found"}

NO_LISTS = [
    *(
        "",
        ",",
        ", ,",
        "x",
        '"x',
        'x"',
        "W/",
        "W/x",
        'w/"x"',
        '"x" "y"',
        '"x""y"',
        '"x";',
        "'x'",
        "* *",
        '*, "x"',
        '"x", *',
    ),
    *('"x", y', '"x",, y', 'W/ "x"', 'W/W/"x"', '"a b"', '"a\tb"', '"\x7f"', "**", '"*', "%22x%22", '{"x"}'),
]


async def tag_of(user: User, path: str = "") -> str:
    response = await user.get(path)
    assert response.status_code == 200, response.text
    tag: str = response.headers["ETag"]
    return tag


async def get_unless(user: User, tags: Any, path: str = "") -> httpx.Response:
    return await user.get(path, headers={"If-None-Match": tags})


def assert_unchanged(response: httpx.Response, tag: str) -> None:
    assert response.status_code == 304, response.text
    assert response.content == b""
    assert response.headers["ETag"] == tag
    assert "Content-Type" not in response.headers
    assert response.headers.get("Content-Length", "0") == "0"
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["X-Request-ID"]


# The list's tag


@pytest.mark.requirement("T135")
async def test_the_list_has_a_weak_tag(alice: User) -> None:
    empty = await tag_of(alice)
    await alice.new_task()
    tag = await tag_of(alice)

    assert LIST_TAG.fullmatch(empty)
    assert LIST_TAG.fullmatch(tag)
    assert empty != tag
    assert {await tag_of(alice) for _ in range(3)} == {tag}
    assert (await alice.request("HEAD")).headers["ETag"] == tag


@pytest.mark.requirement("T135")
async def test_the_tag_is_the_same_for_each_token(alice: User, service: Service) -> None:
    await alice.new_task()
    tags = set()
    for claims in ({"exp": 4_000_000_000}, {"exp": 4_000_000_001, "name": "other"}):
        response = await service.client.get(alice.tasks_path, headers=bearer(make_token(alice.id, **claims)))
        tags.add(response.headers["ETag"])

    assert tags == {await tag_of(alice)}


Change = Callable[[User, int], Awaitable[httpx.Response]]

CHANGES: dict[str, Change] = {
    "create": lambda user, _: user.post({"title": "new"}),
    "create with a key": lambda user, _: user.post({"title": "new"}, headers={"Idempotency-Key": "1"}),
    "rename": lambda user, task_id: user.put(task_id, {"title": "Renamed"}),
    "describe": lambda user, task_id: user.put(task_id, {"description": "Described"}),
    "complete by PUT": lambda user, task_id: user.put(task_id, {"completed": True}),
    "patch": lambda user, task_id: user.request("PATCH", f"/{task_id}", json={"title": "Renamed"}),
    "flip": lambda user, task_id: user.toggle(task_id),
    "complete": lambda user, task_id: user.toggle(task_id, json={"completed": True}),
    "delete": lambda user, task_id: user.delete(task_id),
    "create many": lambda user, _: user.request("POST", "/bulk", json={"tasks": [{"title": "a"}, {"title": "b"}]}),
    "complete many": lambda user, task_id: user.request("PATCH", "/bulk", json={"ids": [task_id], "completed": True}),
    "delete many": lambda user, task_id: user.request("DELETE", f"?ids={task_id}"),
    "clear": lambda user, _: user.request("DELETE", "?status=pending"),
    "delete all": lambda user, _: user.request("DELETE", "?status=all"),
}


@pytest.mark.requirement("T135", "T145")
@pytest.mark.parametrize("name", CHANGES)
async def test_each_kind_of_write_moves_the_lists_tag(alice: User, bob: User, name: str) -> None:
    task = await alice.new_task()
    await bob.new_task()
    tag, bobs = await tag_of(alice), await tag_of(bob)
    before = (await alice.get()).json()

    response = await CHANGES[name](alice, task["id"])
    assert response.is_success, response.text
    after = await get_unless(alice, tag)

    assert after.status_code == 200
    assert after.headers["ETag"] != tag
    assert after.json() != before
    assert_unchanged(await get_unless(alice, after.headers["ETag"]), after.headers["ETag"])
    assert await tag_of(bob) == bobs


COLUMNS = "user_id, title, completed, created_at, updated_at, idempotency_replayed"
COPY = f"INSERT INTO task ({COLUMNS}) SELECT {COLUMNS} FROM task WHERE id = :id"
SWAP = (
    "UPDATE task SET user_id = CASE user_id WHEN :owner THEN :other ELSE :owner END WHERE user_id IN (:owner, :other)"
)


@pytest.mark.requirement("T135", "T145")
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE task SET title = 'x' WHERE id = :id",
        "UPDATE task SET title = 'x' WHERE user_id = :owner",
        "UPDATE task SET completed = true WHERE user_id IN (:owner, :other)",
        "DELETE FROM task WHERE id = :id",
        "DELETE FROM task WHERE user_id = :owner",
        "DELETE FROM task WHERE user_id IN (:owner, :other)",
        COPY,
        "UPDATE task SET user_id = :other WHERE id = :id",
        "UPDATE task SET user_id = :other WHERE user_id = :owner",
        "UPDATE task SET user_id = :owner WHERE user_id = :other",
        SWAP,
    ],
)
async def test_a_write_from_outside_moves_the_lists_tag(alice: User, bob: User, service: Service, sql: str) -> None:
    task = await alice.new_task("hers")
    await bob.new_task("his")
    tags = [await tag_of(alice), await tag_of(bob)]
    before = [(await user.get()).json() for user in (alice, bob)]

    parameters = {"id": task["id"], "owner": alice.id, "other": bob.id}
    await run_sql(service, sql, **{name: value for name, value in parameters.items() if f":{name}" in sql})

    for user, tag, tasks in zip((alice, bob), tags, before, strict=True):
        response = await get_unless(user, tag)
        if user is alice or ":other" in sql:
            assert response.status_code == 200
            assert response.headers["ETag"] != tag
            assert response.json() != tasks
        else:
            assert_unchanged(response, tag)


@pytest.mark.requirement("T135", "T145")
async def test_a_task_that_moves_to_a_newcomer_moves_both_lists(alice: User, service: Service) -> None:
    task = await alice.new_task()
    newcomer = service.user()
    tags = [await tag_of(alice), await tag_of(newcomer)]

    await run_sql(service, "UPDATE task SET user_id = :other WHERE id = :id", other=newcomer.id, id=task["id"])

    assert (await get_unless(alice, tags[0])).json() == []
    assert [moved["id"] for moved in (await get_unless(newcomer, tags[1])).json()] == [task["id"]]


@pytest.mark.requirement("T135", "T145")
async def test_truncating_moves_every_lists_tag(start: StartService, make_database: MakeDatabase) -> None:
    service = await start(database_url=await make_database("postgresql"))
    users = [service.user() for _ in range(3)]
    for user in users[:2]:
        await user.new_task()
    tags = [await tag_of(user) for user in users]

    await run_sql(service, "TRUNCATE task")

    for user, tag in zip(users[:2], tags, strict=False):
        response = await get_unless(user, tag)
        assert response.status_code == 200
        assert response.json() == []
        assert response.headers["ETag"] != tag
        again = response.headers["ETag"]
        await user.new_task()
        assert await tag_of(user) not in {tag, again}


@pytest.mark.requirement("T135", "T145")
async def test_a_role_with_rights_on_tasks_alone_may_write(start: StartService, make_database: MakeDatabase) -> None:
    url = make_url(await make_database("postgresql"))
    service = await start(database_url=url.render_as_string(hide_password=False))
    alice = service.user()
    task = await alice.new_task()
    tag = await tag_of(alice)
    role = f"clerk_{alice.id[:12]}"

    async with transaction(service) as execute:
        await execute(f"CREATE ROLE {role}")
        await execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON task TO {role}")
        await execute(f"SET LOCAL ROLE {role}")
        await execute("UPDATE task SET title = 'x' WHERE id = :id", id=task["id"])
        await execute("DELETE FROM task WHERE id = :id", id=task["id"])
        await execute("RESET ROLE")
        await execute(f"DROP OWNED BY {role}")
        await execute(f"DROP ROLE {role}")

    response = await get_unless(alice, tag)
    assert (response.status_code, response.json()) == (200, [])


@pytest.mark.requirement("T135")
async def test_a_tag_never_comes_back(alice: User) -> None:
    tags = [await tag_of(alice)]
    for _ in range(3):
        task = await alice.new_task("A")
        tags.append(await tag_of(alice))
        for title in ("B", "A"):
            await alice.put(task["id"], {"title": title})
            tags.append(await tag_of(alice))
        await alice.delete(task["id"])
        tags.append(await tag_of(alice))

    assert len(set(tags)) == len(tags) == 13
    for tag in tags[:-1]:
        assert (await get_unless(alice, tag)).status_code == 200


@pytest.mark.requirement("T135")
async def test_quick_changes_have_a_tag_each(alice: User) -> None:
    tags = set()
    for _ in range(5):
        await asyncio.gather(*(alice.new_task() for _ in range(8)))
        tags.add(await tag_of(alice))

    assert len(tags) == 5


@pytest.mark.requirement("T135")
async def test_a_tag_belongs_to_one_content(alice: User) -> None:
    task = await alice.new_task()
    contents: dict[str, set[bytes]] = {}

    async def read() -> None:
        for _ in range(25):
            response = await alice.get()
            contents.setdefault(response.headers["ETag"], set()).add(response.content)

    async def write(number: int) -> None:
        for turn in range(6):
            before = await tag_of(alice)
            if number % 2:
                await alice.put(task["id"], {"title": f"{number} {turn}"})
            else:
                await alice.new_task(f"{number} {turn}")
            # What was acknowledged is in every later answer.
            assert (await get_unless(alice, before)).status_code == 200

    await asyncio.gather(*(read() for _ in range(4)), *map(write, range(4)))

    assert len(contents) > 1
    assert all(len(seen) == 1 for seen in contents.values())


@pytest.mark.requirement("T135", "T145")
async def test_a_change_counts_when_it_is_committed(start: StartService, make_database: MakeDatabase) -> None:
    service = await start(database_url=await make_database("postgresql"))
    alice = service.user()
    task = await alice.new_task("old")
    tag = await tag_of(alice)

    async with transaction(service) as execute:
        await execute("UPDATE task SET title = 'new' WHERE id = :id", id=task["id"])
        assert_unchanged(await get_unless(alice, tag), tag)
        assert (await alice.get()).json() == [task]

    response = await get_unless(alice, tag)
    assert response.status_code == 200
    assert response.json()[0]["title"] == "new"


@pytest.mark.requirement("T135")
@pytest.mark.parametrize(
    "form",
    [
        "{tag}",
        "{strong}",
        " {tag} ",
        '"other", {tag}',
        '{tag}, "other"',
        '"other",{strong},W/"more"',
        '"other"\t,\t{tag}',
        '"a,b", {tag}',
        '"*", {tag}',
        '"", {tag}',
        '"\\", {tag}',
        "{tag}, {tag}",
        # A list may have empty elements (RFC 9110, section 5.6.1.2).
        ', "other", , {tag},',
        "*",
    ],
)
@pytest.mark.parametrize("query", ["", "?limit=1", "?search=x&status=completed&count=true", "?sort=title&order=desc"])
async def test_an_unchanged_list_is_not_sent(alice: User, form: str, query: str) -> None:
    await alice.new_task()
    await alice.new_task()
    tag = await tag_of(alice, query)
    tags = form.format(tag=tag, strong=tag.removeprefix("W/"))

    assert_unchanged(await get_unless(alice, tags, query), tag)
    assert (await alice.request("HEAD", query, headers={"If-None-Match": tags})).status_code == 304


@pytest.mark.requirement("T135")
async def test_an_empty_list_has_a_tag_too(alice: User) -> None:
    tag = await tag_of(alice)

    assert_unchanged(await get_unless(alice, tag), tag)
    assert_unchanged(await get_unless(alice, "*"), tag)
    await alice.new_task()
    assert len((await get_unless(alice, tag)).json()) == 1


@pytest.mark.requirement("T135")
async def test_a_long_list_of_tags_is_read(alice: User) -> None:
    await alice.new_task()
    tag = await tag_of(alice)
    many = ", ".join(f'"{number}"' for number in range(300))

    assert_unchanged(await get_unless(alice, f"{many}, {tag}"), tag)
    assert (await get_unless(alice, many)).status_code == 200


@pytest.mark.requirement("T135", "T136")
async def test_two_lines_of_tags_are_one_list(alice: User) -> None:
    task = await alice.new_task()
    for path in ("", f"/{task['id']}"):
        tag = await tag_of(alice, path)
        # The spelling makes them two in this dictionary; to HTTP both names are the same.
        for lines in (
            {"If-None-Match": '"other"', "if-none-match": tag},
            {"If-None-Match": tag, "if-none-match": '"other"'},
        ):
            assert_unchanged(await alice.get(path, headers=lines), tag)


@pytest.mark.requirement("T135", "T136")
@pytest.mark.parametrize(
    "form", [*NO_LISTS, "{tag} {tag}", "*, {tag}", "w/{strong}", "{tag};", "{tag}\x01", "{bare}", '"{tag}']
)
async def test_what_is_no_list_of_tags_is_as_if_absent(alice: User, form: str) -> None:
    task = await alice.new_task()
    for path, content in (("", [task]), (f"/{task['id']}", task)):
        tag = await tag_of(alice, path)
        strong = tag.removeprefix("W/")
        tags = form.replace("{tag}", tag).replace("{strong}", strong).replace("{bare}", strong.strip('"'))
        response = await get_unless(alice, tags, path)

        assert response.status_code == 200
        assert response.json() == content
        assert response.headers["ETag"] == tag


@pytest.mark.requirement("T135")
async def test_a_tag_that_was_never_ours_matches_nothing(alice: User, bob: User) -> None:
    task = await alice.new_task()
    await bob.new_task()
    tag = await tag_of(alice)
    owner, _, version = tag.removeprefix('W/"').removesuffix('"').rpartition("-")
    wrong = [
        *('""', 'W/""', '"x"', b'"\xe9\xff"', '"' + "9" * 5_000 + '"', await tag_of(bob), f'"{task["updated_at"]}"'),
        *(
            f'W/"{owner}-{other}"'
            for other in ("", "0", "-1", "9" * 19, "9" * 30, "9" * 5_000, "x", "1e3", "٣".encode().hex())
        ),
        *(
            f'W/"{owner}-{form}"'
            for form in (f"0{version}", f"+{version}", f"{version}.0", f"{version}_", f"-{version}")
        ),
        *(f'W/"{other}-{version}"' for other in ("", "0" * 8, owner.upper() + "g", owner[:-1], owner * 2)),
        *(f'W/"{form}"' for form in (version, owner, "-", f"{owner}{version}", f"{owner}--{version}")),
        *(f'W/"{form}"' for form in (str(2**63 - 1), str(2**63), f"{owner}-{2**63 - 1}", f"{owner}-{2**63}")),
    ]

    for tags in wrong:
        response = await get_unless(alice, tags)
        assert response.status_code == 200, tags
        assert response.json() == [task]
        assert response.headers["ETag"] == tag


@pytest.mark.requirement("T135", "T146")
async def test_no_users_tags_need_a_pattern_of_their_own(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = await tag_of(service.user("first"))
    monkeypatch.setattr("re.compile", None)  # it keeps 512 patterns, and takes 0.1 ms for another

    assert (await get_unless(service.user("second"), tag)).status_code == 200
    assert await tag_of(service.user("third")) != tag


@pytest.mark.requirement("T135")
async def test_a_bad_query_is_told_before_a_tag(alice: User) -> None:
    tag = await tag_of(alice)

    for tags in (tag, "*"):
        assert (await get_unless(alice, tags, "?limit=0")).status_code == 422
        assert (await get_unless(alice, tags, "?colour=red")).status_code == 422
        assert (await get_unless(alice, tags, "?cursor=x")).status_code == 422


@pytest.mark.requirement("T135")
async def test_the_access_is_checked_before_a_tag(alice: User, bob: User, service: Service) -> None:
    tag = await tag_of(alice)

    assert (await bob.get(alice.tasks_path, headers={"If-None-Match": tag})).status_code == 403
    assert (await service.client.get(alice.tasks_path, headers={"If-None-Match": "*"})).status_code == 401


# A task's tag


@pytest.mark.requirement("T136")
async def test_a_tasks_tag_is_the_time_of_its_change(alice: User) -> None:
    created = await alice.post({"title": "x"})
    path = f"/{created.json()['id']}"
    answers = [
        created,
        await alice.get(path),
        await alice.request("PUT", path, json={"title": "y"}),
        await alice.request("PUT", path, json={}),
        await alice.request("PATCH", path, json={"completed": True}),
        await alice.request("PATCH", path, json={}),
        await alice.get(path),
    ]

    for answer in answers:
        assert answer.is_success
        assert answer.headers["ETag"] == f'"{answer.json()["updated_at"]}"'
    assert (await alice.request("HEAD", path)).headers["ETag"] == answers[-1].headers["ETag"]


@pytest.mark.requirement("T136", "T138")
async def test_completing_brings_the_tasks_tag(alice: User) -> None:
    path = f"/{(await alice.new_task())['id']}/complete"

    for content in ({}, {"completed": True}, {"completed": True}):
        answer = await alice.request("PATCH", path, json=content)
        assert answer.headers["ETag"] == f'"{answer.json()["updated_at"]}"'


@pytest.mark.requirement("T136")
async def test_a_replay_brings_the_tasks_present_tag(alice: User) -> None:
    headers = {"Idempotency-Key": "1"}
    task = (await alice.post({"title": "x"}, headers=headers)).json()
    changed = await alice.put(task["id"], {"completed": True})

    again = await alice.post({"title": "x"}, headers=headers)

    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["ETag"] == changed.headers["ETag"] == f'"{changed.json()["updated_at"]}"'


@pytest.mark.requirement("T136", "T137")
@pytest.mark.parametrize("fraction", ["000000", "120000", "000001", "999999"])
async def test_a_tag_is_as_the_json_has_the_time(alice: User, service: Service, fraction: str) -> None:
    task = await alice.new_task()
    await run_sql(
        service, f"UPDATE task SET updated_at = '2026-01-02 03:04:05.{fraction}' WHERE id = :id", id=task["id"]
    )
    listed = (await alice.get()).json()[0]
    tag = f'"{listed["updated_at"]}"'

    response = await alice.get(f"/{task['id']}")

    assert response.json() == listed
    assert response.headers["ETag"] == tag
    assert_unchanged(await get_unless(alice, tag, f"/{task['id']}"), tag)
    assert (await put_if(alice, task["id"], tag)).status_code == 200


@pytest.mark.requirement("T136")
@pytest.mark.parametrize(
    "form",
    ["{tag}", "W/{tag}", " {tag}\t", '"other", {tag}', '{tag},"other"', '"a,b",W/"x" , W/{tag}', ',,"x", {tag},', "*"],
)
async def test_an_unchanged_task_is_not_sent(alice: User, form: str) -> None:
    task = await alice.new_task()
    path, tag = f"/{task['id']}", f'"{task["updated_at"]}"'
    headers = {"If-None-Match": form.format(tag=tag)}

    assert_unchanged(await alice.get(path, headers=headers), tag)
    assert (await alice.request("HEAD", path, headers=headers)).status_code == 304

    await alice.toggle(task["id"])
    changed = await alice.get(path, headers=headers)
    assert changed.status_code == (304 if form == "*" else 200)


@pytest.mark.requirement("T136")
async def test_a_task_that_is_not_there_has_no_tag(alice: User, bob: User) -> None:
    task = await bob.new_task()

    for task_id in (task["id"], 2**63 - 1):
        for tags in ("*", f'"{task["updated_at"]}"'):
            response = await get_unless(alice, tags, f"/{task_id}")
            assert (response.status_code, response.json()) == (404, NO_SUCH_TASK)
            assert "ETag" not in response.headers


@pytest.mark.requirement("T136", "T137")
async def test_dates_of_change_are_not_looked_at(alice: User) -> None:
    task = await alice.new_task()
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"

    for path in ("", f"/{task['id']}"):
        for headers in ({"If-Modified-Since": future}, {"If-Unmodified-Since": past}, {"If-Range": '"x"'}):
            response = await alice.get(path, headers=headers)
            assert response.status_code == 200
            assert "Last-Modified" not in response.headers
    for headers in ({"If-Unmodified-Since": past}, {"If-None-Match": "*"}):
        assert (await alice.put(task["id"], {"title": "y"}, headers=headers)).status_code == 200
    assert (await alice.post({"title": "x"}, headers={"If-None-Match": "*"})).status_code == 201


# Writes under a condition


async def put_if(user: User, task_id: int, tags: Any, content: Any = None) -> httpx.Response:
    return await user.put(task_id, {"title": "New"} if content is None else content, headers={"If-Match": tags})


WRITES: dict[str, tuple[str, str, Any]] = {
    "put": ("PUT", "", {"title": "New"}),
    "patch": ("PATCH", "", {"completed": True}),
    "delete": ("DELETE", "", None),
    "flip": ("PATCH", "/complete", None),
    "complete": ("PATCH", "/complete", {"completed": True}),
    "put all": ("PUT", "", {"title": "New", "description": None, "completed": True, "id": 7}),
    "put nothing": ("PUT", "", {}),
    "patch nothing": ("PATCH", "", {}),
}
WRITE = pytest.mark.parametrize("write", WRITES)


async def send(user: User, task_id: int, write: str, headers: dict[str, Any]) -> httpx.Response:
    method, rest, content = WRITES[write]
    body = {} if content is None else {"json": content}
    return await user.request(method, f"/{task_id}{rest}", headers=headers, **body)


@pytest.mark.requirement("T137")
@WRITE
@pytest.mark.parametrize(
    "form",
    [
        "{tag}",
        # Proxies that compress weaken tags.
        "W/{tag}",
        " {tag} ",
        "*",
        " * ",
        '"other", {tag}',
        '{tag},"other"',
        'W/"other" ,\tW/{tag}',
        '"a,b", {tag}',
        "{tag}, {tag}",
        "{fifteen}, {tag}",
        "{tag}, {fifteen}",
    ],
)
async def test_a_write_is_done_if_a_tag_is_the_tasks(alice: User, write: str, form: str) -> None:
    task = await alice.new_task("Old", description="Old")
    tag = f'"{task["updated_at"]}"'
    tags = form.format(tag=tag, fifteen=", ".join(f'"{n}"' for n in range(15)))

    response = await send(alice, task["id"], write, {"If-Match": tags})

    if write == "delete":
        assert (response.status_code, response.content) == (204, b"")
        assert (await alice.get(f"/{task['id']}")).status_code == 404
        return
    assert response.status_code == 200, response.text
    changed = response.json()
    assert (await alice.get(f"/{task['id']}")).json() == changed
    assert response.headers["ETag"] == f'"{changed["updated_at"]}"'
    assert (changed == task) is write.endswith("nothing")


STALE = [
    "{stale}",
    "W/{stale}",
    '"other"',
    '""',
    '"*"',
    '{stale}, "other"',
    "{sixteen}",
    '"infinity"',
    '"-infinity"',
    '"now"',
    '"epoch"',
    '"NaN"',
    '"0001-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59.999999Z"',
    '"10000-01-01T00:00:00Z"',
    '"2026-02-30T00:00:00Z"',
    '"2026-01-01T25:00:00Z"',
    '"0001-01-01T00:00:00+14:00"',
    '"\\"',
    '"{long}"',
    # Not the tag as the JSON has it.
    '"{bare}"',
    '"{bare}+00:00"',
    '"{bare}z"',
    '"{bare}0Z"',
]


@pytest.mark.requirement("T137")
@pytest.mark.parametrize("form", STALE)
async def test_a_write_to_a_changed_task_is_412(alice: User, form: str) -> None:
    task = await alice.new_task("Old", description="Old")
    for _ in range(2):
        await alice.toggle(task["id"])
    present = (await alice.get(f"/{task['id']}")).json()
    tags = (
        form.replace("{stale}", f'"{task["updated_at"]}"')
        .replace("{sixteen}", ", ".join(f'"{n}"' for n in range(16)))
        .replace("{long}", "9" * 5_000)
        .replace("{bare}", present["updated_at"].removesuffix("Z"))
    )

    for write in WRITES:
        response = await send(alice, task["id"], write, {"If-Match": tags})

        assert (response.status_code, response.json()) == (412, CHANGED), (write, tags)
        assert response.headers["ETag"] == f'"{present["updated_at"]}"'
        assert response.headers["Content-Type"] == "application/json"
        assert (await alice.get(f"/{task['id']}")).json() == present


@pytest.mark.requirement("T137")
async def test_a_tag_of_other_bytes_does_not_match(alice: User, bob: User) -> None:
    task = await alice.new_task()
    other = await alice.new_task()
    wrong = [b'"\xe9"', b'"\xff\xfe\x80"', await tag_of(alice), f'"{other["updated_at"]}"', await tag_of(bob)]

    for tags in wrong:
        response = await put_if(alice, task["id"], tags)
        assert (response.status_code, response.headers["ETag"]) == (412, f'"{task["updated_at"]}"')
    assert (await alice.get(f"/{task['id']}")).json() == task


@pytest.mark.requirement("T137")
@pytest.mark.parametrize(
    "form",
    [
        *NO_LISTS,
        "{tag} {tag}",
        "*, {tag}",
        "{tag}, *",
        "w/{tag}",
        "{tag};",
        "{bare}",
        "{seventeen}",
        "{tag}, {sixteen}",
    ],
)
async def test_what_is_no_list_of_tags_is_refused(alice: User, form: str) -> None:
    task = await alice.new_task("Old", description="Old")
    tags = (
        form.replace("{tag}", f'"{task["updated_at"]}"')
        .replace("{bare}", task["updated_at"])
        .replace("{seventeen}", ", ".join(f'"{n}"' for n in range(17)))
        .replace("{sixteen}", ", ".join(f'"{n}"' for n in range(16)))
    )

    for write in WRITES:
        response = await send(alice, task["id"], write, {"If-Match": tags})

        assert response.status_code == 422, (write, tags)
        assert response.json()["detail"][0]["loc"] == ["header", "If-Match"]
        assert (await alice.get(f"/{task['id']}")).json() == task
        # It is said without a look at the database.
        missing = await send(alice, 2**63 - 1, write, {"If-Match": tags})
        assert missing.json() == response.json()


@pytest.mark.requirement("T137")
@WRITE
async def test_two_lines_of_conditions_are_one_list(alice: User, write: str) -> None:
    nine, eight = [", ".join(f'"{number}"' for number in range(count)) for count in (9, 8)]
    task = await alice.new_task("Old", description="Old")
    tag = f'"{task["updated_at"]}"'

    for lines, status in (
        # The spelling makes them two in this dictionary; to HTTP both names are the same.
        ({"If-Match": '"other"', "if-match": '"more"'}, 412),
        ({"If-Match": nine, "if-match": eight}, 422),
        ({"If-Match": "*", "if-match": tag}, 422),
        ({"If-Match": tag, "if-match": "x"}, 422),
        ({"If-Match": "x", "if-match": tag}, 422),
        ({"If-Match": '"other"', "if-match": tag}, 204 if write == "delete" else 200),
    ):
        assert (await send(alice, task["id"], write, lines)).status_code == status


@pytest.mark.requirement("T137")
@pytest.mark.parametrize("tags", ['"stale"', "{tag}", "x", "", "*"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_bad_body_is_told_before_a_condition(alice: User, method: str, tags: str) -> None:
    task = await alice.new_task()
    path, headers = f"/{task['id']}", {"If-Match": tags.format(tag=f'"{task["updated_at"]}"')}

    wrong = await alice.request(method, path, json={"title": ""}, headers=headers)
    broken = await alice.request(method, path, content=b"{", headers=headers | {"Content-Type": "application/json"})
    untyped = await alice.request(method, path, content=b"{}", headers=headers)

    assert wrong.status_code == broken.status_code == 422
    assert wrong.json()["detail"][0]["loc"] == ["body", "title"]
    assert broken.json()["detail"][0]["loc"][0] == "body"
    assert untyped.status_code == 415
    assert (await alice.get(path)).json() == task


@pytest.mark.requirement("T137")
@WRITE
@pytest.mark.parametrize("tags", ['"stale"', "{tag}", "*", 'W/"x"'])
async def test_a_task_that_is_not_there_is_404_not_412(alice: User, bob: User, write: str, tags: str) -> None:
    hers, gone = await alice.new_task(), await bob.new_task()
    await bob.delete(gone["id"])

    for task in (hers, gone):
        response = await send(bob, task["id"], write, {"If-Match": tags.format(tag=f'"{task["updated_at"]}"')})
        assert (response.status_code, response.json()) == (404, NO_SUCH_TASK)
        assert "ETag" not in response.headers
    assert (await alice.get(f"/{hers['id']}")).json() == hers


@pytest.mark.requirement("T137")
@pytest.mark.parametrize(
    "writes",
    [["put"], ["patch"], ["delete"], ["put", "delete"], ["put", "patch", "put", "delete"], ["put all", "put nothing"]],
    ids="+".join,
)
async def test_of_eight_racers_one_is_done(alice: User, writes: list[str]) -> None:
    for _ in range(6):
        task = await alice.new_task("Old")
        headers = {"If-Match": f'"{task["updated_at"]}"'}
        racers = [writes[number % len(writes)] for number in range(8)]

        answers = await asyncio.gather(*(send(alice, task["id"], write, headers) for write in racers))

        changing = [answer for write, answer in zip(racers, answers, strict=True) if not write.endswith("nothing")]
        (winner,) = [answer for answer in changing if answer.is_success]
        losers = [answer for answer in answers if not answer.is_success]
        assert len(losers) == 7 or "put nothing" in racers
        if winner.status_code == 204:
            assert {answer.status_code for answer in losers} == {404}
            assert (await alice.get(f"/{task['id']}")).json() == NO_SUCH_TASK
        else:
            for answer in losers:
                assert (answer.status_code, answer.json()) == (412, CHANGED)
                assert answer.headers["ETag"] == winner.headers["ETag"]
            assert (await alice.get(f"/{task['id']}")).json() == winner.json()


@pytest.mark.requirement("T137")
async def test_a_loser_is_told_what_was_committed_meanwhile(start: StartService, make_database: MakeDatabase) -> None:
    service = await start(database_url=await make_database("postgresql"))
    alice = service.user()
    for sql, status in (
        ("UPDATE task SET updated_at = updated_at + INTERVAL '1 hour' WHERE id = :id", 412),
        ("DELETE FROM task WHERE id = :id", 404),
    ):
        for write in ("put", "patch", "delete", "flip", "put nothing"):
            task = await alice.new_task()
            async with transaction(service) as execute:
                await execute(sql, id=task["id"])
                headers = {"If-Match": f'"{task["updated_at"]}"'}
                pending = asyncio.create_task(send(alice, task["id"], write, headers))
                await asyncio.wait([pending], timeout=0.3)
                # A write waits for the row; a check alone may answer by what is committed.
                assert not pending.done() or write == "put nothing"
                waited = not pending.done()
            answer = await pending

            assert answer.status_code == (status if waited else 200)
            if answer.status_code == 412:
                assert answer.headers["ETag"] == await tag_of(alice, f"/{task['id']}")


@pytest.mark.requirement("T137")
async def test_no_change_is_lost_among_careful_clients(alice: User) -> None:
    task = await alice.new_task("0")

    async def count() -> None:
        for _ in range(4):
            while True:
                response = await alice.get(f"/{task['id']}")
                content = {"title": str(int(response.json()["title"]) + 1)}
                if (await put_if(alice, task["id"], response.headers["ETag"], content)).status_code == 200:
                    break

    await asyncio.gather(*(count() for _ in range(6)))

    assert (await alice.get(f"/{task['id']}")).json()["title"] == "24"


@pytest.mark.requirement("T137")
async def test_a_tag_is_good_for_one_change(alice: User) -> None:
    task = await alice.new_task()
    first = await put_if(alice, task["id"], f'"{task["updated_at"]}"')

    assert (await put_if(alice, task["id"], f'"{task["updated_at"]}"')).status_code == 412
    assert (await put_if(alice, task["id"], first.headers["ETag"])).status_code == 200


@pytest.mark.requirement("T137")
@pytest.mark.parametrize("write", ["put", "patch", "delete", "flip"])
async def test_a_condition_is_never_required(alice: User, write: str) -> None:
    task = await alice.new_task()

    assert (await send(alice, task["id"], write, {})).is_success


@pytest.mark.requirement("T137")
async def test_the_access_is_checked_before_a_condition(plain_service: Service) -> None:
    alice, bob = plain_service.user(), plain_service.user()
    task = await alice.new_task()

    for tags in ("*", "", "x", f'"{task["updated_at"]}"'):
        response = await bob.request(
            "PUT", f"{alice.tasks_path}/{task['id']}", content=b"{", headers={"If-Match": tags}
        )
        assert response.status_code == 403
        assert "ETag" not in response.headers


@pytest.mark.requirement("T135", "T137")
async def test_a_browser_may_send_conditions_and_read_tags(plain_service: Service) -> None:
    origin = {"Origin": "http://localhost:3000"}
    alice = plain_service.user()
    task = await alice.new_task()
    preflight = await plain_service.client.options(
        f"{alice.tasks_path}/{task['id']}",
        headers=origin
        | {
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization,content-type,if-match,if-none-match",
        },
    )
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()

    assert preflight.status_code in {200, 204}
    assert "if-match" in allowed
    assert "if-none-match" in allowed
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"].split(", ")
    for response in (
        await alice.put(task["id"], {"title": "x"}, headers=origin | {"If-Match": '"stale"'}),
        await alice.get(headers=origin | {"If-None-Match": "*"}),
    ):
        assert response.status_code in {412, 304}
        assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        assert "ETag" in response.headers["Access-Control-Expose-Headers"].split(", ")
