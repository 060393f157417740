"""Every fault of a database, a real one where possible, and its consequences."""
# [Task]: T053, T087, T088 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import Request
from sqlalchemy import event, make_url, select

from backends.faults import Fault, explain, fault_of, sqlstate_of
from db import Database
from errors import ServiceUnavailable, answer_unavailable
from tests.databases import MakeDatabase
from tests.proxy import Link, Proxy, proxy_to
from tests.service import Service, User, counted, make_settings, running
from tests.test_db import UNAVAILABLE
from tests.waiting import note_connections, until, until_closed

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
# Raises errors that no test causes for real, such as a full disk.
RAISE = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
  AS $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '{sqlstate}'; END $$;
CREATE TRIGGER fail BEFORE UPDATE ON task FOR EACH ROW EXECUTE FUNCTION fail();
"""
# Makes the service hold a row of the table and wait for an advisory lock.
LOCK_TWICE = """
CREATE FUNCTION lock_twice() RETURNS trigger LANGUAGE plpgsql
  AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
CREATE TRIGGER lock_twice AFTER UPDATE ON task FOR EACH ROW EXECUTE FUNCTION lock_twice();
"""


@dataclass
class World:
    """The service on a database of its own behind a proxy, and an administrator's connection."""

    service: Service
    proxy: Proxy
    admin: asyncpg.Connection
    database: str
    user: User
    connections: set[asyncpg.Connection]
    path: str

    async def read(self) -> httpx.Response:
        return await self.user.get(self.path)

    async def write(self) -> httpx.Response:
        return await self.user.request("PATCH", f"{self.path}/complete")

    async def alter(self, change: str) -> None:
        """Changes the database for new connections, and closes those of the service."""
        await self.admin.execute(f"ALTER DATABASE {self.database} {change}")
        await self.admin.execute(TERMINATE)
        await until_closed(self.connections)

    async def until_waiting(self) -> None:
        """Returns when a statement of the service waits for a lock."""
        # A transaction sees only one snapshot of pg_stat_activity, but the current pg_locks.
        await until(lambda: self.admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


@pytest.fixture
async def world(make_database: MakeDatabase) -> AsyncIterator[World]:
    url = await make_database("postgresql")
    database = make_url(url).database or ""
    admin = await asyncpg.connect(url)
    # Not a superuser, whom the server exempts from its limits.
    role = f"todo_test_{uuid4().hex}"
    await admin.execute(f"CREATE ROLE {role} LOGIN")
    await admin.execute(f"ALTER DATABASE {database} OWNER TO {role}")
    async with proxy_to(url) as proxy:
        as_role = make_url(proxy.url).set(username=role).render_as_string(hide_password=False)
        settings = make_settings(
            database_url=as_role,
            db_statement_timeout=2,
            db_connect_timeout=2,
            db_pool_timeout=0.2,
            db_pool_size=2,
            db_max_overflow=0,
        )
        async with running(settings) as service:
            connections = note_connections(service.app.state.database.engine)
            user = service.user()
            task = await user.new_task()
            yield World(service, proxy, admin, database, user, connections, f"/{task['id']}")
    # A test may have taken the role's rights away.
    owner = make_url(url).username
    await admin.execute(f"REASSIGN OWNED BY {role} TO {owner}; DROP OWNED BY {role}")
    await admin.execute(f"DROP ROLE {role}")
    await admin.close()


def fault_counts(caplog: pytest.LogCaptureFixture) -> Counter[Fault]:
    """Counts the faults that the log names."""
    faults = {str(fault): fault for fault in Fault}
    found = re.findall(rf"can't be used: .*\(\w+, ({'|'.join(faults)})\)", caplog.text)
    return Counter(faults[name] for name in found)


@asynccontextmanager
async def nobody_may_connect(world: World) -> AsyncIterator[None]:
    await world.alter("CONNECTION LIMIT 0")
    yield
    await world.alter("CONNECTION LIMIT -1")


@asynccontextmanager
async def login_is_refused(world: World) -> AsyncIterator[None]:
    role = world.service.app.state.database.engine.url.username
    await world.admin.execute(f"ALTER ROLE {role} NOLOGIN")
    await world.alter("CONNECTION LIMIT -1")
    yield
    await world.admin.execute(f"ALTER ROLE {role} LOGIN")


@asynccontextmanager
async def it_is_read_only(world: World) -> AsyncIterator[None]:
    """Acts as a primary that became a standby: open connections aren't told."""
    await world.alter("SET default_transaction_read_only = on")
    yield
    await world.admin.execute(f"ALTER DATABASE {world.database} RESET default_transaction_read_only")


@asynccontextmanager
async def a_row_is_locked(world: World) -> AsyncIterator[None]:
    async with world.admin.transaction():
        await world.admin.execute("SELECT * FROM task FOR UPDATE")
        yield


@asynccontextmanager
async def locks_are_not_waited_for(world: World) -> AsyncIterator[None]:
    await world.alter("SET lock_timeout = '50ms'")
    async with a_row_is_locked(world):
        yield


@asynccontextmanager
async def all_connections_are_in_use(world: World) -> AsyncIterator[None]:
    engine = world.service.app.state.database.engine
    async with engine.connect(), engine.connect():
        yield


@asynccontextmanager
async def all_is_silent(world: World) -> AsyncIterator[None]:
    async with all_connections_are_in_use(world):
        pass  # both are open now, so that neither request has to connect
    world.proxy.passes.clear()
    yield
    world.proxy.passes.set()


def raising(sqlstate: str) -> Callable[[World], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def fault(world: World) -> AsyncIterator[None]:
        await world.admin.execute(RAISE.format(sqlstate=sqlstate))
        yield
        await world.admin.execute("DROP FUNCTION fail CASCADE")

    return fault


# The fault, its cause, and the answers to a read and a write while it lasts.
LASTING: list[tuple[Fault, Callable[[World], AbstractAsyncContextManager[None]], int, int]] = [
    (Fault.TOO_MANY_CONNECTIONS, nobody_may_connect, 503, 503),
    (Fault.LOGIN, login_is_refused, 503, 503),
    (Fault.READ_ONLY, it_is_read_only, 200, 503),
    (Fault.STATEMENT_TIMEOUT, a_row_is_locked, 200, 503),
    (Fault.LOCKED, locks_are_not_waited_for, 200, 503),
    (Fault.POOL_EXHAUSTED, all_connections_are_in_use, 503, 503),
    (Fault.SILENT, all_is_silent, 503, 503),
    (Fault.OUT_OF_RESOURCES, raising("53100"), 200, 503),
    (Fault.SYSTEM_ERROR, raising("58030"), 200, 503),
    (Fault.SYSTEM_ERROR, raising("XX000"), 200, 503),
]


@pytest.mark.requirement("T053", "T087", "T096")
@pytest.mark.parametrize(("fault", "make", "on_read", "on_write"), LASTING, ids=str)
async def test_a_lasting_fault_is_503_by_its_name(
    world: World,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    make: Callable[[World], AbstractAsyncContextManager[None]],
    on_read: int,
    on_write: int,
) -> None:
    faults = counted("database_faults", fault=fault)
    limit = fault.row.limit or ""
    timeouts = counted("timeouts", limit=limit)
    async with make(world):
        answers = await asyncio.gather(world.read(), world.write())
        assert [answer.status_code for answer in answers] == [on_read, on_write]
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json() == UNAVAILABLE
                assert int(answer.headers["Retry-After"]) > 0
        assert (await world.service.client.get("/health")).status_code == 200

    assert set(fault_counts(caplog)) == {fault}
    assert counted("database_faults", fault=fault) - faults == fault_counts(caplog)[fault]
    refused = [on_read, on_write].count(503) if limit else 0
    assert counted("timeouts", limit=limit) - timeouts == refused
    before = (await world.read()).json()["completed"]
    assert (await world.write()).json()["completed"] is not before


@asynccontextmanager
async def server_is_gone(world: World) -> AsyncIterator[None]:
    world.proxy.refuse()
    world.proxy.cut()
    yield
    await world.proxy.listen()


@pytest.mark.requirement("T053", "T087")
async def test_a_server_that_is_gone_is_503(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with server_is_gone(world):
        answers = await asyncio.gather(world.read(), world.write())
        assert [answer.status_code for answer in answers] == [503, 503]
    assert fault_counts(caplog).total() == 4  # each request has tried twice
    assert set(fault_counts(caplog)) <= {Fault.UNREACHABLE, Fault.CONNECTION_LOST}

    assert (await world.read()).status_code == 200
    assert (await world.write()).json()["completed"] is True


@pytest.mark.requirement("T088")
@pytest.mark.parametrize("call", [World.read, World.write])
async def test_a_quick_restart_fails_no_request(
    world: World, call: Callable[[World], Coroutine[Any, Any, httpx.Response]]
) -> None:
    async with server_is_gone(world):
        waiting = asyncio.create_task(call(world))
        await asyncio.sleep(0.1)

    assert (await waiting).status_code == 200


class LosesAnswers(Proxy):
    """Cuts the connection in place of the first answer to a statement."""

    statement = b""
    is_coming = False

    async def let_pass(self, link: Link, data: bytes, *, from_client: bool) -> bytes:
        data = await super().let_pass(link, data, from_client=from_client)
        if from_client and self.statement and self.statement in data:
            self.is_coming = True
        elif self.is_coming:
            self.statement, self.is_coming = b"", False
            link.cut()
            return b""
        return data


# Each request, the statement that it runs, and the status of its success.
OPERATIONS = {
    "list": ("GET", "", None, b"SELECT task.id", 200),
    "get": ("GET", "/{id}", None, b"SELECT task.id", 200),
    "empty put": ("PUT", "/{id}", {}, b"SELECT task.id", 200),
    "put": ("PUT", "/{id}", {"title": "Done"}, b"UPDATE task", 200),
    "toggle": ("PATCH", "/{id}/complete", None, b"UPDATE task", 200),
    "delete": ("DELETE", "/{id}", None, b"DELETE FROM task", 204),
    "create": ("POST", "", {"title": "Done"}, b"INSERT INTO task", 201),
}


@pytest.mark.requirement("T088")
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("when", ["prepared", "run"])
async def test_only_what_was_not_done_is_repeated(make_database: MakeDatabase, name: str, when: str) -> None:
    """Loses the answer to a statement, either when it is prepared or after it was committed."""
    method, path, body, statement, success = OPERATIONS[name]
    url = await make_database("postgresql")
    async with proxy_to(url, LosesAnswers) as proxy:
        assert isinstance(proxy, LosesAnswers)
        # Behind a pooler a statement has no name, so that its text, by which it is known here, is sent each time.
        suffix = "" if when == "prepared" else "?pgbouncer=true"
        async with running(make_settings(database_url=proxy.url + suffix)) as service:
            user = service.user()
            connections = note_connections(service.app.state.database.engine)

            async def send(task_id: int) -> httpx.Response:
                return await user.request(method, path.format(id=task_id), json=body)

            if when == "run":
                await send((await user.new_task())["id"])
            task_id: int = (await user.new_task())["id"]
            if when == "prepared":
                # A new connection has prepared nothing.
                proxy.cut()
                await until_closed(connections)
            proxy.statement = statement
            answer = await send(task_id)
            assert not proxy.statement, "no answer was lost"
            after = {task["id"]: task for task in (await user.get()).json()}

    is_write = success != 200 or name in {"put", "toggle"}
    assert answer.status_code == (503 if is_write and when == "run" else success)
    # It was done once, whatever the answer was.
    made = [task for task in after.values() if task["id"] > task_id]
    assert len(made) == (name == "create")
    assert (task_id in after) is (name != "delete")
    if name in {"put", "toggle"}:
        assert after[task_id]["title"] == ("Done" if name == "put" else "A task")
        assert after[task_id]["completed"] is (name == "toggle")


@pytest.mark.requirement("T053", "T087", "T088")
async def test_taken_ids_are_503_with_a_cure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Acts as after a copy of the rows without their sequence."""
    await world.admin.execute("""
        INSERT INTO task (id, user_id, title, completed, created_at, updated_at)
          OVERRIDING SYSTEM VALUE
          SELECT n, 'u1', 'A copy', false, now(), now() FROM generate_series(2, 9) n
    """)

    answer = await world.user.post({"title": "New"})

    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    assert fault_counts(caplog) == {Fault.IDS_TAKEN: 2}  # the statement was run once more
    cure = re.findall("SELECT setval.*;", caplog.text)[-1]
    await world.admin.execute(cure)
    assert (await world.user.new_task("New"))["id"] == 10


@pytest.mark.requirement("T087", "T088")
async def test_a_write_is_repeated_after_a_deadlock(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.admin.execute(LOCK_TWICE)
    # The service is the first to notice.
    await world.alter("SET deadlock_timeout = '200ms'")
    async with world.admin.transaction():
        await world.admin.execute("SET LOCAL deadlock_timeout = '60s'")
        await world.admin.execute("SELECT pg_advisory_xact_lock(1)")
        waiting = asyncio.create_task(world.write())
        await world.until_waiting()
        await world.admin.execute("UPDATE task SET title = 'The other one'")

    answer = await waiting
    assert (answer.status_code, answer.json()["completed"]) == (200, True)
    assert answer.json()["title"] == "The other one"
    assert fault_counts(caplog) == {Fault.DEADLOCK: 1}


@pytest.mark.requirement("T087", "T088")
async def test_a_write_is_repeated_after_a_serialization_failure(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.alter("SET default_transaction_isolation = 'repeatable read'")
    async with world.admin.transaction():
        await world.admin.execute("UPDATE task SET title = 'The other one'")
        waiting = asyncio.create_task(world.write())
        await world.until_waiting()

    answer = await waiting
    assert (answer.status_code, answer.json()["completed"]) == (200, True)
    assert answer.json()["title"] == "The other one"
    assert fault_counts(caplog) == {Fault.SERIALIZATION: 1}


@pytest.mark.requirement("T088")
async def test_a_failover_fails_no_request(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Open connections lead to a former primary, new ones to the primary."""
    await world.alter("SET default_transaction_read_only = on")
    assert (await world.read()).status_code == 200
    await world.admin.execute(f"ALTER DATABASE {world.database} RESET default_transaction_read_only")

    assert (await world.write()).json()["completed"] is True
    assert fault_counts(caplog) == {Fault.READ_ONLY: 1}


@pytest.mark.requirement("T051", "T061", "T088")
async def test_refused_writes_do_not_all_reconnect(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("backends.postgres.READ_ONLY_SECONDS", 600)
    async with it_is_read_only(world):
        for _ in range(2):
            assert (await world.write()).status_code == 503
        before = world.proxy.connections
        for _ in range(5):
            assert (await world.write()).status_code == 503
        assert world.proxy.connections == before
        assert (await world.service.client.get("/ready")).status_code == 200
        assert "Ready, but the database of DATABASE_URL is read only" in caplog.text
        # Some seconds later, the pool looks for a primary once more.
        monkeypatch.setattr("backends.postgres.READ_ONLY_SECONDS", 0)
        assert (await world.write()).status_code == 503
        assert world.proxy.connections > before

    assert (await world.write()).json()["completed"] is True


@pytest.mark.requirement("T087", "T088")
async def test_a_write_whose_connection_is_ended_is_503(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with a_row_is_locked(world):
        waiting = asyncio.create_task(world.write())
        await world.until_waiting()
        await world.admin.execute(TERMINATE)
        answer = await waiting

    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    assert fault_counts(caplog) == {Fault.CONNECTION_LOST: 1}
    assert (await world.write()).json()["completed"] is True


@pytest.mark.requirement("T087", "T088")
async def test_a_read_whose_connection_is_ended_is_repeated(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.admin.transaction():
        await world.admin.execute("LOCK TABLE task IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(world.read())
        await world.until_waiting()
        await world.admin.execute(TERMINATE)

    assert (await waiting).status_code == 200
    assert fault_counts(caplog) == {Fault.CONNECTION_LOST: 1}


@pytest.mark.requirement("T053", "T087")
@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"R",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"R\0\0\0\x08\0\0\0\0",  # welcome, and no more
        b"R\0\0\0\x08\0\0\0\x63",  # a kind of login that nobody knows
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",  # ready at once
        b"E\0\0\0\x04",
        b"\xff\xff\xff\xff\xff",
    ],
)
async def test_a_server_that_is_no_postgres_is_unavailable(greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(greeting)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"postgresql://u@127.0.0.1:{port}/x"
    database = Database(make_settings(database_url=url, db_connect_timeout=1))

    with pytest.raises(ServiceUnavailable):
        await database.fetch(select(1), {})
    server.close()


@pytest.mark.requirement("T087")
@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("postgresql://u@127.0.0.1:9/x", Fault.UNREACHABLE),
        ("postgresql://u@no-such-host.invalid/x?sslmode=disable", Fault.UNREACHABLE),
        ("{url}?sslmode=require", Fault.TLS),
    ],
)
async def test_a_failed_connect_has_its_faults_name(world: World, url: str, fault: Fault) -> None:
    database = Database(make_settings(database_url=url.format(url=world.proxy.url)))
    before = counted("database_faults", fault=fault)

    with pytest.raises(ServiceUnavailable) as error:
        await database.fetch(select(1), {})
    answer_unavailable(Request({"type": "http"}), error.value)

    assert str(error.value).count("can't be used") == 1
    assert f", {fault})." in str(error.value)
    tries = 2 if fault is Fault.UNREACHABLE else 1
    assert counted("database_faults", fault=fault) == before + tries


class TellsTheEndLate(Proxy):
    """Passes the server's last words on, and the end of its connection only when it is told to."""

    def __init__(self, upstream_url: str) -> None:
        super().__init__(upstream_url)
        self.tells = asyncio.Event()
        self.tells.set()

    async def let_pass(self, link: Link, data: bytes, *, from_client: bool) -> bytes:
        data = await super().let_pass(link, data, from_client=from_client)
        if not data and not from_client:
            await self.tells.wait()
        return data


@pytest.mark.requirement("T087", "T088")
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 503)])
async def test_a_closing_server_fails_no_read(make_database: MakeDatabase, method: str, status: int) -> None:
    """Uses a connection between the server's last words and its end."""
    url = await make_database("postgresql")
    async with proxy_to(url, TellsTheEndLate) as proxy, running(make_settings(database_url=proxy.url)) as service:
        assert isinstance(proxy, TellsTheEndLate)
        user = service.user()
        await user.new_task()
        admin = await asyncpg.connect(url)
        proxy.tells.clear()
        await admin.execute(TERMINATE)
        await admin.close()
        await asyncio.sleep(0.1)  # until the words have arrived

        assert (await user.request(method, json={"title": "x"})).status_code == status
        assert (await user.request(method, json={"title": "x"})).status_code < 300
        proxy.tells.set()


@pytest.mark.requirement("T087")
async def test_connections_that_end_at_once_are_503(world: World) -> None:
    engine = world.service.app.state.database.engine.sync_engine

    def cut(connection: Any, *_: Any) -> None:
        connection.driver_connection.terminate()

    await world.admin.execute(TERMINATE)
    await until_closed(world.connections)
    event.listen(engine, "connect", cut)
    answer = await world.read()

    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    event.remove(engine, "connect", cut)
    assert (await world.read()).status_code == 200


@pytest.mark.requirement("T053", "T087")
async def test_a_broken_file_is_503(make_database: MakeDatabase, caplog: pytest.LogCaptureFixture) -> None:
    url = await make_database("sqlite")
    async with running(make_settings(database_url=url)) as service:
        file = Path(make_url(url).database or "")
        for one in (file, file.with_name(f"{file.name}-wal")):
            one.write_bytes(b"no database" * 1000)
        await service.app.state.database.engine.dispose()

        for answer in (await service.user().get(), await service.client.get("/ready")):
            assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    assert set(fault_counts(caplog)) == {Fault.SYSTEM_ERROR}


def test_a_poolers_timeout_is_an_exhausted_pool() -> None:
    exhausted = asyncpg.ProtocolViolationError("query_wait_timeout")

    assert fault_of(exhausted) is Fault.POOL_EXHAUSTED
    assert fault_of(asyncpg.ProtocolViolationError("another")) is Fault.CONNECTION_LOST


def test_an_undeclared_pooler_gets_its_cure() -> None:
    refused = asyncpg.ProtocolViolationError("unsupported startup parameter: statement_timeout")

    assert "pgbouncer=true" in explain(refused, Fault.CONNECTION_LOST)


# The program's own errors: SQLSTATEs and their classes, and two of asyncpg's that have none.
PROGRAM_ERRORS = {
    *("03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25", "27", "2B", "2D"),
    *("2F", "34", "38", "39", "3B", "3F", "42", "44", "54", "72", "F0", "HV", "P0"),
    *("40000", "40002", "40003", "55000", "55006", "55P02", "55P04"),
    *("FatalPostgresError", "UnknownPostgresError"),
}


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def keys_of(kind: type[Exception]) -> set[str]:
    sqlstate = sqlstate_of(kind("x"))
    return {sqlstate, sqlstate[:2]} if sqlstate else {kind.__name__}


def test_every_error_of_postgres_is_a_fault_or_the_programs() -> None:
    kinds = set(subclasses(asyncpg.PostgresError))
    unknown = [kind.__name__ for kind in kinds if fault_of(kind("x")) is None and not keys_of(kind) & PROGRAM_ERRORS]

    assert len(kinds) > 200
    assert unknown == []
    assert set().union(*map(keys_of, kinds)) >= PROGRAM_ERRORS


ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/reliability.md"
DOCUMENTED = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)


def document(fault: Fault) -> tuple[str, ...]:
    """The cells of a fault in the document, with its SQLSTATEs in place of the prose."""
    row = fault.row
    sqlstates = (key.partition(" ")[0] for key in row.matches if isinstance(key, str))
    # Where no connection was made, nothing was sent.
    is_sent = row.transient and row.breaks_connection
    repeated = "reads, and what was not sent" if is_sent else "yes" if row.transient or row.rolled_back else ""
    limit = f"`{row.limit}`" if row.limit else ""
    return str(fault), " ".join(sqlstates), repeated, "given up" if row.breaks_connection else "", limit


@pytest.mark.requirement("T087")
@pytest.mark.parametrize("fault", Fault)
def test_a_fault_is_documented_as_it_is(fault: Fault) -> None:
    cells = [
        (name, " ".join(re.findall(r"\b(?:[0-9X][0-9A-Z])(?:[0-9A-Z]{3})?\b", prose)), *map(str.strip, rest))
        for name, prose, *rest in DOCUMENTED
        if name == str(fault)
    ]

    assert cells == [document(fault)]
