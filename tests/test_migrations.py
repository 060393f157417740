"""The schema: equal to the models, created once, and apart from other tables."""
# [Task]: T040, T041, T042, T043 [From]: specs/database/schema.md

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, inspect

from config import Settings
from db import Database
from errors import StartupError
from migrations import ADVISORY_LOCK, CONFIG_FILE, migration_connection, upgrade_schema
from tests.databases import MakeDatabase
from tests.service import make_settings, running

ROOT = Path(__file__).parent.parent
OURS = {"task", "task_list_version", "task_schema_version"}

# The tables of Better Auth's own migration.
BETTER_AUTH = """
CREATE TABLE "user" ("id" text PRIMARY KEY, "name" text NOT NULL, "email" text NOT NULL UNIQUE,
  "emailVerified" boolean NOT NULL, "image" text, "createdAt" timestamptz NOT NULL,
  "updatedAt" timestamptz NOT NULL);
CREATE TABLE "session" ("id" text PRIMARY KEY, "expiresAt" timestamptz NOT NULL,
  "token" text NOT NULL UNIQUE, "userId" text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE);
CREATE TABLE "account" ("id" text PRIMARY KEY, "accountId" text NOT NULL,
  "userId" text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE, "password" text);
CREATE TABLE "verification" ("id" text PRIMARY KEY, "identifier" text NOT NULL,
  "value" text NOT NULL, "expiresAt" timestamptz NOT NULL);
CREATE TABLE "jwks" ("id" text PRIMARY KEY, "publicKey" text NOT NULL, "privateKey" text NOT NULL,
  "createdAt" timestamptz NOT NULL);
INSERT INTO "user" VALUES ('u1', 'Ada', 'ada@example.com', true, NULL, now(), now());
INSERT INTO "session" VALUES ('s1', now(), 'token', 'u1');
"""
SHAPE = """
SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
 WHERE table_schema = 'public' AND table_name NOT IN ('task', 'task_list_version', 'task_schema_version')
UNION ALL
SELECT tablename, indexname, indexdef, '' FROM pg_indexes
 WHERE schemaname = 'public' AND tablename NOT IN ('task', 'task_list_version', 'task_schema_version')
ORDER BY 1, 2
"""


