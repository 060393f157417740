"""Sessions, single statements, and a database that fails."""
# [Task]: T047, T048, T049, T050, T053, T103 [From]: specs/database/schema.md

import asyncio
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlmodel import select

import statements
from auth.access import UserDatabase
from db import Database, SessionDep
from migrations import migration_connection, upgrade_schema
from models import Task
from readiness import ReadinessCheck
from tests.databases import MakeDatabase
from tests.proxy import Proxy
from tests.service import Service, StartService, User, make_settings, running

UNAVAILABLE = {"detail": "The database is unavailable, try again"}


async def call_all(user: User) -> AsyncIterator[tuple[str, Callable[[], Awaitable[Any]], int, int]]:
    """Yields each kind of request with its status and the round trips that it may cost."""
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
async def test_a_request_costs_one_round_trip(proxy: Proxy, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    async with running(make_settings(database_url=proxy.url + suffix)) as service:
        async for name, send, status, cost in call_all(service.user()):
            await send()  # warm
            caplog.clear()
            before = proxy.round_trips
            assert (await send()).status_code == status, name
            await asyncio.sleep(0.02)  # nothing runs on after the answer
            assert proxy.round_trips - before == cost, name
            statements = [one for one in caplog.records if one.name == "sqlalchemy.engine"]
            assert len(statements) == cost, name
        assert proxy.connections <= 3  # one to wait, one to migrate, one to serve


PREPARED = text("SELECT name FROM pg_prepared_statements")


@pytest.mark.requirement("T103")
@pytest.mark.parametrize("is_declared", [False, True], ids=["direct", "pooler"])
async def test_statement_names_are_unique_across_processes(proxy: Proxy, *, is_declared: bool) -> None:
    suffix = "?pgbouncer=true" if is_declared else ""
    settings = make_settings(database_url=proxy.url + suffix, db_pool_size=1, db_max_overflow=0)
    async with running(settings) as service:
        database: Database = service.app.state.database
        await database.fetch(statements.GET_TASK, {"owner": "", "task_id": 1})
        async with database.session() as session:
            await session.exec(select(Task))
            driver = (await (await session.connection()).get_raw_connection()).driver_connection
            assert driver is not None
            await driver.fetchval("SELECT $1::int", 1)  # a statement that asyncpg prepares itself
        names = [row["name"] for row in await database.fetch(PREPARED, {})]
    async with migration_connection(settings) as connection:
        names += (await connection.execute(PREPARED)).scalars()

    assert all(re.fullmatch("todo_[0-9a-f]{32}", name) for name in names)
    assert len(set(names)) == len(names)
    assert bool(names) is not is_declared


NO_KEY = {"key": None, "digest": None}
NEW = {"new_completed": False, "new_description": None, "now": datetime(2026, 1, 1, tzinfo=UTC), **NO_KEY}


def with_routes(app: FastAPI) -> list[str]:
    """Adds routes, one with a transaction of two statements. Returns a list that notes the order of events."""
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
        await UserDatabase(user, request.app.state.database).one(statements.CREATE_TASK, new_title="one", **NEW)
        raise ZeroDivisionError

    engine = app.state.database.engine.sync_engine
    event.listen(engine, "commit", lambda _: order.append("commit"))
    event.listen(engine, "rollback", lambda _: order.append("rollback"))
    return order


@pytest.mark.requirement("T047")
async def test_a_session_is_atomic_and_commits_first(database_url: str) -> None:
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
async def test_a_statement_is_committed_when_it_returns(database_url: str) -> None:
    async with running(make_settings(database_url=database_url)) as service:
        with_routes(service.app)

        assert (await service.client.post("/one?user=a")).status_code == 500

        assert len((await service.user("a").get()).json()) == 1


@pytest.mark.requirement("T047")
async def test_sqlite_sessions_wait_for_each_other(make_database: MakeDatabase) -> None:
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
async def test_a_failed_commit_is_no_success_on_postgres(
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
async def test_a_failed_commit_is_no_success_on_sqlite(make_database: MakeDatabase) -> None:
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
async def test_sqlite_pragmas_make_commits_durable(make_database: MakeDatabase) -> None:
    async with running(make_settings(database_url=await make_database("sqlite"))) as service:
        engine = service.app.state.database.engine
        async with engine.connect() as connection:
            values = {
                name: (await connection.execute(text(f"PRAGMA {name}"))).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }

    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 250}


@pytest.mark.requirement("T053")
async def test_an_unreachable_database_is_503(start: StartService, make_database: MakeDatabase) -> None:
    service = await start(database_url=await make_database("sqlite"))
    down = make_settings(database_url="postgresql://u@127.0.0.1:9/x")
    service.app.state.database, service.app.state.readiness = Database(down), ReadinessCheck(down)

    for answer in (await service.user().get(), await service.client.get("/ready")):
        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
        assert int(answer.headers["Retry-After"]) > 0
    assert (await service.client.get("/health")).json() == {"status": "healthy"}


@pytest.mark.requirement("T053")
async def test_an_error_of_the_program_is_no_fault(service: Service) -> None:
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
