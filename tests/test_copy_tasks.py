"""Another program's tasks, copied into the service's table."""
# [Task]: T180, T181, T182, T183 [From]: specs/features/moving.md

import asyncio
import os
import re
import signal
import sqlite3
import sys
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from commands.copy_tasks import copy_tasks, read_arguments
from config import DatabaseURL
from db import create_engine
from errors import StartupError
from tests.conftest import BACKENDS
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import INHERITED, ROOT, Process, pick_port, running_process
from tests.service import make_settings, running
from tests.snippets import VIEW_TO_COPY

# How many rows the long copies have. A million give the figures in docs/coming-over.md.
ROWS = int(os.environ.get("TEST_ROWS", "25000"))
NUMBER_ID = {"postgresql": "serial PRIMARY KEY", "sqlite": "integer PRIMARY KEY"}
# What the usual tutorials make, and the rows of two users.
SQLMODEL = """
CREATE TABLE {table} (id {id}, user_id varchar NOT NULL, title varchar NOT NULL, description varchar,
  completed boolean NOT NULL DEFAULT false, priority varchar,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL)
"""
ROWS_OF_TWO = """
INSERT INTO {table} (user_id, title, description, completed, priority, created_at, updated_at) VALUES
  ('ada', 'Buy milk', NULL, false, 'high', '2024-03-01 10:00:00', '2024-03-02 11:30:00.250000'),
  ('bob', '  Call mum ', 'On Sunday', true, NULL, '2024-03-01 10:00:00', '2024-03-01 10:00:00'),
  ('ada', 'Pay rent', '', true, NULL, '2024-03-03 08:00:00', '2024-03-03 07:00:00')
"""
OWNERS = """
CREATE TABLE todos (id {id}, title varchar, complete boolean, owner_id integer)
"""


async def execute(url: str, *statements: str) -> list[Any]:
    """Runs statements as another program does, and returns the rows of the last."""
    engine = create_engine(make_settings(database_url=url))
    rows: list[Any] = []
    async with engine.begin() as connection:
        for statement in statements:
            result = await connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in result] if result.returns_rows else []
    await engine.dispose()
    return rows


