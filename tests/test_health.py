"""Health and readiness. `test_db.py` has `/ready` without a database."""
# [Task]: T060, T061, T104 [From]: specs/api/rest-endpoints.md

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import event, make_url, text

from backends.pool import CLOSE_TIMEOUT_SECONDS
from config import Settings
from migrations import upgrade_schema
from tests.databases import MakeDatabase
from tests.proxy import Proxy
from tests.service import Service, make_settings, running
from tests.waiting import until

READY = (200, {"status": "ready"})
UNAVAILABLE = (503, {"detail": "The database is unavailable, try again"})


def said(answer: httpx.Response) -> tuple[int, object]:
    return answer.status_code, answer.json()


@pytest.mark.requirement("T060")
async def test_health_touches_no_database(service: Service) -> None:
    pool = service.app.state.database.engine.sync_engine.pool

    def fail(*_: object) -> None:
        pytest.fail("a connection was taken")

    event.listen(pool, "checkout", fail)
    try:
        response = await service.client.get("/health")
    finally:
        event.remove(pool, "checkout", fail)

    assert (response.status_code, response.json()) == (200, {"status": "healthy"})


@pytest.mark.requirement("T061")
async def test_ready_asks_the_database(service: Service) -> None:
    response = await service.client.get("/ready")

    assert (response.status_code, response.json()) == (200, {"status": "ready"})


