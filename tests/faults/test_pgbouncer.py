"""The service behind a real PgBouncer in transaction mode."""
# [Task]: T052, T094, T103, T148 [From]: specs/reliability.md, specs/database/schema.md, specs/features/live-changes.md

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx
import pytest

from tests.faults.deployment import SHORT_LIMITS, Deployment
from tests.faults.pgbouncer import POOL_SIZE, PgBouncer, pgbouncer_before
from tests.faults.postgres import ROLE, PrivatePostgres
from tests.faults.record import Record, Weather
from tests.faults.workload import writing
from tests.leaks import SECRET
from tests.server import uvicorn_process
from tests.service import User
from tests.streams import list_id, open_stream, ready

OUTAGE_SECONDS = 1


class Site(NamedTuple):
    service: Deployment
    pooler: PgBouncer
    postgres: PrivatePostgres
    database: str


@pytest.fixture
async def site(killable: PrivatePostgres, tmp_path: Path) -> AsyncIterator[Site]:
    """Two workers behind a pooler that has a fifth of the connections that they want."""
    database = await killable.make_database()
    async with (
        pgbouncer_before(killable, database) as pooler,
        Deployment(tmp_path, "--workers", "2", DATABASE_URL=pooler.url, **SHORT_LIMITS) as service,
    ):
        yield Site(service, pooler, killable, database)


@pytest.mark.requirement("T094")
async def test_the_rule_holds_when_a_full_pooler_is_restarted(site: Site) -> None:
    record = Record(Weather())
    async with writing(record, site.service.url, Random(94), 12):
        await asyncio.sleep(1)
        for kill in (True, False):
            async with record.weather.fault("restart of PgBouncer"):
                await site.pooler.stop(kill=kill)
                await asyncio.sleep(OUTAGE_SECONDS)
                await site.pooler.start()
            await record.weather.stay_calm()
    async with site.postgres.admin(site.database) as admin:
        record.compare(await admin.fetch("SELECT * FROM task"))
    record.read_log(site.service.output)
    record.check()
    assert record.count["unanswered"] == 0


@pytest.mark.requirement("T094")
async def test_a_statement_limit_holds_behind_a_pooler(site: Site) -> None:
    async with (
        httpx.AsyncClient(base_url=site.service.url, timeout=30) as client,
        site.postgres.admin(site.database) as admin,
        # Not in a transaction, which would go on seeing its first snapshot.
        site.postgres.admin(site.database) as watcher,
    ):
        user = User(client)
        task = await user.new_task()
        async with admin.transaction():
            await admin.execute("LOCK TABLE task")
            answers = await asyncio.gather(*(user.toggle(task["id"]) for _ in range(2 * POOL_SIZE)))
            assert {answer.status_code for answer in answers} == {503}
            assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
            async with asyncio.timeout(8):
                while await watcher.fetchval(BUSY):  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(0.05)

        assert (await user.get(f"/{task['id']}")).json() == task
        assert (await user.toggle(task["id"])).status_code == 200


@pytest.mark.requirement("T148")
async def test_streams_are_told_by_way_of_a_pooler(site: Site) -> None:
    """More streams than the pooler has connections, of two workers, each of which is told what the other writes."""
    async with (
        httpx.AsyncClient(base_url=site.service.url, timeout=30) as client,
        site.postgres.admin(site.database) as admin,
        AsyncExitStack() as stack,
    ):
        user = User(client)
        streams = [await stack.enter_async_context(open_stream(client, user)) for _ in range(5 * POOL_SIZE)]
        for stream in streams:
            await ready(stream)
        for change in (user.new_task(), admin.execute("DELETE FROM task")):
            await change
            for stream in streams:
                await stream.told(await list_id(user))


@pytest.mark.requirement("T103")
async def test_an_undeclared_pooler_mixes_up_no_statements(killable: PrivatePostgres, tmp_path: Path) -> None:
    """Runs two processes that prepare their statements in different orders, on few server connections."""
    database = await killable.make_database()
    chance = Random(103)
    async with pgbouncer_before(killable, database, is_declared=False) as pooler, AsyncExitStack() as stack:
        users = []
        for _ in range(2):
            service = Deployment(tmp_path, DATABASE_URL=pooler.url, **SHORT_LIMITS)
            await stack.enter_async_context(service)
            client = httpx.AsyncClient(base_url=service.url, timeout=30)
            users += [User(await stack.enter_async_context(client), "somebody")] * 4
        tasks: dict[int, str] = {}
        statuses: Counter[int] = Counter()

        async def until_done(user: User, method: str, path: str = "", **kwargs: Any) -> Any:
            for _ in range(50):
                answer = await user.request(method, path, **kwargs)
                statuses[answer.status_code] += 1
                if answer.status_code != 503:
                    return answer.json()
            pytest.fail("it was never done")

        async def work(name: int, user: User) -> None:
            """Creates, reads, changes and fails to delete tasks, each in an order of its own."""
            methods = chance.sample(["GET", "PUT", "DELETE"], 3)
            for number in range(20):
                title = f"{name}-{number}"
                key = {"Idempotency-Key": title}
                made = await until_done(user, "POST", json={"title": title}, headers=key)
                tasks[made["id"]] = title
                for method in methods:
                    if method == "DELETE":
                        await until_done(user, "DELETE", "/4611686018427387904")
                        continue
                    task_id = chance.choice(list(tasks))
                    body = {"json": {"completed": True}} if method == "PUT" else {}
                    found = await until_done(user, method, f"/{task_id}", **body)
                    assert (found["id"], found["title"]) == (task_id, tasks[task_id])

        await asyncio.gather(*(work(name, user) for name, user in enumerate(users)))
    async with killable.admin(database) as admin:
        rows = await admin.fetch("SELECT id, title FROM task")
    assert dict(rows) == tasks
    assert set(statuses) <= {200, 201, 404, 503}


BUSY = (
    "SELECT count(*) FROM pg_stat_activity"
    f" WHERE usename = '{ROLE}' AND datname = current_database() AND state = 'active'"
)


@pytest.mark.requirement("T052")
async def test_an_undeclared_pooler_ends_a_start_at_once(killable: PrivatePostgres, tmp_path: Path) -> None:
    async with pgbouncer_before(killable, await killable.make_database()) as pooler:
        url = pooler.url.replace("pgbouncer=true", "")
        async with uvicorn_process(tmp_path, DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET) as server:
            assert await server.end() != 0

    assert "pgbouncer=true declares" in server.output
    assert "Trying again" not in server.output
    assert "Traceback" not in server.output