async def upgrade_by_hand(database_url: str, *arguments: str) -> tuple[int | None, str, str]:
    """Runs `alembic upgrade head` in a process of its own. Returns its exit code, output and log."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "upgrade", "head", *arguments),
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url, "BETTER_AUTH_SECRET": "x" * 32},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, log = await process.communicate()
    return process.returncode, output.decode(), log.decode()


def alembic(connection: Connection) -> Config:
    config = Config(toml_file=CONFIG_FILE)
    config.attributes["connection"] = connection
    return config


@pytest.mark.requirement("T040", "T041")
async def test_models_and_migrations_are_equal(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await upgrade_schema(settings)

    async with migration_connection(settings) as connection:
        # Raises if autogenerate finds a difference.
        await connection.run_sync(lambda connection: command.check(alembic(connection)))


@pytest.mark.requirement("T041")
async def test_a_missing_index_is_found(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await upgrade_schema(settings)

    async with migration_connection(settings) as connection:
        await connection.exec_driver_sql("DROP INDEX ix_task_user_id_id")
        with pytest.raises(CommandError, match="ix_task_user_id_id"):
            await connection.run_sync(lambda connection: command.check(alembic(connection)))


@pytest.mark.requirement("T040")
async def test_the_task_table_has_these_columns(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    await upgrade_schema(make_settings(database_url=url))

    connection = await asyncpg.connect(url)
    columns = await connection.fetch(
        "SELECT column_name, data_type, character_maximum_length, is_nullable, identity_generation"
        " FROM information_schema.columns WHERE table_name = 'task' ORDER BY ordinal_position"
    )
    await connection.close()

    timestamp = "timestamp with time zone"
    assert [tuple(column) for column in columns] == [
        ("id", "bigint", None, "NO", "ALWAYS"),
        ("user_id", "character varying", 255, "NO", None),
        ("title", "character varying", 200, "NO", None),
        ("description", "character varying", 1000, "YES", None),
        ("completed", "boolean", None, "NO", None),
        ("created_at", timestamp, None, "NO", None),
        ("updated_at", timestamp, None, "NO", None),
        ("idempotency_key", "character varying", 255, "YES", None),
        ("idempotency_digest", "bytea", None, "YES", None),
        ("idempotency_replayed", "boolean", None, "YES", None),
    ]


@pytest.mark.requirement("T043")
async def test_better_auths_tables_stay_untouched(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    admin = await asyncpg.connect(url)
    await admin.execute(BETTER_AUTH)
    before = await admin.fetch(SHAPE)
    settings = make_settings(database_url=url)

    async with running(settings) as service:
        await service.user("u1").new_task()
    async with migration_connection(settings) as connection:
        await connection.run_sync(lambda c: command.check(alembic(c)))
        await connection.run_sync(lambda c: command.downgrade(alembic(c), "base"))
        await connection.run_sync(lambda c: command.upgrade(alembic(c), "head"))

    assert await admin.fetch(SHAPE) == before
    assert await admin.fetchval('SELECT count(*) FROM "user" JOIN "session" ON true') == 1
    await admin.close()


@pytest.mark.requirement("T041", "T043")
async def test_only_three_tables_are_created(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await upgrade_schema(settings)

    database = Database(settings)
    async with database.engine.connect() as connection:
        names = await connection.run_sync(lambda c: inspect(c).get_table_names())
    await database.close()

    assert set(names) - {"sqlite_sequence"} == OURS


@pytest.mark.requirement("T042")
async def test_many_services_start_at_once_on_an_empty_database(database_url: str) -> None:
    settings = make_settings(database_url=database_url)

    async def start() -> None:
        async with running(settings) as service:
            await service.user("somebody").new_task()

    await asyncio.gather(*(start() for _ in range(6)))

    async with running(settings) as service:
        assert len((await service.user("somebody").get()).json()) == 6


@pytest.mark.requirement("T042")
async def test_many_processes_migrate_at_once(database_url: str) -> None:
    runs = await asyncio.gather(*(upgrade_by_hand(database_url) for _ in range(3)))

    logs = [log for _, _, log in runs]
    assert [code for code, _, _ in runs] == [0, 0, 0], logs
    for step in (" -> 0001", "0001 -> 0002"):
        assert "".join(logs).count(f"Running upgrade {step}") == 1


@pytest.mark.requirement("T041")
async def test_a_failed_migration_changes_nothing(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    database = Database(settings)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE ix_task_user_id_id (x int)")

    with pytest.raises(StartupError, match="ix_task_user_id_id") as error:
        await upgrade_schema(settings)
    assert "CREATE INDEX" not in str(error.value)

    async with database.engine.connect() as connection:
        names = await connection.run_sync(lambda c: inspect(c).get_table_names())
    await database.close()
    assert names == ["ix_task_user_id_id"]


# The statements of the version before idempotency keys.
INSERT_BEFORE_KEYS = (
    "INSERT INTO task (user_id, title, completed, created_at, updated_at) VALUES"
    " ('u1', 'Old', false, '2026-01-01 00:00:00.000000+00', '2026-01-01 00:00:00.000000+00')"
    " RETURNING task.id, task.title"
)


async def migrate_to(settings: Settings, revision: str) -> None:
    async with migration_connection(settings) as connection:
        await connection.run_sync(lambda c: command.upgrade(alembic(c), revision))


@pytest.mark.requirement("T041", "T091")
async def test_tasks_from_before_idempotency_keys_work(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await migrate_to(settings, "0001")
    database = Database(settings)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(INSERT_BEFORE_KEYS)

    async with running(settings) as service:
        user = service.user("u1")
        # A worker of that version goes on while the new one starts.
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql(INSERT_BEFORE_KEYS)
        await user.post({"title": "New"}, headers={"Idempotency-Key": "1"})
        tasks = (await user.get()).json()
        assert [task["title"] for task in tasks] == ["Old", "Old", "New"]
        assert (await user.toggle(tasks[0]["id"])).status_code == 200

    async with migration_connection(settings) as connection:
        await connection.run_sync(lambda c: command.downgrade(alembic(c), "0001"))
        titles = await connection.exec_driver_sql("SELECT title FROM task ORDER BY id")
        assert titles.scalars().all() == ["Old", "Old", "New"]
    await database.close()


@pytest.mark.requirement("T041")
async def test_a_failed_upgrade_leaves_the_old_version_whole(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await migrate_to(settings, "0001")
    database = Database(settings)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(INSERT_BEFORE_KEYS)
        await connection.exec_driver_sql("CREATE TABLE ix_task_user_id_idempotency_key (x int)")

    with pytest.raises(StartupError, match="ix_task_user_id_idempotency_key"):
        await upgrade_schema(settings)

    async with database.engine.begin() as connection:
        columns = await connection.run_sync(lambda c: inspect(c).get_columns("task"))
        assert "idempotency_key" not in {column["name"] for column in columns}
        version = await connection.exec_driver_sql("SELECT version_num FROM task_schema_version")
        assert version.scalars().all() == ["0001"]
        # It goes on serving, and the upgrade succeeds once the obstacle is gone.
        await connection.exec_driver_sql(INSERT_BEFORE_KEYS)
        await connection.exec_driver_sql("DROP TABLE ix_task_user_id_idempotency_key")
    await database.close()
    async with running(settings) as service:
        assert len((await service.user("u1").get()).json()) == 2


@pytest.mark.requirement("T042")
async def test_a_migration_gives_up_on_a_busy_table(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ALTER that waits for a long transaction makes all later statements wait behind it."""
    monkeypatch.setattr("migrations.TABLE_PATIENCE", "200ms")
    settings = make_settings(database_url=await make_database("postgresql"))
    await migrate_to(settings, "0001")
    database = Database(settings)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("SELECT * FROM task")
        with pytest.raises(StartupError, match="lock timeout"):
            await upgrade_schema(settings)
    await database.close()
    await upgrade_schema(settings)


