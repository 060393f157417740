"""Sessions, single statements, the pool, and a database that fails."""
# [Task]: T047, T048, T049, T050, T051, T052, T053, T103, T105 [From]: specs/database/schema.md

import asyncio
import contextlib
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import event, func, text
from sqlalchemy.exc import OperationalError
from sqlmodel import select

import statements
from db import Database, SessionDep, fetch_all
from errors import ServiceUnavailable
from migrations import migration_connection, upgrade_schema
from models import Task
from readiness import ReadinessCheck
from tests.databases import MakeDatabase
from tests.proxy import Proxy, proxy_to
from tests.service import Service, User, make_settings, running
from tests.waiting import is_closed, note_connections, until, until_closed

UNAVAILABLE = {"detail": "The database is unavailable, try again"}


@pytest.fixture
async def proxy(make_database: MakeDatabase) -> AsyncIterator[Proxy]:
    async with proxy_to(await make_database("postgresql")) as proxy:
        yield proxy


async def call_all(user: User) -> AsyncIterator[tuple[str, Callable[[], Awaitable[Any]], int, int]]:
    """Each kind of request, the status it gets and the round trips it may cost."""
    task_id = (await user.new_task())["id"]
    doomed = [(await user.new_task())["id"] for _ in range(2)]
    unknown = 2**62
    yield "list", user.get, 200, 1
    yield "filtered list", lambda: user.get("?completed=true&limit=5"), 200, 1
    yield "create", lambda: user.post({"title": "x"}), 201, 1
    key, reused = ({"Idempotency-Key": key} for key in ("one", "another"))
    await user.post({"title": "x"}, headers=reused)
    yield "create by key", lambda: user.post({"title": "x"}, headers=key), 201, 1
    yield "reused key", lambda: user.post({"title": "y"}, headers=reused), 422, 1
    yield "bad key", lambda: user.post({"title": "x"}, headers={"Idempotency-Key": ""}), 422, 0
    yield "get", lambda: user.get(f"/{task_id}"), 200, 1
    yield "put", lambda: user.put(task_id, {"title": "y", "description": None}), 200, 1
    yield "empty put", lambda: user.put(task_id, {}), 200, 1
    yield "toggle", lambda: user.toggle(task_id), 200, 1
    yield "delete", lambda: user.delete(doomed.pop()), 204, 1
    yield "get nothing", lambda: user.get(f"/{unknown}"), 404, 1
    yield "put nothing", lambda: user.put(unknown, {"title": "y"}), 404, 1
    yield "empty put of nothing", lambda: user.put(unknown, {}), 404, 1
    yield "toggle nothing", lambda: user.toggle(unknown), 404, 1
    yield "delete nothing", lambda: user.delete(unknown), 404, 1
    yield "invalid id", lambda: user.get("/x"), 422, 0
    yield "invalid body", lambda: user.post({"title": ""}), 422, 0
    yield "another user's", lambda: user.get("/api/somebody/tasks"), 403, 0
    yield "no token", lambda: user.get(headers={"Authorization": ""}), 401, 0


