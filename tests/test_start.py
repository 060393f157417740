"""A start: its wait for the database, and its refusals with their cures."""
# [Task]: T041, T045, T052, T110, T111, T112 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url

from config import Settings
from db import Database
from errors import StartupError
from migrations import CONFIG_FILE, migration_connection, upgrade_schema
from migrations.state import HEAD, REVISIONS
from runtime.startup import prepare_database
from tests.databases import MakeDatabase
from tests.proxy import proxy_to
from tests.service import make_settings, running
from tests.test_postgres import refusing

# The table of a common tutorial.
TUTORIAL = """
CREATE TABLE task (id integer PRIMARY KEY, user_id integer NOT NULL, title varchar NOT NULL,
  description varchar, completed boolean NOT NULL, created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL)
"""


async def start(settings: Settings) -> None:
    """Prepares the database as the lifespan does."""
    database = Database(settings)
    try:
        await prepare_database(database, settings)
    finally:
        await database.close()


async def run(settings: Settings, *statements: str) -> None:
    """Runs statements as an administrator would by hand."""
    async with migration_connection(settings) as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


async def refusal_of(settings: Settings) -> str:
    with pytest.raises(StartupError, match=r"The service can't start\.\nThe database of DATABASE_URL") as error:
        await start(settings)
    return str(error.value)


def lines_of(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelno == level and record.name == "runtime.startup"
    ]


async def until_told(caplog: pytest.LogCaptureFixture, level: int) -> None:
    async with asyncio.timeout(60):
        while not lines_of(caplog, level):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.05)


# --- the wait for a database


@pytest.mark.requirement("T052")
async def test_a_start_waits_for_its_database(make_database: MakeDatabase, caplog: pytest.LogCaptureFixture) -> None:
    async with proxy_to(await make_database("postgresql")) as proxy:
        proxy.passes.clear()
        waiting = asyncio.create_task(start(make_settings(database_url=proxy.url, db_connect_timeout=0.5)))
        await asyncio.sleep(1)
        assert not waiting.done()
        proxy.passes.set()
        await waiting

    assert "Trying again" in lines_of(caplog, logging.WARNING)[0]


@pytest.mark.requirement("T052")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://user:hunter2@127.0.0.1:9/todo", "ConnectionRefusedError"),
        ("postgresql://user:hunter2@no-such-host.invalid/todo", "gaierror"),
    ],
)
async def test_a_start_gives_up_with_a_plain_reason(monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    monkeypatch.setattr("runtime.startup.FIRST_RETRY_SECONDS", 60)  # longer than a start waits at all

    message = await refusal_of(make_settings(database_url=url))

    assert reason in message
    assert "hunter2" not in message


@pytest.mark.requirement("T052")
async def test_a_start_gives_up_on_a_silent_database_in_time(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.startup.START_PATIENCE_SECONDS", 0.5)
    async with proxy_to(await make_database("postgresql")) as proxy:
        proxy.passes.clear()
        assert "no answer in time" in await refusal_of(make_settings(database_url=proxy.url))


@pytest.mark.requirement("T052")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("{postgres}", "does not exist.* CREATE DATABASE"),
        ("sqlite:////no/such/folder/todo.db", "unable to open database file"),
        ("sqlite:///{file}", "file is not a database"),
    ],
)
async def test_a_start_does_not_wait_if_that_cannot_help(
    make_database: MakeDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, reason: str
) -> None:
    postgres = (await make_database("postgresql")).replace("todo_test", "no_such")
    (tmp_path / "no.db").write_text("no database" * 100)
    url = url.format(postgres=postgres, file=tmp_path / "no.db")

    assert re.search(reason, await refusal_of(make_settings(database_url=url)))

    assert "Trying again" not in caplog.text


NEEDS_TLS = refusing("28000", "no pg_hba.conf entry for host, no encryption")
GOT_THROUGH = refusing("3D000", "it got through")


@pytest.mark.requirement("T045", "T052")
@pytest.mark.parametrize(
    ("query", "answer", "hint"),
    [
        ("sslmode=require&sslrootcert={cert}&host=localhost", b"S", "sslmode=verify-ca"),
        ("sslmode=verify-ca&sslrootcert={cert}&host=localhost", b"S", "it got through"),
        ("sslmode=require", b"N", "sslmode=disable"),
        ("sslmode=require", b"S not TLS", "sslmode=disable"),
        ("sslmode=require", b"S", "sslmode=no-verify"),
        ("sslmode=verify-ca", b"S", "sslmode=no-verify"),
        ("sslmode=verify-full", b"S", "sslrootcert"),
        ("sslmode=no-verify", b"S", "it got through"),
        ("sslmode=require&sslrootcert={cert}", b"S", "it got through"),
        ("sslmode=disable", NEEDS_TLS, "sslmode=require"),
        ("", refusing("28P01", "password authentication failed"), "Correct the user or the password"),
        ("", refusing("08P01", "unsupported startup parameter: x"), "pgbouncer=true"),
    ],
)
async def test_a_refusal_ends_the_start_at_once_with_its_cure(
    tls: ssl.SSLContext, tmp_path: Path, caplog: pytest.LogCaptureFixture, query: str, answer: bytes, hint: str
) -> None:
    async with pretending(answer, tls) as (port, received):
        query = query.format(cert=tmp_path / "cert.pem")
        url = f"postgresql://u:hunter2@127.0.0.1:{port}/todo?{query}"

        assert hint in await refusal_of(make_settings(database_url=url))

    assert "Trying again" not in caplog.text
    if answer == b"S":
        # A server that isn't verified gets no password.
        assert bool(received) is (hint == "it got through")