def backend_of(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql"


async def make_table(url: str, table: str = "tasks", schema: str = SQLMODEL, rows: str = ROWS_OF_TWO) -> None:
    made = schema.format(table=table, id=NUMBER_ID[backend_of(url)])
    await execute(url, made, *([rows.format(table=table)] if rows else []))


async def copy(url: str, *arguments: str, source: str | None = None, **settings: Any) -> list[str]:
    made = make_settings(database_url=url, **settings)
    return await copy_tasks(read_arguments(list(arguments)), made, DatabaseURL(source or url))


async def refusal_of(url: str, *arguments: str, **options: Any) -> str:
    with pytest.raises(StartupError) as error:
        await copy(url, *arguments, **options)
    return "\n".join(error.value.reasons)


async def tables_of(url: str) -> set[str]:
    names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    if backend_of(url) == "postgresql":
        names = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
    return {name for (name,) in await execute(url, names)}


def command(folder: Path, url: str, *arguments: str, **environment: str) -> AbstractAsyncContextManager[Process]:
    """The command as a person types it."""
    options = {"DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET, "PYTHONPATH": str(ROOT)} | environment
    program = (sys.executable, "-m", "commands.copy_tasks", *arguments)
    return running_process(*program, cwd=folder, env=INHERITED | options)


@pytest.mark.requirement("T180", "T181", "T182")
async def test_a_tutorials_table_is_copied_within_its_database(database_url: str) -> None:
    await make_table(database_url)
    before = await execute(database_url, "SELECT * FROM tasks ORDER BY id")

    shown = await copy(database_url)

    assert re.fullmatch(r"From the table tasks of .+:", shown[0])
    assert shown[1:] == [
        "Rows that fit: 3",
        "Times without a zone are taken for UTC.",
        "Columns that stay behind: priority",
        "Nothing was changed. To copy, add --apply.",
    ]
    assert await tables_of(database_url) == {"tasks"}

    assert (await copy(database_url, "--apply"))[-1] == "Copied."

    async with running(make_settings(database_url=database_url)) as service:
        ada, bob = service.user("ada"), service.user("bob")
        assert (await ada.get()).json() == [
            {
                "id": 1,
                "user_id": "ada",
                "title": "Buy milk",
                "description": None,
                "completed": False,
                "created_at": "2024-03-01T10:00:00Z",
                "updated_at": "2024-03-02T11:30:00.250000Z",
            },
            {
                "id": 3,
                "user_id": "ada",
                "title": "Pay rent",
                "description": "",
                "completed": True,
                "created_at": "2024-03-03T08:00:00Z",
                "updated_at": "2024-03-03T08:00:00Z",
            },
        ]
        (task,) = (await bob.get()).json()
        assert (task["id"], task["title"], task["description"]) == (2, "Call mum", "On Sunday")
        assert (await ada.new_task())["id"] > 3
        # The next run finds them, whatever has become of them.
        await bob.put(2, {"title": "Call dad"})
    assert await execute(database_url, "SELECT * FROM tasks ORDER BY id") == before
    assert (await copy(database_url, "--apply"))[1:3] == ["Rows that fit: 0", "Rows that were copied before: 3"]


@pytest.mark.requirement("T181", "T183")
async def test_a_table_of_the_same_name_is_renamed(database_url: str) -> None:
    await make_table(database_url, "task")
    settings = make_settings(database_url=database_url)
    with pytest.raises(StartupError, match=r"uv run python -m commands\.copy_tasks"):
        async with running(settings):
            pass
    before = await execute(database_url, "SELECT * FROM task ORDER BY id")

    assert "The table task is renamed to other_task." in await copy(database_url)
    assert await tables_of(database_url) == {"task"}
    assert "The table task is renamed to other_task." in await copy(database_url, "--apply")

    assert await execute(database_url, "SELECT * FROM other_task ORDER BY id") == before
    async with running(settings) as service:
        assert [task["id"] for task in (await service.user("ada").get()).json()] == [1, 3]
        assert (await service.user("ada").new_task())["id"] > 3
    again = await copy(database_url, "--apply", "--table", "other_task")
    assert again[1:3] == ["Rows that fit: 0", "Rows that were copied before: 3"]


@pytest.mark.requirement("T181")
async def test_a_second_table_of_the_old_name_is_refused(database_url: str) -> None:
    await make_table(database_url, "task")
    await make_table(database_url, "other_task")

    assert "other_task" in await refusal_of(database_url)
    assert "other_task" in await refusal_of(database_url, "--apply")
    assert len(await execute(database_url, "SELECT * FROM task")) == 3


@pytest.mark.requirement("T180", "T182")
@pytest.mark.parametrize("target_backend", BACKENDS)
async def test_another_database_of_the_service_is_copied_with_its_keys(
    make_database: MakeDatabase, database_url: str, target_backend: str
) -> None:
    target = await make_database(target_backend)
    key = {"Idempotency-Key": "of-the-post"}
    async with running(make_settings(database_url=database_url)) as service:
        ada = service.user("ada")
        first = (await ada.post({"title": "Buy milk"}, headers=key)).json()
        await ada.delete((await ada.new_task())["id"])
        last = await ada.new_task("Last", description="d", completed=True)
        tasks = (await ada.get()).json()

    assert (await copy(target, "--apply", source=database_url))[1] == "Rows that fit: 2"

    async with running(make_settings(database_url=target)) as service:
        ada = service.user("ada")
        assert (await ada.get()).json() == tasks
        assert (await ada.post({"title": "Buy milk"}, headers=key)).json() == first
        assert (await ada.new_task())["id"] > last["id"]
        assert (await ada.get("?limit=1", headers={"If-None-Match": 'W/"0"'})).status_code == 200
    assert (await copy(target, "--apply", source=database_url))[2] == "Rows that were copied before: 2"


LONG = "x" * 201
MISFITS = {
    "title: string should have at most 200 characters": f"(1, 'ada', '{LONG}', NULL, '2024-03-01', false)",
    "title: string should have at least 1 character": "(2, 'ada', '  ', NULL, '2024-03-01', false)",
    "title: input should be a valid string": "(3, 'ada', NULL, NULL, '2024-03-01', false)",
    "description: string should have at most 1000 characters": f"(4, 'ada', 't', '{LONG * 5}', '2024-03-01', false)",
    "user_id: there is none": "(5, NULL, 't', NULL, '2024-03-01', false)",
    "user_id: string should have at least 1 character": "(6, '', 't', NULL, '2024-03-01', false)",
    "user_id: string should have at most 255 characters": f"(7, '{LONG * 2}', 't', NULL, '2024-03-01', false)",
    "created_at: time should be between 1970 and tomorrow": "(8, 'ada', 't', NULL, '1969-12-31', false)",
    "id: input should be greater than or equal to 1": "(0, 'ada', 't', NULL, '2024-03-01', false)",
    "id: input should be less than or equal to 4503599627370496": (
        "(4503599627370497, 'ada', 't', NULL, '2024-03-01', false)"
    ),
    "id: input should be a valid integer": "(NULL, 'ada', 't', NULL, '2024-03-01', false)",
}
WITHOUT_BOUNDS = (
    "CREATE TABLE tasks (id bigint, user_id text, title text, description text, created_at timestamp, done bool)"
)


@pytest.mark.requirement("T180", "T182")
@pytest.mark.parametrize("reason", MISFITS)
async def test_a_row_that_does_not_fit_is_shown(database_url: str, reason: str) -> None:
    row = MISFITS[reason]
    await execute(
        database_url, WITHOUT_BOUNDS, f"INSERT INTO tasks VALUES (20, 'ada', 'fits', '', '2024-03-01', true), {row}"
    )
    row_id = row[1 : row.index(",")].replace("NULL", "None")

    for arguments in ([], ["--apply"]):
        refusal = await refusal_of(database_url, *arguments)
        assert f"\nRows that fit: 1\nRows that don't fit: 1, {reason} (id {row_id})\n" in refusal
        assert refusal.endswith("Nothing was changed. Mend the rows that don't fit, or add --leave-out.")
        assert "xxx" not in refusal
        assert await tables_of(database_url) == {"tasks"}

    assert f"Rows that don't fit: 1, {reason} (id {row_id})" in await copy(database_url, "--leave-out", "--apply")
    assert await execute(database_url, "SELECT id FROM task") == [(20,)]


ON_SQLITE = {
    "title: text can't contain a NUL character": "(1, 'ada', 'a' || char(0), '', '2024-03-01', 0)",
    "description: text can't contain a NUL character": "(1, 'ada', 'a', 'a' || char(0), '2024-03-01', 0)",
    "user_id: text can't contain a NUL character": "(1, 'a' || char(0), 'a', '', '2024-03-01', 0)",
    "id: input should be a valid integer": "('one', 'ada', 'a', '', '2024-03-01', 0)",
    "completed: input should be a valid boolean": "(1, 'ada', 'a', '', '2024-03-01', 'maybe')",
    "created_at: input should be a valid datetime or date": "(1, 'ada', 'a', '', 'yesterday', 0)",
    "created_at: time should be between 1970 and tomorrow": "(1, 'ada', 'a', '', '9999-12-31', 0)",
    "title: input should be a valid string, unable to parse raw data as a unicode string": (
        "(1, 'ada', CAST(x'ff' AS text), '', '2024-03-01', 0)"
    ),
}


@pytest.mark.requirement("T182")
@pytest.mark.parametrize("reason", ON_SQLITE)
async def test_anything_in_a_column_of_sqlite_is_told_apart(make_database: MakeDatabase, reason: str) -> None:
    url = await make_database("sqlite")
    await execute(url, WITHOUT_BOUNDS, f"INSERT INTO tasks VALUES {ON_SQLITE[reason]}")

    assert f"Rows that don't fit: 1, {reason}" in await refusal_of(url)


@pytest.mark.requirement("T182")
async def test_many_misfits_are_counted(database_url: str) -> None:
    rows = ", ".join(f"({number}, NULL, 't', NULL, '2024-03-01', false)" for number in range(1, 1001))
    await execute(database_url, WITHOUT_BOUNDS, f"INSERT INTO tasks VALUES {rows}")

    assert "Rows that don't fit: 1,000, user_id: there is none (id 1, 2, 3, 4, 5, …)" in await refusal_of(database_url)


@pytest.mark.requirement("T182")
async def test_an_id_is_copied_once(database_url: str) -> None:
    twice = "(1, 'ada', 'first', NULL, '2024-03-01', false), (1, 'ada', 'second', NULL, '2024-03-02', false)"
    await execute(database_url, WITHOUT_BOUNDS, f"INSERT INTO tasks VALUES {twice}")
    assert "Rows that don't fit: 1, id: another row has it, too (id 1)" in await refusal_of(database_url)

    await execute(database_url, "DELETE FROM tasks WHERE title = 'second'")
    async with running(make_settings(database_url=database_url)) as service:
        assert (await service.user("ada").new_task())["id"] == 1

    assert "Rows that don't fit: 1, id: another task of the service has it (id 1)" in await refusal_of(
        database_url, "--apply"
    )


@pytest.mark.requirement("T182")
async def test_a_row_that_became_another_is_no_copy(make_database: MakeDatabase) -> None:
    url = await make_database("sqlite")
    rows = "(1, 'ada', 'a', NULL, '2024-03-01', false), (2, 'ada', 'b', NULL, NULL, false)"
    await execute(url, WITHOUT_BOUNDS, f"INSERT INTO tasks VALUES {rows}")
    await copy(url, "--apply")

    await execute(url, "UPDATE tasks SET user_id = 'eve' WHERE id = 1", "UPDATE tasks SET title = 'c' WHERE id = 2")

    assert "Rows that don't fit: 2, id: another task of the service has it (id 1, 2)" in await refusal_of(url)


@pytest.mark.requirement("T182")
async def test_rows_without_times_and_with_numbers_for_users_fit(database_url: str) -> None:
    await make_table(
        database_url, "todos", OWNERS, "INSERT INTO todos (title, complete, owner_id) VALUES ('t', NULL, 7)"
    )

    assert (await copy(database_url, "--apply"))[1] == "Rows that fit: 1"
    assert (await copy(database_url, "--apply"))[2] == "Rows that were copied before: 1"

    assert await execute(database_url, "SELECT user_id, title FROM task WHERE NOT completed") == [("7", "t")]


@pytest.mark.requirement("T182")
async def test_uuids_of_users_fit(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    user_id = "0198c1f0-0000-7000-8000-000000000001"
    made = "CREATE TABLE tasks (id int, user_id uuid, title text)"
    await execute(url, made, f"INSERT INTO tasks VALUES (1, '{user_id}', 't')")

    await copy(url, "--apply")

    assert await execute(url, "SELECT user_id FROM task") == [(user_id,)]


@pytest.mark.requirement("T180")
async def test_times_are_read_in_the_zone_that_is_given(database_url: str) -> None:
    await make_table(database_url)

    assert "Times without a zone are taken for Europe/Berlin." in await copy(
        database_url, "--time-zone", "Europe/Berlin", "--apply"
    )

    async with running(make_settings(database_url=database_url)) as service:
        task = (await service.user("ada").get("/1")).json()
    assert (task["created_at"], task["updated_at"]) == ("2024-03-01T09:00:00Z", "2024-03-02T10:30:00.250000Z")


@pytest.mark.requirement("T182")
async def test_the_user_has_to_be_in_the_user_table(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    await execute(url, 'CREATE TABLE "user" (id text PRIMARY KEY)', "INSERT INTO \"user\" VALUES ('ada')")
    await make_table(url)

    for table in ("user", "public.user"):
        refusal = await refusal_of(url, user_table=table)
        assert "Rows that don't fit: 1, user_id: there is no such user in USER_TABLE (id 2)" in refusal

    await copy(url, "--apply", "--leave-out", user_table="user")
    async with running(make_settings(database_url=url, user_table="user")):
        pass
    assert await execute(url, "SELECT id FROM task ORDER BY id") == [(1,), (3,)]


@pytest.mark.requirement("T180")
@pytest.mark.parametrize(
    ("tables", "arguments", "reason"),
    [
        ([], [], "There is no table tasks or todos or todo. Name another, or a view, with --table."),
        ([], ["--table", "mine"], "There is no table mine. Name another, or a view, with --table."),
        (["tasks", "todos"], [], "There are the tables tasks and todos. Name one of them with --table."),
        (["task", "tasks"], [], "There are the tables tasks and task. Name one of them with --table."),
        (["task", "tasks"], ["--table", "tasks"], "has a table `task` already, which isn't this service's."),
    ],
)
async def test_a_table_that_cannot_be_chosen_is_refused(
    database_url: str, tables: list[str], arguments: list[str], reason: str
) -> None:
    await execute(database_url, "SELECT 1")
    for table in tables:
        await make_table(database_url, table)

    assert reason in await refusal_of(database_url, *arguments)


@pytest.mark.requirement("T180")
async def test_a_table_without_users_is_refused(database_url: str) -> None:
    await execute(database_url, "CREATE TABLE tasks (id integer, title text)")

    assert "The table tasks has no column user_id." in await refusal_of(database_url)


@pytest.mark.requirement("T180")
async def test_a_table_of_a_schema_is_found(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    await execute(url, "CREATE SCHEMA old")
    await make_table(url, "old.tasks")

    assert (await copy(url, "--table", "old.tasks", "--apply"))[1] == "Rows that fit: 3"


@pytest.mark.requirement("T181")
async def test_the_service_takes_no_id_meanwhile(make_database: MakeDatabase, tmp_path: Path) -> None:
    """The copy is stopped in its middle by a trigger that waits, and a POST waits behind it."""
    url = await make_database("postgresql")
    async with running(make_settings(database_url=url)) as service:
        await make_many(url)
        await execute(url, *WAITING["postgresql"])
        engine = create_engine(make_settings(database_url=url))
        async with engine.connect() as holder:
            await holder.exec_driver_sql("SELECT pg_advisory_lock(7)")
            async with command(tmp_path, url, "--apply") as copying:
                await copying.wait_for(r"10,000 rows …")
                post = asyncio.create_task(service.user("ada").new_task())
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                async with asyncio.timeout(60):
                    while (await execute(url, waiting)) != [(2,)]:  # noqa: ASYNC110 - there is no event
                        await asyncio.sleep(0.02)
                await holder.exec_driver_sql("SELECT pg_advisory_unlock(7)")
                assert await copying.end() == 0, copying.output
            assert (await post)["id"] > ROWS
        await engine.dispose()
    assert await execute(url, "SELECT count(*) FROM task") == [(ROWS + 1,)]


@pytest.mark.requirement("T180")
async def test_the_view_of_the_page_can_be_copied(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    await execute(
        url,
        "CREATE TABLE users (id serial PRIMARY KEY, email text)",
        'CREATE TABLE "user" (id text PRIMARY KEY, email text)',
        "CREATE TABLE items (id serial PRIMARY KEY, owner integer, name text, state text, created timestamp)",
        "INSERT INTO users (email) VALUES ('Ada@example.com'), ('bob@example.com')",
        "INSERT INTO \"user\" VALUES ('ada', 'ada@example.com')",
        f"INSERT INTO items (owner, name, state, created) VALUES (1, '{LONG}', 'done', now()), (2, 'b', 'new', now())",
        VIEW_TO_COPY,
    )

    shown = await copy(url, "--table", "tasks_to_copy", "--apply", "--leave-out")

    assert shown[1:3] == ["Rows that fit: 1", "Rows that don't fit: 1, user_id: there is none (id 2)"]
    rows = await execute(url, "SELECT id, user_id, title, description, completed FROM task")
    assert rows == [(1, "ada", LONG[:200], LONG, True)]


async def make_many(url: str, rows: int = ROWS) -> None:
    numbers = f"SELECT number FROM generate_series(1, {rows}) AS number"
    if backend_of(url) == "sqlite":
        numbers = (
            "WITH RECURSIVE counted (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM counted"
            f" WHERE number < {rows}) SELECT number FROM counted"
        )
    filled = (
        "INSERT INTO tasks (user_id, title, completed, created_at, updated_at) SELECT 'user ' || number % 100,"
        f" 'Task ' || number, false, '2024-03-01 10:00:00', '2024-03-01 10:00:00' FROM ({numbers}) AS numbers"
    )
    await make_table(url, rows=filled)


# Triggers that stop a copy behind its first ten thousand rows: until a lock is free, or for ever.
WAITING = {
    "postgresql": [
        """CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END'""",
        "CREATE TRIGGER wait BEFORE INSERT ON task FOR EACH ROW WHEN (NEW.id = 15000) EXECUTE FUNCTION wait()",
    ],
    "sqlite": [
        """CREATE TRIGGER wait BEFORE INSERT ON task WHEN NEW.id = 15000 BEGIN SELECT count(*) FROM (
        WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT 1 FROM endless) SELECT n FROM endless); END"""
    ],
}


@pytest.mark.requirement("T181")
async def test_a_killed_copy_leaves_everything_as_it_was(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(database_url=database_url)) as service:
        await service.user("ada").new_task("Before")
    await execute(database_url, *WAITING[backend_of(database_url)])
    before = await execute(database_url, "SELECT * FROM task")
    await make_many(database_url)
    await execute(database_url, "DELETE FROM tasks WHERE id = 1")
    engine = create_engine(make_settings(database_url=database_url))
    async with engine.connect() as holder:
        if backend_of(database_url) == "postgresql":
            await holder.exec_driver_sql("SELECT pg_advisory_lock(7)")
        async with command(tmp_path, database_url, "--apply") as copying:
            await copying.wait_for(r"10,000 rows …")
            copying.process.kill()
            await copying.end()
    await engine.dispose()

    assert await execute(database_url, "SELECT * FROM task") == before
    on = " ON task" if backend_of(database_url) == "postgresql" else ""
    await execute(database_url, f"DROP TRIGGER wait{on}")
    assert (await copy(database_url, "--apply"))[1] == f"Rows that fit: {ROWS - 1:,}"


@pytest.mark.requirement("T180")
async def test_the_command_prints_what_it_does(database_url: str, tmp_path: Path) -> None:
    await make_table(database_url)

    async with command(tmp_path, database_url) as shown:
        assert await shown.end() == 0
    assert shown.output.endswith("Nothing was changed. To copy, add --apply.\n")

    async with command(tmp_path, database_url, COPY_FROM=f"sqlite:///{tmp_path}/none.db") as refused:
        assert await refused.end() == 1
    assert refused.output == f"There is no file {tmp_path}/none.db yet.\n"

    async with command(tmp_path, database_url, COPY_FROM="mysql://root:hunter2@db.example.com/old") as refused:
        assert await refused.end() == 1
    assert refused.output == "COPY_FROM has an unknown scheme; postgresql:// and sqlite:// are served.\n"

    async with command(tmp_path, database_url, "--time-zone", "Mars") as refused:
        assert await refused.end() == 2
    assert refused.output.endswith("write a time zone as Europe/Berlin\n")


@pytest.mark.requirement("T180")
async def test_a_file_that_is_missing_is_created_by_a_copy_alone(make_database: MakeDatabase) -> None:
    source, target = await make_database("postgresql"), await make_database("sqlite")
    await make_table(source)

    for _ in range(2):
        assert "/todo.db yet." in await refusal_of(target, source=source)

    await copy(target, "--apply", source=source)
    assert len(await execute(target, "SELECT * FROM task")) == 3


@pytest.mark.requirement("T181")
async def test_a_copy_that_is_interrupted_says_so_in_a_line(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = await make_database("sqlite")
    async with running(make_settings(database_url=url)):
        pass
    await make_many(url)
    # SIGINT waits for the statement, which therefore has an end here.
    (trigger,) = WAITING["sqlite"]
    await execute(url, trigger.replace("FROM endless); END", "FROM endless LIMIT 10000000); END"))
    async with command(tmp_path, url, "--apply") as copying:
        await copying.wait_for(r"10,000 rows …")
        copying.process.send_signal(signal.SIGINT)
        assert await copying.end() == 1
    assert copying.output.endswith(" rows …\nInterrupted.\n")


@pytest.mark.requirement("T181")
async def test_a_table_of_another_schema_is_not_renamed(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    await execute(url, "CREATE SCHEMA other")
    await make_table(url, "task")
    await make_table(url, "other.task")

    for arguments in ([], ["--apply"]):
        assert "has a table `task` already" in await refusal_of(url, "--table", "other.task", *arguments)
    assert await tables_of(url) == {"task"}


@pytest.mark.requirement("T181")
async def test_a_refused_copy_leaves_the_next_id_as_it_was(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    async with running(make_settings(database_url=url)) as service:
        await service.user("ada").new_task()
        await execute(url, WITHOUT_BOUNDS)
        await execute(url, f"INSERT INTO tasks (id, user_id, title) VALUES ({2**52}, 'ada', 't'), (9, NULL, 't')")

        await refusal_of(url, "--apply")

        assert (await service.user("ada").new_task())["id"] == 2


@pytest.mark.requirement("T180")
async def test_what_is_shown_leaves_a_file_as_it_is(make_database: MakeDatabase, tmp_path: Path) -> None:
    file, target = tmp_path / "plain.db", await make_database("sqlite")
    with closing(sqlite3.connect(file)) as plain:
        plain.execute("CREATE TABLE tasks (id integer PRIMARY KEY, user_id text, title text)")
        plain.execute("INSERT INTO tasks VALUES (1, 'ada', 't')")
        plain.commit()
        # Another program may be writing.
        plain.execute("BEGIN IMMEDIATE")
        before = await asyncio.to_thread(file.read_bytes)

        await copy(f"sqlite:///{file}")
        await copy(target, "--apply", source=f"sqlite:///{file}")

        assert await asyncio.to_thread(file.read_bytes) == before
    assert await execute(target, "SELECT id, user_id FROM task") == [(1, "ada")]


@pytest.mark.requirement("T182")
async def test_a_row_of_another_table_is_no_copy(database_url: str) -> None:
    await execute(database_url, WITHOUT_BOUNDS, "INSERT INTO tasks VALUES (1, 'ada', 'milk', '', '2024-03-01', true)")
    await copy(database_url, "--apply")
    await execute(database_url, "UPDATE tasks SET title = 'pay rent'")

    assert "id: another task of the service has it (id 1)" in await refusal_of(database_url)


@pytest.mark.requirement("T180")
async def test_columns_that_are_missing_are_named(database_url: str) -> None:
    made = 'CREATE TABLE tasks (id integer, "userId" text, title text, "isCompleted" boolean, "createdAt" text)'
    await execute(database_url, made, "INSERT INTO tasks VALUES (1, 'ada', 't', true, '2024-03-01T10:00:00Z')")

    assert "Columns that it doesn't have: description, updated_at" in await copy(database_url, "--apply")
    assert await execute(database_url, "SELECT id FROM task WHERE completed") == [(1,)]


@pytest.mark.requirement("T182")
@pytest.mark.parametrize(("kind", "value"), [("text", "'20240101'"), ("bigint", "1704067200"), ("float", "1.5")])
async def test_a_number_is_no_time(database_url: str, kind: str, value: str) -> None:
    made = f"CREATE TABLE tasks (id integer, user_id text, title text, created_at {kind})"
    await execute(database_url, made, f"INSERT INTO tasks VALUES (1, 'ada', 't', {value})")

    assert "created_at: time should be a date and a time, not a number" in await refusal_of(database_url)


@pytest.mark.requirement("T182")
async def test_numeric_ids_fit_if_they_are_whole(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    made = "CREATE TABLE tasks (id numeric, user_id text, title text)"
    await execute(url, made, "INSERT INTO tasks VALUES (1, 'ada', 't'), (1.5, 'ada', 't'), ('NaN', 'ada', 't')")

    assert "Rows that fit: 1" in await copy(url, "--leave-out", "--apply")
    assert "Rows that were copied before: 1" in await copy(url, "--leave-out", "--apply")


@pytest.mark.requirement("T180")
@pytest.mark.parametrize(
    ("value", "reason"),
    [("'0044-03-15 BC'::timestamp", "A time lies outside the years 1 to 9999."), ("note::timestamp", "(22007)")],
)
async def test_a_value_that_cannot_be_read_is_not_shown(make_database: MakeDatabase, value: str, reason: str) -> None:
    url = await make_database("postgresql")
    await execute(url, "CREATE TABLE notes (note text)", "INSERT INTO notes VALUES ('a private note')")
    view = f"CREATE VIEW tasks AS SELECT 1 AS id, 'ada' AS user_id, 't' AS title, {value} AS created_at FROM notes"
    await execute(url, view)

    for arguments in ([], ["--apply"]):
        refusal = await refusal_of(url, *arguments)
        assert reason in refusal
        assert "private" not in refusal


@pytest.mark.requirement("T181")
async def test_the_keys_to_the_users_come_first(make_database: MakeDatabase) -> None:
    """So that a user who is deleted meanwhile takes the tasks along."""
    url = await make_database("postgresql")
    await execute(url, 'CREATE TABLE "user" (id text PRIMARY KEY)', "INSERT INTO \"user\" VALUES ('ada'), ('bob')")
    await make_table(url)

    await copy(url, "--apply", user_table="user")

    await execute(url, "DELETE FROM \"user\" WHERE id = 'ada'")
    assert await execute(url, "SELECT id FROM task") == [(2,)]


@pytest.mark.requirement("T181")
async def test_who_may_not_set_the_next_id_is_told(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    async with running(make_settings(database_url=url)):
        pass
    await make_table(url)
    role = f"todo_{uuid4().hex}"
    grants = (
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON task, tasks TO {role}",
        f"GRANT SELECT ON task_list_version TO {role}",
    )
    more = f"GRANT SELECT ON task_schema_version TO {role}"
    await execute(url, f"CREATE ROLE {role} LOGIN", *grants, more)
    theirs = make_url(url).set(username=role).render_as_string(hide_password=False)

    assert "may not set the next id" in await refusal_of(theirs, "--apply")
    await execute(url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.requirement("T180")
async def test_a_database_that_is_away_is_named(make_database: MakeDatabase) -> None:
    away = f"postgresql://ada:hunter2@127.0.0.1:{pick_port()}/old"

    assert "The database old at 127.0.0.1:" in await refusal_of(await make_database("postgresql"), source=away)


@pytest.mark.requirement("T181")
async def test_a_schema_of_a_later_version_takes_the_tasks(database_url: str) -> None:
    async with running(make_settings(database_url=database_url)):
        pass
    await make_table(database_url)
    await execute(database_url, "UPDATE task_schema_version SET version_num = '0099'")

    assert "Rows that fit: 3" in await copy(database_url, "--apply")