@pytest.mark.requirement("T048")
@pytest.mark.parametrize("suffix", ["", "?pgbouncer=true"], ids=["direct", "pooler"])
async def test_each_request_costs_one_round_trip_and_one_statement(
    proxy: Proxy, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    async with running(make_settings(database_url=proxy.url + suffix)) as service:
        async for name, send, status, cost in call_all(service.user()):
            await send()  # warm
            caplog.clear()
            before = proxy.round_trips
            assert (await send()).status_code == status, name
            await asyncio.sleep(0.02)  # nothing is left for after the answer
            assert proxy.round_trips - before == cost, name
            statements = [one for one in caplog.records if one.name == "sqlalchemy.engine"]
            assert len(statements) == cost, name
        assert proxy.connections <= 3  # one to wait, one to migrate, one to serve


PREPARED = text("SELECT name FROM pg_prepared_statements")


@pytest.mark.requirement("T103")
@pytest.mark.parametrize("is_declared", [False, True], ids=["direct", "pooler"])
async def test_a_statements_name_is_no_other_processs(proxy: Proxy, *, is_declared: bool) -> None:
    suffix = "?pgbouncer=true" if is_declared else ""
    settings = make_settings(database_url=proxy.url + suffix, db_pool_size=1, db_max_overflow=0)
    async with running(settings) as service:
        database: Database = service.app.state.database
        await database.fetch(statements.GET_TASK, {"owner": "", "task_id": 1})
        async with database.session() as session:
            await session.exec(select(Task))
            driver = (await (await session.connection()).get_raw_connection()).driver_connection
            assert driver is not None
            await driver.fetchval("SELECT $1::int", 1)  # what asyncpg runs by itself
        names = [row["name"] for row in await database.fetch(PREPARED, {})]
    async with migration_connection(settings) as connection:
        names += (await connection.execute(PREPARED)).scalars()

    assert all(re.fullmatch("todo_[0-9a-f]{32}", name) for name in names)
    assert len(set(names)) == len(names)
    assert bool(names) is not is_declared


NO_KEY = {"key": None, "digest": None}
NEW = {"new_description": None, "now": datetime(2026, 1, 1, tzinfo=UTC), **NO_KEY}


def with_routes(app: FastAPI) -> list[str]:
    """Adds routes with a unit of two statements, and says in what order things happen."""
    order: list[str] = []

    @app.post("/two")
    async def two(session: SessionDep, user: str, fail: str = "") -> dict[str, str]:
        for title in ("one", "two"):
            await session.exec(statements.CREATE_TASK, params={"owner": user, "new_title": title, **NEW})
            if fail == title:
                raise ZeroDivisionError
        return {"done": "yes"}

    @app.post("/one")
    async def one(request: Request, user: str) -> dict[str, str]:
        await fetch_all(request, statements.CREATE_TASK, owner=user, new_title="one", **NEW)
        raise ZeroDivisionError

    engine = app.state.database.engine.sync_engine
    event.listen(engine, "commit", lambda _: order.append("commit"))
    event.listen(engine, "rollback", lambda _: order.append("rollback"))
    return order


@pytest.mark.requirement("T047")
async def test_a_session_is_atomic_and_commits_before_the_answer(database_url: str) -> None:
    async with running(make_settings(database_url=database_url)) as service:
        order = with_routes(service.app)

        async def note_answer(_: object) -> None:
            order.append("answer")

        service.client.event_hooks["response"] = [note_answer]

        assert (await service.client.post("/two?user=a")).status_code == 200
        assert order == ["commit", "answer"]
        for fail in ("one", "two"):
            assert (await service.client.post(f"/two?user=b&fail={fail}")).status_code == 500
        assert order == ["commit", "answer", "rollback", "answer", "rollback", "answer"]

        assert len((await service.user("a").get()).json()) == 2
        assert (await service.user("b").get()).json() == []


@pytest.mark.requirement("T048")
async def test_a_single_statement_is_committed_when_it_returns(database_url: str) -> None:
    async with running(make_settings(database_url=database_url)) as service:
        with_routes(service.app)

        assert (await service.client.post("/one?user=a")).status_code == 500

        assert len((await service.user("a").get()).json()) == 1


@pytest.mark.requirement("T047")
async def test_units_at_once_on_sqlite_wait_for_each_other(make_database: MakeDatabase) -> None:
    async with running(make_settings(database_url=await make_database("sqlite"))) as service:
        with_routes(service.app)
        user = service.user("a")

        answers = await asyncio.gather(
            *(service.client.post("/two?user=a") for _ in range(8)), *(user.post({"title": "x"}) for _ in range(8))
        )

        assert {answer.status_code for answer in answers} == {200, 201}
        assert len((await user.get()).json()) == 24


FAIL_AT_COMMIT = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
  AS $$ BEGIN RAISE EXCEPTION 'at commit' USING ERRCODE = '{sqlstate}'; END $$;
CREATE CONSTRAINT TRIGGER fail_at_commit AFTER INSERT OR UPDATE OR DELETE ON task
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.mark.requirement("T049")
@pytest.mark.parametrize(("sqlstate", "status"), [("23505", 500), ("40001", 503), ("53100", 503)])
async def test_a_commit_that_fails_is_never_a_success_on_postgres(
    make_database: MakeDatabase, sqlstate: str, status: int
) -> None:
    url = await make_database("postgresql")
    async with running(make_settings(database_url=url)) as service:
        with_routes(service.app)
        user = service.user("a")
        task = await user.new_task()
        admin = await asyncpg.connect(url)
        await admin.execute(FAIL_AT_COMMIT.format(sqlstate=sqlstate))
        await admin.close()

        for answer in (
            await user.post({"title": "x"}),
            await user.put(task["id"], {"title": "x"}),
            await user.toggle(task["id"]),
            await user.delete(task["id"]),
            await service.client.post("/two?user=a"),
        ):
            assert answer.status_code == status
            assert ("Retry-After" in answer.headers) is (status == 503)
        assert (await user.get()).json() == [task]


@pytest.mark.requirement("T049", "T053")
async def test_a_write_that_sqlite_cannot_commit_is_never_a_success(make_database: MakeDatabase) -> None:
    url = await make_database("sqlite")
    async with running(make_settings(database_url=url, db_statement_timeout=0.2)) as service:
        with_routes(service.app)
        user = service.user("a")
        task = await user.new_task()
        other = sqlite3.connect(url.removeprefix("sqlite+aiosqlite:///"))
        other.execute("BEGIN IMMEDIATE")

        for answer in (
            await user.post({"title": "x"}),
            await user.toggle(task["id"]),
            await service.client.post("/two?user=a"),
        ):
            assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
        assert (await user.get()).json() == [task]
        assert (await service.client.get("/ready")).status_code == 200

        other.rollback()
        other.close()
        assert (await user.toggle(task["id"])).status_code == 200


@pytest.mark.requirement("T050")
async def test_sqlite_keeps_what_it_acknowledged(make_database: MakeDatabase) -> None:
    async with running(make_settings(database_url=await make_database("sqlite"))) as service:
        engine = service.app.state.database.engine
        async with engine.connect() as connection:
            values = {
                name: (await connection.execute(text(f"PRAGMA {name}"))).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }

    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 250}


