# [Task]: T094 [From]: specs/reliability.md
"""The service behind a real PgBouncer in transaction mode."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import httpx
import pytest

from tests.faults.deployment import SHORT_LIMITS, Deployment
from tests.faults.pgbouncer import POOL_SIZE, PgBouncer, pgbouncer_before
from tests.faults.postgres import ROLE, PrivatePostgres
from tests.faults.record import Record, Weather
from tests.faults.workload import writing
from tests.service import User

OUTAGE_SECONDS = 1


class Site(NamedTuple):
    service: Deployment
    pooler: PgBouncer
    postgres: PrivatePostgres
    database: str


@pytest.fixture
async def site(killable: PrivatePostgres, tmp_path: Path) -> AsyncIterator[Site]:
    """Two workers before a pooler that has a fifth of the connections that they want."""
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
        # A transaction goes on seeing what it saw first.
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


BUSY = (
    "SELECT count(*) FROM pg_stat_activity"
    f" WHERE usename = '{ROLE}' AND datname = current_database() AND state = 'active'"
)
