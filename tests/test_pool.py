"""The pool: its size, its spare connections, and connections that fail or fall silent."""
# [Task]: T051, T053, T096, T105 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import event, func
from sqlmodel import select

from db import Database
from errors import ServiceUnavailable
from tests.databases import MakeDatabase
from tests.proxy import Proxy
from tests.service import Service, make_settings, running
from tests.test_db import UNAVAILABLE
from tests.waiting import is_closed, note_connections, until, until_closed


@pytest.mark.requirement("T051")
async def test_the_pool_has_its_size_and_gives_up_waiting(make_database: MakeDatabase) -> None:
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
            # The check has a connection of its own.
            assert (await service.client.get("/ready")).status_code == 200
        assert (await service.user().get()).status_code == 200


@pytest.mark.requirement("T105")
async def test_overflow_connections_are_reused(proxy: Proxy) -> None:
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
async def test_overflow_connections_go_when_they_idle(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
            # Connections in use stay open.
            assert open_connections() == 5
        await until(are_enough)
        if service.backend == "postgresql":
            admin = await asyncpg.connect(database_url)
            await until(lambda: admin.fetchval(f"SELECT ({OTHERS}) = 2"))
            await admin.close()

        # The last two stay open.
        await asyncio.sleep(0.1)
        assert open_connections() == 2
        # The pool grows again when it is needed.
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
    """Waits until no other connection to this database runs anything."""
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
async def test_an_abandoned_statement_ends_in_the_server(make_database: MakeDatabase, suffix: str, ending: str) -> None:
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
    """Opens so many connections, each of which has prepared the statement of a task's GET."""
    user = service.user()
    task = await user.new_task()
    while service.app.state.database.engine.pool.checkedin() < connections:
        answers = await asyncio.gather(*(user.get(f"/{task['id']}") for _ in range(connections)))
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.requirement("T053")
async def test_a_connection_closed_at_checkout_is_503(make_database: MakeDatabase) -> None:
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
        # Other connections may be cut as well, and are not tried.
        before = set(before)
        answers = await asyncio.gather(*(user.get() for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert all(one.is_closed() for one in before)


@pytest.mark.requirement("T053")
async def test_a_changed_table_fails_no_request(make_database: MakeDatabase) -> None:
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
async def test_a_connection_cut_while_idle_is_replaced(make_database: MakeDatabase) -> None:
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
async def test_an_old_connection_is_replaced(proxy: Proxy) -> None:
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
async def test_a_connection_that_idled_long_is_pinged(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(make_settings(database_url=proxy.url)) as service:
        user = service.user()
        await user.get()
        monkeypatch.setattr("backends.postgres.TRUSTED_IDLE_SECONDS", 0)
        monkeypatch.setattr("backends.postgres.PING_TIMEOUT_SECONDS", 1)
        connections, before = proxy.connections, proxy.round_trips

        assert (await user.get()).status_code == 200
        assert proxy.round_trips - before == 2
        assert proxy.connections == connections

        # Half-open: it takes all that is sent and never answers.
        proxy.passes.clear()
        proxy.has_connected.clear()
        waiting = asyncio.create_task(user.get())
        await proxy.has_connected.wait()
        proxy.passes.set()
        assert (await waiting).status_code == 200
        assert proxy.connections > connections


@pytest.mark.requirement("T051", "T053")
async def test_a_silent_database_costs_only_its_limit(proxy: Proxy) -> None:
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
async def test_a_session_gives_up_a_silent_connection(proxy: Proxy) -> None:
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
        # Some cancel the statement, and a new one serves.
        assert proxy.connections >= connections + 2


@pytest.mark.requirement("T051", "T053")
async def test_a_silent_connection_taints_older_ones(proxy: Proxy) -> None:
    settings = make_settings(database_url=proxy.url + "?pgbouncer=true", db_statement_timeout=1)
    async with running(settings) as service:
        user = service.user()
        await asyncio.gather(*(user.get() for _ in range(8)))
        # The open connections fall silent for good, as if a router forgot them; new ones work.
        proxy.silent_up_to = proxy.connections
        proxy.passes.clear()

        assert (await user.get()).status_code == 503
        answers = await asyncio.gather(*(user.get() for _ in range(8)))

        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.requirement("T051")
async def test_silent_connections_do_not_delay_a_stop(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(10), running(make_settings(database_url=proxy.url)) as service:
        user = service.user()
        await asyncio.gather(*(user.get() for _ in range(5)))
        proxy.passes.clear()

    assert "Traceback" not in caplog.text


@pytest.mark.requirement("T051", "T053")
async def test_a_query_on_a_locked_row_ends_in_the_server(make_database: MakeDatabase) -> None:
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


@pytest.mark.requirement("T051", "T096")
async def test_gauges_return_to_zero_after_every_kind_of_end(proxy: Proxy) -> None:
    settings = make_settings(
        database_url=proxy.url,
        metrics_token="a-token-of-this-test",
        db_pool_size=2,
        db_max_overflow=1,
        db_pool_timeout=0.3,
    )
    in_use, waiting = "todo_pool_connections_in_use", "todo_pool_requests_waiting"
    async with running(settings) as service:
        user, engine = service.user(), service.app.state.database.engine
        before = [REGISTRY.get_sample_value(name) for name in (in_use, waiting)]
        for number in range(60):
            requests = [asyncio.create_task(user.get()) for _ in range(6)]
            await asyncio.sleep(0.001 * (number % 7))
            if number % 3 == 0:
                requests[number % 6].cancel()
            if number % 5 == 0:
                proxy.cut()
            await asyncio.gather(*requests, return_exceptions=True)
            with contextlib.suppress(ServiceUnavailable):
                async with service.app.state.database.session() as session:
                    await session.exec(select(1))

        assert engine.pool.checkedout() == 0
        assert [REGISTRY.get_sample_value(name) for name in (in_use, waiting)] == before
        assert (await user.get()).status_code == 200
