"""The versions of lists: raised by every change, whoever makes it, and never given twice."""
# [Task]: T145 [From]: specs/database/schema.md

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from config import Settings
from db import create_engine
from migrations import upgrade_schema
from tests.databases import MakeDatabase
from tests.service import make_settings, running
from tests.test_start import upgrade_to

CREATE = (
    "INSERT INTO task (user_id, title, completed, created_at, updated_at)"
    " VALUES (:user, 'x', false, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
)
FAR_AHEAD = 9_000_000_000_000_000


class Console:
    """Runs SQL on a database, as a person might at its console."""

    def __init__(self, settings: Settings) -> None:
        self.engine = create_engine(settings)

    async def run(self, statement: str, **parameters: Any) -> list[Any]:
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    async def versions(self) -> dict[str, int]:
        rows = await self.run("SELECT user_id, version FROM task_list_version")
        return {row.user_id: row.version for row in rows}

    async def raised(self, statement: str, **parameters: Any) -> set[str]:
        """The users whose versions a statement changed, all of them upward."""
        before = await self.versions()
        await self.run(statement, **parameters)
        after = await self.versions()
        assert all(after[user] >= before[user] for user in before)
        return {user for user, version in after.items() if version != before.get(user)}


@pytest.fixture
async def console(database_url: str) -> AsyncIterator[Console]:
    settings = make_settings(database_url=database_url)
    await upgrade_schema(settings)
    console = Console(settings)
    yield console
    await console.engine.dispose()


@pytest.mark.requirement("T145")
async def test_every_statement_raises_the_versions_of_its_users(console: Console) -> None:
    for user in ("ada", "bob", "ada", "cyd"):
        assert await console.raised(CREATE, user=user) == {user}

    assert await console.raised("UPDATE task SET completed = true WHERE user_id <> 'cyd'") == {"ada", "bob"}
    assert await console.raised("UPDATE task SET user_id = 'dan' WHERE user_id = 'cyd'") == {"cyd", "dan"}
    assert await console.raised("UPDATE task SET title = 'y' WHERE user_id = 'nobody'") == set()
    assert await console.raised("DELETE FROM task WHERE user_id IN ('ada', 'bob')") == {"ada", "bob"}
    assert await console.raised("DELETE FROM task") == {"dan"}


@pytest.mark.requirement("T145")
async def test_a_version_is_a_time_and_never_goes_back(console: Console) -> None:
    before = datetime.now(UTC)
    await console.run(CREATE, user="ada")
    time = datetime.fromtimestamp((await console.versions())["ada"] / 1_000_000, UTC)
    # SQLite counts milliseconds.
    assert int(before.timestamp() * 1000) <= int(time.timestamp() * 1000) <= datetime.now(UTC).timestamp() * 1000

    # As after a time when the clock was ahead.
    await console.run("UPDATE task_list_version SET version = :version", version=FAR_AHEAD)
    for number, change in enumerate((CREATE, "UPDATE task SET title = 'y'", "DELETE FROM task"), start=1):
        await console.run(change, **{"user": "ada"} if change == CREATE else {})
        assert (await console.versions())["ada"] >= FAR_AHEAD + number


@pytest.mark.requirement("T145")
async def test_a_change_that_is_rolled_back_raises_nothing(console: Console) -> None:
    await console.run(CREATE, user="ada")

    with pytest.raises(DBAPIError):
        await console.raised("UPDATE task SET title = NULL")
    before = await console.versions()
    async with console.engine.connect() as connection:
        await connection.execute(text("UPDATE task SET title = 'y'"))
        await connection.rollback()

    assert await console.versions() == before


@pytest.mark.requirement("T145")
async def test_a_deletion_makes_no_version(console: Console) -> None:
    await console.run(CREATE, user="ada")
    await console.run("DELETE FROM task_list_version")

    await console.run("DELETE FROM task")

    assert await console.versions() == {}