@pytest.mark.requirement("T104")
async def test_requests_share_one_check_a_second(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readiness.GOOD_FOR_SECONDS", 0)
    async with running(make_settings(database_url=proxy.url)) as service:
        await service.client.get("/ready")
        monkeypatch.setattr("readiness.GOOD_FOR_SECONDS", 60)
        before, connections = proxy.round_trips, proxy.connections
        # All these requests come before the first check is over, and one more after it.
        proxy.passes.clear()
        asking = [asyncio.create_task(service.client.get("/ready")) for _ in range(100)]
        await asyncio.sleep(0.1)
        proxy.passes.set()
        answers = [*await asyncio.gather(*asking), await service.client.get("/ready")]

        assert {answer.status_code for answer in answers} == {200}
        assert proxy.round_trips - before == 1
        assert proxy.connections == connections


@pytest.mark.requirement("T104")
async def test_a_check_is_repeated_after_a_second(proxy: Proxy) -> None:
    async with running(make_settings(database_url=proxy.url)) as service:
        await service.client.get("/ready")
        before = proxy.round_trips
        await asyncio.sleep(1.1)

        assert said(await service.client.get("/ready")) == READY
        assert proxy.round_trips - before == 1


@pytest.mark.requirement("T104")
async def test_a_failed_check_is_shared_and_logged_once(
    proxy: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(make_settings(database_url=proxy.url)) as service:
        monkeypatch.setattr("readiness.GOOD_FOR_SECONDS", 60)
        proxy.refuse()
        proxy.cut()
        answers = await asyncio.gather(*(service.client.get("/ready") for _ in range(10)))
        await proxy.listen()
        answers.append(await service.client.get("/ready"))

    assert [said(answer) for answer in answers] == [UNAVAILABLE] * 11
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    (line,) = [one for one in caplog.records if one.message.startswith("Not ready: ")]
    assert line.levelname == "ERROR"
    assert "DATABASE_URL can't be used: " in line.message


@pytest.mark.requirement("T104")
async def test_a_client_that_leaves_does_not_end_the_check(proxy: Proxy) -> None:
    async with running(make_settings(database_url=proxy.url)) as service:
        proxy.passes.clear()
        first, second = (asyncio.create_task(service.client.get("/ready")) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(0.1)
        proxy.passes.set()

        assert said(await second) == READY


@pytest.mark.requirement("T104")
@pytest.mark.usefixtures("always_checks")
async def test_ready_takes_no_connection_of_users(database_url: str) -> None:
    settings = make_settings(database_url=database_url, db_pool_size=1, db_max_overflow=0)
    async with running(settings) as service:
        pool = service.app.state.database.engine.sync_engine.pool
        async with service.app.state.database.engine.connect():
            answers = await asyncio.gather(*(service.client.get("/ready") for _ in range(9)))
            assert {answer.status_code for answer in answers} == {200}
        assert pool.checkedout() == 0


@pytest.mark.requirement("T104")
@pytest.mark.usefixtures("always_checks")
async def test_ready_answers_for_a_silent_database(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readiness.CHECK_SECONDS", 0.3)
    async with running(make_settings(database_url=proxy.url)) as service:
        assert said(await service.client.get("/ready")) == READY
        proxy.passes.clear()
        for _ in range(2):  # on the old connection, and on a new one
            assert said(await service.client.get("/ready")) == UNAVAILABLE
        proxy.passes.set()
        assert said(await service.client.get("/ready")) == READY


@pytest.mark.requirement("T104")
@pytest.mark.usefixtures("always_checks")
@pytest.mark.parametrize("is_connected", [True, False])
async def test_a_running_check_does_not_delay_a_stop(proxy: Proxy, *, is_connected: bool) -> None:
    # The check's pool is closed first, and then that of the requests.
    async with asyncio.timeout(3 * CLOSE_TIMEOUT_SECONDS), running(make_settings(database_url=proxy.url)) as service:
        if is_connected:
            assert said(await service.client.get("/ready")) == READY
        proxy.passes.clear()
        before = proxy.round_trips
        asking = asyncio.create_task(service.client.get("/ready"))

        async def has_asked() -> bool:
            return proxy.round_trips > before

        await until(has_asked)
        assert not asking.done()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.requirement("T104")
@pytest.mark.usefixtures("always_checks")
@pytest.mark.parametrize(
    "change", ["ALTER TABLE task RENAME TO task_of_old", "ALTER TABLE task RENAME COLUMN completed TO is_done"]
)
async def test_an_unreadable_table_is_not_ready(
    database_url: str, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(make_settings(database_url=database_url)) as service:
        assert said(await service.client.get("/ready")) == READY
        async with service.app.state.database.engine.begin() as connection:
            await connection.execute(text(change))

        answer = await service.client.get("/ready")

        assert said(answer) == UNAVAILABLE
        assert int(answer.headers["Retry-After"]) > 0
        lines = [one.message for one in caplog.records if "Not ready" in one.message]
        assert any(word in lines[-1] for word in ("task", "completed"))
        assert "Traceback" not in caplog.text


class Guest(NamedTuple):
    """A role without rights, the service's settings for it, and an administrator who grants them."""

    role: str
    settings: Settings
    admin: asyncpg.Connection


@pytest.fixture
async def guest(make_database: MakeDatabase) -> AsyncIterator[Guest]:
    url = await make_database("postgresql")
    await upgrade_schema(make_settings(database_url=url))
    role = f"todo_test_{uuid4().hex}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE ROLE {role} LOGIN")
    await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    as_role = make_url(url).set(username=role).render_as_string(hide_password=False)
    yield Guest(role, make_settings(database_url=as_role, db_migrate_on_start=False), admin)
    await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await admin.close()


@pytest.mark.requirement("T104")
@pytest.mark.usefixtures("always_checks")
async def test_a_table_without_a_grant_is_not_ready(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    async with running(guest.settings) as service:
        assert said(await service.client.get("/ready")) == READY
        await guest.admin.execute(f"REVOKE ALL ON task FROM {guest.role}")
        assert said(await service.client.get("/ready")) == UNAVAILABLE
        assert "permission denied for table task" in caplog.text

        await guest.admin.execute(f"GRANT ALL ON task TO {guest.role}")
        assert said(await service.client.get("/ready")) == READY


@pytest.mark.requirement("T104")
async def test_a_read_only_database_is_ready(guest: Guest) -> None:
    await guest.admin.execute(f"ALTER ROLE {guest.role} SET default_transaction_read_only = on")
    async with running(guest.settings) as service:
        assert (await service.user().post({"title": "x"})).status_code == 503
        assert said(await service.client.get("/ready")) == READY