@pytest.mark.requirement("T045", "T052")
@pytest.mark.parametrize(
    ("query", "answer", "hint"),
    [
        ("sslmode=require", b"", "sslmode=disable"),
        ("", refusing("57P03", "the database system is starting up"), "starting up"),
        ("", refusing("53300", "sorry, too many clients already"), "too many clients"),
    ],
)
async def test_a_start_waits_for_a_server_that_recovers(
    monkeypatch: pytest.MonkeyPatch,
    tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    query: str,
    answer: bytes,
    hint: str,
) -> None:
    monkeypatch.setattr("runtime.startup.START_PATIENCE_SECONDS", 1)
    async with pretending(answer, tls) as (port, _):
        url = f"postgresql://u:hunter2@127.0.0.1:{port}/todo?{query}"

        assert hint in await refusal_of(make_settings(database_url=url))

    assert "Trying again" in lines_of(caplog, logging.WARNING)[0]


@contextlib.asynccontextmanager
async def pretending(answer: bytes, tls: ssl.SSLContext) -> AsyncIterator[tuple[int, bytearray]]:
    """Runs a server that answers this and hangs up. Gives its port, and all that it receives over TLS."""
    received = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1000)
            writer.write(answer)
            await writer.drain()
            if answer == b"S":
                await writer.start_tls(tls)
                received.extend(await reader.read(1000))
                writer.write(GOT_THROUGH)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], received


# --- one of several workers


