"""What was dumped is restored, by the commands of the page on backups, which are run as they are written."""
# [Task]: T184 [From]: specs/features/moving.md

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from tests.databases import MakeDatabase, administer, postgres_programs
from tests.leaks import PASSWORD, SECRET
from tests.outside import run_sql
from tests.server import INHERITED, ROOT, running_process
from tests.service import User, make_settings, running
from tests.snippets import (
    COPY_FILE,
    COPY_USER,
    DUMP_ALL,
    DUMP_TASKS,
    REPLACE_FILE,
    REPLACE_TASKS,
    RESTORE_ALL,
    RESTORE_TASKS,
    SKIP_IDS,
    SKIP_SQLITE_IDS,
)
from tests.streams import asking_often, list_id, ready, watching

pytestmark = pytest.mark.requirement("T184")

USERS = "CREATE TABLE \"user\" (id text PRIMARY KEY); INSERT INTO \"user\" VALUES ('ada'), ('bob')"
either_dump = pytest.mark.parametrize(
    "dump", [DUMP_TASKS, DUMP_ALL.replace("todo.dump", "tasks.dump")], ids=["of tasks", "of everything"]
)
KEY = {"Idempotency-Key": "a-key-of-a-post"}


@pytest.fixture
async def databases(make_database: MakeDatabase) -> AsyncIterator[dict[str, str]]:
    """Two empty databases, for a role that is no superuser, as a shell knows them."""
    urls = {name: await make_database("postgresql") for name in ("DATABASE_URL", "NEW_DATABASE_URL")}
    role = f"todo_{uuid4().hex}"
    await administer(urls["DATABASE_URL"], f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    for url in urls.values():
        await administer(url, f"GRANT CREATE ON SCHEMA public TO {role}")
    yield {
        name: make_url(url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)
        for name, url in urls.items()
    }
    for url in urls.values():
        await administer(url, f"DROP OWNED BY {role}")
    await administer(urls["DATABASE_URL"], f"DROP ROLE {role}")


async def type_in(script: str, folder: Path, **environment: str) -> int:
    """Runs a script as a person types it, and returns its exit code. Instead of `uv` there is what it would run."""
    script = script.replace("uv run python", sys.executable)
    script = script.replace("uv run alembic", f"{sys.executable} -m alembic --config {ROOT}/pyproject.toml")
    path = f"{postgres_programs()}:{os.environ['PATH']}"
    environment = INHERITED | {"PATH": path, "BETTER_AUTH_SECRET": SECRET} | environment
    async with running_process("bash", "-euc", script, cwd=folder, env=environment) as shell:
        return await shell.end()


async def seen_by(user: User) -> tuple[list[Any], str]:
    """The list that a user sees, and its tag."""
    answer = await user.get()
    return answer.json(), answer.headers["ETag"]


async def add_tasks(ada: User, bob: User) -> int:
    """Adds tasks of both, one of which is deleted again, and returns the last id that was given."""
    await ada.post({"title": "Milk"}, headers=KEY)
    await ada.new_task("Ünï“'\\\t☕", description="", completed=True)
    await bob.new_task("Bread")
    last: int = (await ada.new_task("Deleted"))["id"]
    await ada.delete(last)
    return last


async def is_known(user: User) -> bool:
    answer = await user.post({"title": "Milk"}, headers=KEY)
    assert answer.status_code == 201
    return "Idempotency-Replayed" in answer.headers


async def test_everything_is_restored_as_it_was(databases: dict[str, str], tmp_path: Path) -> None:
    old, new = databases.values()
    await administer(old, USERS)
    async with running(make_settings(database_url=old, user_table="user")) as service:
        ada, bob = service.user("ada"), service.user("bob")
        last = await add_tasks(ada, bob)
        seen, stream_id = [await seen_by(ada), await seen_by(bob)], await list_id(ada)
        assert await type_in(DUMP_ALL, tmp_path, **databases) == 0

    assert await type_in(RESTORE_ALL, tmp_path, **databases) == 0

    async with running(make_settings(database_url=new, user_table="user")) as service:
        ada, bob = service.user("ada"), service.user("bob")
        assert [await seen_by(ada), await seen_by(bob)] == seen
        (tasks, tag), _ = seen
        assert (await ada.get(headers={"If-None-Match": tag})).status_code == 304
        async with watching(service.app, ada, stream_id) as stream:
            assert await ready(stream) == stream_id
        assert (await ada.new_task())["id"] == last + 1
        assert await is_known(ada)
        changed = await ada.request(
            "PATCH", f"/{tasks[0]['id']}", json={"title": "Rye"}, headers={"If-Match": f'"{tasks[0]["updated_at"]}"'}
        )
        assert changed.status_code == 200
        assert (await ada.get(headers={"If-None-Match": tag})).status_code == 200
        await run_sql(service, "DELETE FROM \"user\" WHERE id = 'ada'")
        assert (await ada.get()).json() == []


@either_dump
async def test_tasks_alone_are_restored_beside_others(databases: dict[str, str], tmp_path: Path, dump: str) -> None:
    old, new = databases.values()
    for url in (old, new):
        await administer(url, USERS)
    async with running(make_settings(database_url=old, user_table="user")) as service:
        ada, bob = service.user("ada"), service.user("bob")
        last = await add_tasks(ada, bob)
        seen = await seen_by(ada), await seen_by(bob)
        assert await type_in(dump, tmp_path, **databases) == 0

    assert await type_in(RESTORE_TASKS, tmp_path, **databases) == 0

    async with running(make_settings(database_url=new, user_table="user")) as service:
        ada, bob = service.user("ada"), service.user("bob")
        for user, (tasks, tag) in zip((ada, bob), seen, strict=True):
            answer = await user.get(headers={"If-None-Match": tag})
            assert (answer.status_code, answer.json()) == (200, tasks)
        assert (await ada.new_task())["id"] == last + 1
        assert await is_known(ada)

        # Once more, it is refused as a whole.
        before = await seen_by(ada), await seen_by(bob)
        assert await type_in(RESTORE_TASKS.splitlines()[-1], tmp_path, **databases) != 0
        assert (await seen_by(ada), await seen_by(bob)) == before


@either_dump
async def test_tasks_are_replaced_while_the_service_runs(databases: dict[str, str], tmp_path: Path, dump: str) -> None:
    url = databases["DATABASE_URL"]
    await administer(url, USERS)
    async with asking_often(database_url=url, user_table="user") as service:
        ada, bob = service.user("ada"), service.user("bob")
        await add_tasks(ada, bob)
        tasks, tag = await seen_by(ada)
        assert await type_in(dump, tmp_path, **databases) == 0
        await ada.delete(tasks[0]["id"])
        lost = await ada.new_task("Lost")
        _, later = await seen_by(ada)
        async with watching(service.app, ada) as stream:
            await ready(stream)

            assert await type_in(REPLACE_TASKS, tmp_path, **databases) == 0

            assert (await stream.next()).event == "changed"
        for known in (tag, later):
            answer = await ada.get(headers={"If-None-Match": known})
            assert (answer.status_code, answer.json()) == (200, tasks)
        assert await is_known(ada)
        assert (await ada.new_task())["id"] > lost["id"]


@pytest.mark.parametrize("hindrance", ["no dump", "half a dump", "no user"])
async def test_tasks_stay_if_they_cannot_be_replaced(databases: dict[str, str], tmp_path: Path, hindrance: str) -> None:
    url = databases["DATABASE_URL"]
    await administer(url, USERS)
    async with running(make_settings(database_url=url, user_table="user")) as service:
        ada, bob = service.user("ada"), service.user("bob")
        await add_tasks(ada, bob)
        assert await type_in(DUMP_TASKS, tmp_path, **databases) == 0
        dump = tmp_path / "tasks.dump"
        if hindrance == "no dump":
            dump.unlink()
        elif hindrance == "half a dump":
            content = dump.read_bytes()
            dump.write_bytes(content[: -len(content) // 20])
        else:
            await run_sql(service, "DELETE FROM \"user\" WHERE id = 'bob'")
        seen = await seen_by(ada), await seen_by(bob)

        assert await type_in(REPLACE_TASKS, tmp_path, **databases) != 0

        assert (await seen_by(ada), await seen_by(bob)) == seen


async def test_an_earlier_state_is_taken_for_no_later_one(databases: dict[str, str], tmp_path: Path) -> None:
    old, new = databases.values()
    async with running(make_settings(database_url=old)) as service:
        user = service.user("ada")
        await user.new_task("Kept")
        kept, _ = await seen_by(user)
        assert await type_in(DUMP_ALL, tmp_path, **databases) == 0
        tags, lost = [], []
        for _ in range(3):
            lost.append((await user.new_task("Lost"))["id"])
            tags.append((await seen_by(user))[1])
        stream_id = await list_id(user)

    assert await type_in(RESTORE_ALL, tmp_path, **databases) == 0
    await administer(new, SKIP_IDS)

    async with running(make_settings(database_url=new)) as service:
        user = service.user("ada")
        async with watching(service.app, user, stream_id) as stream:
            assert await ready(stream) != stream_id
            assert (await stream.next()).event == "changed"
        for change in (False, True):
            if change:
                assert (await user.new_task("New"))["id"] > max(lost)
            for tag in tags:
                answer = await user.get(headers={"If-None-Match": tag})
                assert (answer.status_code, answer.json()[:1]) == (200, kept)


async def test_one_users_tasks_are_copied_back(databases: dict[str, str], tmp_path: Path) -> None:
    old, new = databases.values()
    async with running(make_settings(database_url=old)) as service:
        ada, bob = service.user("ada"), service.user("bob")
        await add_tasks(ada, bob)
        tasks, tag = await seen_by(ada)
        assert await type_in(f"{DUMP_ALL}\n{RESTORE_ALL}", tmp_path, **databases) == 0
        await ada.request("DELETE", "?status=all")
        others = await bob.new_task("Later"), await seen_by(bob)

        assert await type_in(COPY_USER, tmp_path, **databases, RESTORED_URL=new) == 0

        answer = await ada.get(headers={"If-None-Match": tag})
        assert (answer.status_code, answer.json()) == (200, tasks)
        assert await is_known(ada)
        assert await seen_by(bob) == others[1]
        assert await type_in(COPY_USER, tmp_path, **databases, RESTORED_URL=new) != 0
        assert (await ada.new_task())["id"] > others[0]["id"]


async def test_a_file_is_copied_while_the_service_writes(tmp_path: Path) -> None:
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/todo.db")
    made: list[Any] = []
    copied = asyncio.Event()

    async def write(user: User) -> None:
        while not copied.is_set():
            made.append(await user.new_task())

    async with running(settings) as service:
        user = service.user("ada")
        await user.post({"title": "Milk"}, headers=KEY)
        first, _ = await seen_by(user)
        writing = asyncio.create_task(write(user))
        before = await user.new_task()
        assert await type_in(COPY_FILE, tmp_path) == 0
        copied.set()
        await writing
        _, lost = await seen_by(user)
        assert await type_in(COPY_FILE, tmp_path) != 0  # since the backup is there

    assert await type_in(REPLACE_FILE, tmp_path) == 0

    async with running(settings) as service:
        user = service.user("ada")
        tasks = (await user.get("?limit=1000")).json()
        all_tasks = sorted([*first, before, *made], key=itemgetter("id"))
        assert tasks == all_tasks[: len(tasks)]
        assert before in tasks
        assert await is_known(user)
        assert (await user.get(headers={"If-None-Match": lost})).status_code == 200
        await run_sql(service, SKIP_SQLITE_IDS)
        assert (await user.new_task())["id"] > made[-1]["id"]


async def test_no_backup_is_made_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert await type_in(COPY_FILE, tmp_path) != 0

    assert await type_in('test -z "$(ls)"', tmp_path) == 0