@pytest.mark.requirement("T145")
async def test_the_migration_gives_each_user_a_version(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await upgrade_to(settings, "0002")
    console = Console(settings)
    for user in ("ada", "ada", "bob"):
        await console.run(CREATE, user=user)

    await upgrade_schema(settings)

    assert set(await console.versions()) == {"ada", "bob"}
    assert await console.raised("DELETE FROM task WHERE user_id = 'ada'") == {"ada"}
    await console.engine.dispose()


@pytest.mark.requirement("T145", "T135")
async def test_the_migration_and_a_writer_miss_nothing(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await upgrade_to(settings, "0002")
    console = Console(settings)

    async def write() -> None:
        for number in range(40):
            await console.run(CREATE, user=f"user {number}")

    await asyncio.gather(write(), upgrade_schema(settings))

    assert len(await console.versions()) == 40
    await console.engine.dispose()


@pytest.mark.requirement("T145")
async def test_truncation_raises_all_versions(make_database: MakeDatabase) -> None:
    settings = make_settings(database_url=await make_database("postgresql"))
    await upgrade_schema(settings)
    console = Console(settings)
    for user in ("ada", "bob"):
        await console.run(CREATE, user=user)

    assert await console.raised("TRUNCATE task") == {"ada", "bob"}
    await console.engine.dispose()


@pytest.mark.requirement("T145")
async def test_a_role_needs_no_rights_to_versions_to_write(make_database: MakeDatabase) -> None:
    """The service of the version before, whose role got its rights before there were versions."""
    url = await make_database("postgresql")
    settings = make_settings(database_url=url)
    await upgrade_to(settings, "0002")
    admin = await asyncpg.connect(url)
    reader, writer = (f"Todo {name} {uuid4().hex}" for name in ("reader", "writer"))
    await admin.execute(f'CREATE ROLE "{reader}" LOGIN; CREATE ROLE "{writer}" LOGIN')
    await admin.execute(
        f'GRANT SELECT, INSERT, UPDATE, DELETE ON task TO "{reader}"; GRANT INSERT ON task TO "{writer}"'
    )
    await admin.execute(f'GRANT SELECT ON task_schema_version TO "{reader}"')

    await upgrade_schema(settings)

    theirs = make_url(url).set(username=reader).render_as_string(hide_password=False)
    async with running(make_settings(database_url=theirs)) as service:
        tag = (await service.user("ada").get()).headers["ETag"]
        await admin.execute(f'SET ROLE "{writer}"')
        await admin.execute(CREATE.replace(":user", "'ada'"))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await admin.fetch("SELECT * FROM task_list_version")
        await admin.execute("RESET ROLE")
        assert (await service.user("ada").get()).headers["ETag"] != tag
    await admin.execute(f'DROP OWNED BY "{reader}", "{writer}"; DROP ROLE "{reader}", "{writer}"')
    await admin.close()


@pytest.mark.requirement("T145")
async def test_the_owner_of_the_tasks_may_read_the_versions(make_database: MakeDatabase) -> None:
    """The service's role owns the tasks, and another one with its rights runs the migration."""
    url = await make_database("postgresql")
    admin = await asyncpg.connect(url)
    owner, deployer = (f"Todo {name} {uuid4().hex}" for name in ("owner", "deployer"))
    await admin.execute(f'CREATE ROLE "{owner}" LOGIN; CREATE ROLE "{deployer}" LOGIN IN ROLE "{owner}"')
    await admin.execute(f'GRANT CREATE ON SCHEMA public TO "{owner}"')
    as_owner, as_deployer = (
        make_settings(database_url=make_url(url).set(username=role).render_as_string(hide_password=False))
        for role in (owner, deployer)
    )
    await upgrade_to(as_owner, "0002")

    await upgrade_schema(as_deployer)

    async with running(as_owner) as service:
        await service.user().new_task()
    await admin.execute(f'DROP OWNED BY "{deployer}", "{owner}"; DROP ROLE "{deployer}", "{owner}"')
    await admin.close()


@pytest.mark.requirement("T053", "T145")
async def test_a_schema_taken_back_under_a_service_is_503(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    async with running(settings) as service:
        user = service.user()
        await user.new_task()
        await upgrade_to(settings, "0002", command.downgrade)

        assert (await user.get()).status_code == 503
        await user.new_task()

        await upgrade_schema(settings)
        assert len((await user.get()).json()) == 2