@pytest.mark.requirement("T051")
async def test_the_pool_has_the_set_size_and_gives_up_waiting(make_database: MakeDatabase) -> None:
    settings = make_settings(
        database_url=await make_database("postgresql"), db_pool_size=1, db_max_overflow=1, db_pool_timeout=0.1
    )
    async with running(settings) as service:
        engine = service.app.state.database.engine
        async with engine.connect(), engine.connect():
            answer = await service.user().get()
            assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
            assert int(answer.headers["Retry-After"]) > 0
            assert (await service.client.get("/health")).status_code == 200
            # It has a connection of its own.
            assert (await service.client.get("/ready")).status_code == 200
        assert (await service.user().get()).status_code == 200


@pytest.mark.requirement("T105")
async def test_connections_above_the_pools_size_are_used_again(proxy: Proxy) -> None:
    settings = make_settings(database_url=proxy.url, db_pool_size=1, db_max_overflow=7)
    async with running(settings) as service:
        user = service.user()
        path = f"/{(await user.new_task())['id']}"
        started = proxy.connections
        for _ in range(5):
            answers = await asyncio.gather(*(user.get(path) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}

        assert 0 < proxy.connections - started <= 7


@pytest.mark.requirement("T105")
async def test_connections_above_the_pools_size_go_when_they_have_idled(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.pool.TRIM_SECONDS", 0.01)
    settings = make_settings(database_url=database_url, db_pool_size=2, db_max_overflow=3)
    async with running(settings) as service:
        user = service.user()
        task = await user.new_task()
        connections = note_connections(service.app.state.database.engine)

        def open_connections() -> int:
            return sum(not is_closed(driver) for driver in connections)

        async def are_enough() -> bool:
            return open_connections() == 2

        async with all_in_use(service, 5):
            monkeypatch.setattr("backends.pool.SPARE_IDLE_SECONDS", 0)
            await asyncio.sleep(0.1)
            # Those in use are left alone.
            assert open_connections() == 5
        await until(are_enough)
        if service.backend == "postgresql":
            admin = await asyncpg.connect(database_url)
            await until(lambda: admin.fetchval(f"SELECT ({OTHERS}) = 2"))
            await admin.close()

        # Two are enough now, and are left alone.
        await asyncio.sleep(0.1)
        assert open_connections() == 2
        # There are as many as before when they are needed.
        monkeypatch.setattr("backends.pool.SPARE_IDLE_SECONDS", 30)
        async with all_in_use(service, 5):
            pass
        assert (await user.get()).json() == [task]


OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextlib.asynccontextmanager
async def all_in_use(service: Service, connections: int) -> AsyncIterator[None]:
    engine = service.app.state.database.engine
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(connections):
            await stack.enter_async_context(engine.connect())
        yield


async def wait_for_an_idle_server(url: str) -> None:
    """Until no other connection to this database runs anything."""
    admin = await asyncpg.connect(url)
    busy = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
    )
    await until(lambda: admin.fetchval(f"SELECT ({busy}) = 0"))
    await admin.close()


@pytest.mark.requirement("T051")
@pytest.mark.parametrize("suffix", ["", "?pgbouncer=true"], ids=["direct", "pooler"])
@pytest.mark.parametrize("ending", ["timeout", "cancellation"])
async def test_a_statement_that_is_given_up_ends_in_the_server_too(
    make_database: MakeDatabase, suffix: str, ending: str
) -> None:
    url = await make_database("postgresql")
    at = "&" if "?" in url else "?"
    settings = make_settings(
        database_url=url + suffix.replace("?", at), db_statement_timeout=0.3 if ending == "timeout" else 600
    )
    async with running(settings) as service:
        database: Database = service.app.state.database
        waiting = asyncio.create_task(database.fetch(select(func.pg_sleep(600)), {}))
        if ending == "timeout":
            with pytest.raises(ServiceUnavailable):
                await waiting
        else:
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        await wait_for_an_idle_server(url)
        assert (await service.user().get()).status_code == 200


async def warm(service: Service, connections: int) -> None:
    """Opens so many, which all have prepared what `GET` of one task runs."""
    user = service.user()
    task = await user.new_task()
    while service.app.state.database.engine.pool.checkedin() < connections:
        answers = await asyncio.gather(*(user.get(f"/{task['id']}") for _ in range(connections)))
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.requirement("T053")
async def test_a_connection_that_closes_on_its_way_out_of_the_pool_is_503(make_database: MakeDatabase) -> None:
    async with running(make_settings(database_url=await make_database("postgresql"))) as service:
        user, engine = service.user(), service.app.state.database.engine
        before = note_connections(engine)
        await warm(service, 5)

        def cut(connection: Any, *_: Any) -> None:
            connection.driver_connection.terminate()

        event.listen(engine.sync_engine, "checkout", cut)
        answer = await user.get()
        event.remove(engine.sync_engine, "checkout", cut)

        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
        # The others may be cut as well, and are not tried.
        before = set(before)
        answers = await asyncio.gather(*(user.get() for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert all(one.is_closed() for one in before)


@pytest.mark.requirement("T053")
async def test_a_table_that_was_changed_meanwhile_is_not_noticed(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    async with running(make_settings(database_url=url)) as service:
        user = service.user()
        path = f"/{(await user.new_task())['id']}"
        await warm(service, 5)
        admin = await asyncpg.connect(url)
        await admin.execute("ALTER TABLE task ALTER title TYPE text")
        await admin.close()

        answers = await asyncio.gather(*(user.get(path) for _ in range(5)), user.post({"title": "x"}))
        assert [answer.status_code for answer in answers] == [*5 * [200], 201]
        assert len((await user.get()).json()) == 2


@pytest.mark.requirement("T051")
async def test_a_connection_that_was_cut_while_idle_is_replaced_unseen(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    async with running(make_settings(database_url=url)) as service:
        connections = note_connections(service.app.state.database.engine)
        await service.user().get()
        admin = await asyncpg.connect(url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        await until_closed(connections)

        assert (await service.user().get()).status_code == 200


@pytest.mark.requirement("T051")
async def test_a_connection_that_is_old_enough_is_replaced(proxy: Proxy) -> None:
    settings = make_settings(database_url=proxy.url, db_pool_recycle=0.05)
    async with running(settings) as service:
        user = service.user()
        await user.get()
        for _ in range(3):
            connections = proxy.connections
            await asyncio.sleep(0.1)
            assert (await user.get()).status_code == 200
            assert proxy.connections == connections + 1


@pytest.mark.requirement("T051")
async def test_a_connection_that_idled_long_is_asked_whether_it_lives(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(make_settings(database_url=proxy.url)) as service:
        user = service.user()
        await user.get()
        monkeypatch.setattr("backends.postgres.TRUSTED_IDLE_SECONDS", 0)
        monkeypatch.setattr("backends.postgres.PING_TIMEOUT_SECONDS", 1)
        connections, before = proxy.connections, proxy.round_trips

        assert (await user.get()).status_code == 200
        assert proxy.round_trips - before == 2
        assert proxy.connections == connections

        # Half-open: it takes what is sent and never answers.
        proxy.passes.clear()
        proxy.has_connected.clear()
        waiting = asyncio.create_task(user.get())
        await proxy.has_connected.wait()
        proxy.passes.set()
        assert (await waiting).status_code == 200
        assert proxy.connections > connections


@pytest.mark.requirement("T051", "T053")
async def test_a_silent_database_costs_its_limit_and_no_more(proxy: Proxy) -> None:
    settings = make_settings(database_url=proxy.url + "?pgbouncer=true", db_statement_timeout=1, db_connect_timeout=1)
    async with running(settings) as service:
        user = service.user()
        await user.get()
        proxy.passes.clear()

        answers = await asyncio.gather(*(user.get() for _ in range(3)))
        assert {answer.status_code for answer in answers} == {503}
        assert (await service.client.get("/health")).status_code == 200

        proxy.passes.set()
        assert (await user.get()).status_code == 200


@pytest.mark.requirement("T051", "T053")
async def test_a_session_leaves_a_silent_connection_to_nobody(proxy: Proxy) -> None:
    settings = make_settings(
        database_url=proxy.url + "?pgbouncer=true", db_statement_timeout=1, db_pool_size=1, db_max_overflow=0
    )
    async with running(settings) as service:
        assert (await service.user().get()).status_code == 200
        connections = proxy.connections
        proxy.passes.clear()
        with pytest.raises(ServiceUnavailable):
            async with service.app.state.database.session() as session:
                await session.exec(select(1))
        proxy.passes.set()

        assert (await service.user().get()).status_code == 200
        # Some to cancel the statement, and a new one to serve.
        assert proxy.connections >= connections + 2


@pytest.mark.requirement("T051", "T053")
async def test_one_silent_connection_makes_the_older_ones_doubtful(proxy: Proxy) -> None:
    settings = make_settings(database_url=proxy.url + "?pgbouncer=true", db_statement_timeout=1)
    async with running(settings) as service:
        user = service.user()
        await asyncio.gather(*(user.get() for _ in range(8)))
        # All that are there fall silent for good, as where a router forgets them; new ones work.
        proxy.silent_up_to = proxy.connections
        proxy.passes.clear()

        assert (await user.get()).status_code == 503
        answers = await asyncio.gather(*(user.get() for _ in range(8)))

        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.requirement("T051")
async def test_silent_connections_do_not_hold_up_the_end(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(10), running(make_settings(database_url=proxy.url)) as service:
        user = service.user()
        await asyncio.gather(*(user.get() for _ in range(5)))
        proxy.passes.clear()

    assert "Traceback" not in caplog.text


@pytest.mark.requirement("T051", "T053")
async def test_a_locked_row_costs_its_limit_and_the_query_ends_in_the_server(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    async with running(make_settings(database_url=url, db_statement_timeout=1)) as service:
        user = service.user()
        task = await user.new_task()
        admin = await asyncpg.connect(url)
        async with admin.transaction():
            await admin.execute("UPDATE task SET title = 'locked'")

            answer = await user.toggle(task["id"])

            assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
            running_on = await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND state = 'active'"
            )
            assert running_on == 0
        await admin.close()
        assert (await user.toggle(task["id"])).status_code == 200


@pytest.mark.requirement("T053")
async def test_an_unreachable_database_is_503_and_ready_says_so(service: Service) -> None:
    state = service.app.state
    down = make_settings(database_url="postgresql://u@127.0.0.1:9/x")
    up = state.database, state.readiness
    state.database, state.readiness = Database(down), ReadinessCheck(down)
    try:
        for answer in (await service.user().get(), await service.client.get("/ready")):
            assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
            assert int(answer.headers["Retry-After"]) > 0
        assert (await service.client.get("/health")).json() == {"status": "healthy"}
    finally:
        state.database, state.readiness = up


@pytest.mark.requirement("T053")
async def test_a_fault_of_the_program_is_no_fault_of_the_database(service: Service) -> None:
    database: Database = service.app.state.database

    with pytest.raises((asyncpg.UndefinedTableError, OperationalError)):
        await database.fetch(text("SELECT * FROM no_such_table"), {})
    if service.backend == "postgresql":
        with pytest.raises(asyncpg.DataError):
            await database.fetch(statements.GET_TASK, {"owner": 5, "task_id": 1})


@pytest.mark.requirement("T047")
async def test_the_schema_is_there_without_the_service(database_url: str) -> None:
    settings = make_settings(database_url=database_url)
    await upgrade_schema(settings)
    database = Database(settings)

    async with database.session() as session:
        rows = (await session.exec(select(Task))).all()

    await database.close()
    assert rows == []