@pytest.mark.requirement("T042")
async def test_a_migration_lock_that_stays_held_ends_the_start(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrations.LOCK_PATIENCE_SECONDS", 0.2)
    url = await make_database("postgresql")
    admin = await asyncpg.connect(url)
    await admin.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)

    with pytest.raises(StartupError, match="another process holds the lock"):
        await upgrade_schema(make_settings(database_url=url))

    await admin.close()


@pytest.mark.requirement("T041")
async def test_a_start_can_leave_the_schema_alone(database_url: str) -> None:
    settings = make_settings(database_url=database_url, db_migrate_on_start=False)

    with pytest.raises(StartupError, match="uv run alembic upgrade head"):
        async with running(settings):
            pass

    database = Database(settings)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(lambda c: inspect(c).get_table_names()) == []
    await database.close()


@pytest.mark.requirement("T041")
async def test_alembic_prints_the_sql_without_running_it(make_database: MakeDatabase) -> None:
    code, sql, _ = await upgrade_by_hand("", "--sql")

    assert code == 0
    assert "CREATE TABLE task (" in sql
    assert "INSERT INTO task_schema_version" in sql

    url = await make_database("postgresql")
    admin = await asyncpg.connect(url)
    await admin.execute(sql)
    await admin.close()
    async with running(make_settings(database_url=url, db_migrate_on_start=False)) as service:
        await service.user().new_task()


@pytest.mark.requirement("T041", "T078")
@pytest.mark.parametrize(
    ("url", "start"),
    [
        (
            "postgresql://user:hunter2@host/todo?surprise=1",
            "The service can't start.\nDATABASE_URL has a query parameter",
        ),
        (
            "postgresql://user:hunter2@127.0.0.1:9/todo",
            "The schema is as it was: The database of DATABASE_URL can't be used: ",
        ),
    ],
)
async def test_the_command_line_refuses_in_plain_words(url: str, start: str) -> None:
    code, _, message = await upgrade_by_hand(url)

    assert code == 1
    assert message.startswith(start)
    assert "hunter2" not in message