@pytest.fixture(params=["gunicorn", "child"])
def worker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process count as a worker, of gunicorn or of another server."""
    if request.param == "gunicorn":
        monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/27.0.1")
    else:
        monkeypatch.setattr("multiprocessing.parent_process", lambda: "uvicorn")


@pytest.mark.requirement("T110")
async def test_a_worker_waits_longer_than_a_single_process(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, worker: None
) -> None:
    monkeypatch.setattr("runtime.startup.START_PATIENCE_SECONDS", 1)
    monkeypatch.setattr("runtime.startup.FIRST_RETRY_SECONDS", 1)
    async with proxy_to(await make_database("postgresql")) as proxy:
        proxy.refuse()
        waiting = asyncio.create_task(start(make_settings(database_url=proxy.url)))
        await until_told(caplog, logging.WARNING)
        await proxy.listen()
        await waiting

    assert lines_of(caplog, logging.ERROR) == []


@pytest.mark.requirement("T110")
async def test_a_worker_waits_until_somebody_mends_the_schema(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, worker: None
) -> None:
    settings = make_settings(database_url=database_url)
    await start(settings)
    await run(settings, "ALTER TABLE task RENAME TO task_away")
    waiting = asyncio.create_task(start(settings))
    await until_told(caplog, logging.ERROR)
    await run(settings, "ALTER TABLE task_away RENAME TO task")
    await waiting

    line = lines_of(caplog, logging.ERROR)[0]
    assert re.search(r"no table `task`\. .* Trying again in 0\.5 s\.$", line)


# --- revisions


@pytest.mark.requirement("T111")
def test_revisions_are_those_of_the_migrations() -> None:
    scripts = ScriptDirectory.from_config(Config(toml_file=CONFIG_FILE))

    assert [script.revision for script in scripts.walk_revisions()][::-1] == REVISIONS
    assert scripts.get_heads() == [HEAD]


async def set_revision(settings: Settings, revision: str) -> None:
    await run(settings, f"UPDATE task_schema_version SET version_num = '{revision}'")


both_ways = pytest.mark.parametrize("migrates", ["true", "false"])


@pytest.mark.requirement("T111")
@both_ways
async def test_a_later_schema_is_served_with_one_warning(
    database_url: str, caplog: pytest.LogCaptureFixture, migrates: str
) -> None:
    await start(make_settings(database_url=database_url))
    settings = make_settings(database_url=database_url, db_migrate_on_start=migrates)
    later = ["ALTER TABLE task ADD COLUMN priority integer NOT NULL DEFAULT 0", "ALTER TABLE task ADD COLUMN due date"]
    await run(settings, *later)
    await set_revision(settings, "0999")

    async with running(settings) as service:
        await service.user().new_task()

    (line,) = lines_of(caplog, logging.WARNING)
    assert "0999" in line


@pytest.mark.requirement("T111")
@both_ways
@pytest.mark.parametrize("revision", ["0000", "1a2b3c4d5e6f", "999", "09999"])
async def test_an_unknown_revision_is_refused(database_url: str, migrates: str, revision: str) -> None:
    await start(make_settings(database_url=database_url))
    settings = make_settings(database_url=database_url, db_migrate_on_start=migrates)
    await set_revision(settings, revision)

    assert f"revision {revision}, which isn't this service's" in await refusal_of(settings)


@pytest.mark.requirement("T111")
@pytest.mark.parametrize("revision", ["none", *REVISIONS[:-1]])
async def test_an_old_schema_is_refused_without_migrating(database_url: str, revision: str) -> None:
    settings = make_settings(database_url=database_url, db_migrate_on_start=False)
    if revision != "none":
        await upgrade_to(settings, revision)

    message = await refusal_of(settings)

    has = f"the revision {revision} of the schema" if revision != "none" else "no schema of ours"
    assert has in message
    assert "uv run alembic upgrade head" in message
    await upgrade_schema(settings)
    await start(settings)


async def upgrade_to(settings: Settings, revision: str, change: Callable[..., None] = command.upgrade) -> None:
    def upgrade(connection: Connection) -> None:
        config = Config(toml_file=CONFIG_FILE)
        config.attributes["connection"] = connection
        change(config, revision)

    async with migration_connection(settings) as connection:
        await connection.run_sync(upgrade)


# --- a table `task` of another program


@pytest.mark.requirement("T112")
@both_ways
async def test_a_foreign_task_table_is_refused_until_renamed(database_url: str, migrates: str) -> None:
    settings = make_settings(database_url=database_url, db_migrate_on_start=migrates)
    await run(settings, TUTORIAL)

    await run(settings, cure_in(await refusal_of(settings)))

    await upgrade_schema(settings)
    async with running(settings) as service:
        assert (await service.user().new_task())["created_at"].endswith("Z")


def cure_in(message: str) -> str:
    """Extracts the statements that a refusal tells the reader to type."""
    return " ".join(re.findall(r"\b(?:ALTER|GRANT|CREATE|SELECT) [^;]+;", message))


@pytest.mark.requirement("T112")
@both_ways
@pytest.mark.parametrize(
    "change",
    [
        "DROP COLUMN description",
        "ALTER COLUMN created_at TYPE timestamp",
        "ALTER COLUMN user_id TYPE integer USING 1",
        "ALTER COLUMN user_id TYPE varchar(36)",
        "ALTER COLUMN completed TYPE integer USING 1",
        "ALTER COLUMN title TYPE point USING NULL",
        "ALTER COLUMN title TYPE strange USING NULL",
        "ALTER COLUMN description SET NOT NULL",
        "ADD COLUMN project_id integer NOT NULL",
    ],
)
@pytest.mark.filterwarnings("ignore:Did not recognize type")
async def test_a_table_that_requests_cannot_use_is_refused(
    make_database: MakeDatabase, migrates: str, change: str
) -> None:
    settings = make_settings(database_url=await make_database("postgresql"), db_migrate_on_start=migrates)
    await upgrade_schema(settings)
    await run(settings, "CREATE TYPE strange AS RANGE (subtype = float8)")
    await run(settings, f"ALTER TABLE task {change}")

    assert "a table `task` that isn't this service's" in await refusal_of(settings)


@pytest.mark.requirement("T112")
@pytest.mark.parametrize(
    "change",
    [
        "ALTER COLUMN title TYPE text",
        "ALTER COLUMN title TYPE varchar(500)",
        "ALTER COLUMN updated_at DROP NOT NULL",
        "ADD COLUMN number bigint GENERATED BY DEFAULT AS IDENTITY",
    ],
)
async def test_a_wider_table_is_served(make_database: MakeDatabase, change: str) -> None:
    settings = make_settings(database_url=await make_database("postgresql"))
    await upgrade_schema(settings)
    await run(settings, f"ALTER TABLE task {change}")

    async with running(settings) as service:
        await service.user().new_task()


@pytest.mark.requirement("T112", "T145")
@both_ways
@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE task_list_version",
        "DROP TABLE task_list_version; CREATE TABLE task_list_version (id integer)",
        "DROP TRIGGER task_list_version_delete{on_task}",
    ],
)
async def test_a_schema_without_its_versions_is_refused_until_mended(
    database_url: str, migrates: str, damage: str
) -> None:
    settings = make_settings(database_url=database_url, db_migrate_on_start=migrates)
    await upgrade_schema(settings)
    on_task = "" if settings.database.is_sqlite else " ON task"
    await run(settings, *damage.format(on_task=on_task).split("; "))

    assert "uv run alembic downgrade 0002" in await refusal_of(settings)

    await upgrade_to(settings, "0002", command.downgrade)
    await upgrade_schema(settings)
    async with running(settings) as service:
        await service.user().new_task()


@pytest.mark.requirement("T112", "T145")
async def test_disabled_triggers_are_refused_until_enabled(make_database: MakeDatabase) -> None:
    settings = make_settings(database_url=await make_database("postgresql"))
    await upgrade_schema(settings)
    await run(settings, "ALTER TABLE task DISABLE TRIGGER USER")  # as `pg_restore --disable-triggers` does

    assert "triggers on `task`" in await refusal_of(settings)

    await run(settings, "ALTER TABLE task ENABLE TRIGGER USER")
    async with running(settings) as service:
        await service.user().new_task()


# --- rights


@dataclass
class Site:
    """A database with a role that has only the rights that it is granted."""

    admin: asyncpg.Connection
    role: str
    settings: Settings
    owner: Settings


@pytest.fixture
async def site(make_database: MakeDatabase) -> AsyncIterator[Site]:
    url = await make_database("postgresql")
    # Its name has to be quoted.
    name = f"Todo {uuid4().hex}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"""CREATE ROLE "{name}" LOGIN PASSWORD 'hunter2'""")
    theirs = make_url(url).set(username=name, password="hunter2")
    yield Site(
        admin,
        f'"{name}"',
        make_settings(database_url=theirs.render_as_string(hide_password=False)),
        make_settings(database_url=url),
    )
    await admin.execute(f'REASSIGN OWNED BY "{name}" TO CURRENT_USER')
    await admin.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')
    await admin.close()


@pytest.mark.requirement("T112")
@pytest.mark.parametrize(
    ("revision", "statements", "reason"),
    [
        pytest.param(None, "", "make a table in the schema public", id="no right to create"),
        pytest.param(None, "ALTER ROLE {role} SET search_path = ''", "selected", id="no schema"),
        pytest.param(HEAD, "REVOKE ALL ON SCHEMA public FROM PUBLIC", "selected", id="no usage"),
        pytest.param(HEAD, "", "read the schema's version", id="version unreadable"),
        pytest.param(
            HEAD, "GRANT SELECT ON task_schema_version, task TO {role}", "use the table `task`", id="tasks unusable"
        ),
        pytest.param(
            "0001",
            "GRANT SELECT ON task_schema_version, task TO {role};GRANT CREATE ON SCHEMA public TO {role}",
            "change the table `task`",
            id="no owner",
        ),
        pytest.param(
            HEAD,
            "GRANT SELECT ON task_schema_version TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON task TO {role}",
            "read the table `task_list_version`",
            id="versions unreadable",
        ),
    ],
)
async def test_a_missing_right_is_named_with_its_grant(
    site: Site, revision: str | None, statements: str, reason: str
) -> None:
    if revision is not None:
        await upgrade_to(site.owner, revision)
    if statements:
        await site.admin.execute(statements.format(role=site.role))

    first = await refusal_of(site.settings)
    assert reason in first
    assert "hunter2" not in first

    # The cure of one lack may bring the next to light.
    for _ in range(4):
        try:
            await start(site.settings)
        except StartupError as error:
            await site.admin.execute(cure_in(str(error)))
    await start(site.settings)
    async with running(site.settings) as service:
        await service.user().new_task()


@pytest.mark.requirement("T112")
async def test_a_role_that_may_not_connect_is_refused_at_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    await site.admin.execute(f'REVOKE CONNECT ON DATABASE "{make_url(site.owner.database.url).database}" FROM PUBLIC')

    assert "GRANT CONNECT ON DATABASE" in await refusal_of(site.settings)

    assert "Trying again" not in caplog.text


@pytest.mark.requirement("T112")
async def test_a_current_schema_needs_no_right_to_change_it(site: Site) -> None:
    await upgrade_schema(site.owner)
    await site.admin.execute(
        f"GRANT SELECT ON task_schema_version, task_list_version TO {site.role};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON task TO {site.role}"
    )

    async with running(site.settings) as service:
        await service.user().new_task()


@pytest.mark.requirement("T052")
async def test_a_database_without_utf8_is_refused(postgres: str) -> None:
    name = f"todo_test_latin1_{uuid4().hex}"
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = make_url(postgres).set(database=name).render_as_string(hide_password=False)

    assert "encoded in LATIN1" in await refusal_of(make_settings(database_url=url))

    await admin.execute(f"DROP DATABASE {name}")
    await admin.close()
