"""Writers at work while every part breaks, one after the other."""
# [Task]: T093 [From]: specs/reliability.md

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.deployment import SHORT_LIMITS, Deployment
from tests.faults.kinds import FAULT_SECONDS, KINDS, Kind, Site
from tests.faults.postgres import PrivatePostgres
from tests.faults.proxy import FaultyProxy
from tests.faults.record import CALM_SECONDS, Record, Weather
from tests.faults.workload import writing
from tests.proxy import listening

WRITERS = 12
WARM_UP_SECONDS = 0.5


@pytest.mark.requirement("T089", "T090", "T093")
async def test_the_rule_holds_in_a_storm(
    pytestconfig: pytest.Config, killable: PrivatePostgres, tmp_path: Path, figures: list[str]
) -> None:
    seconds: float = pytestconfig.getoption("--fault-seconds")
    seed: int = pytestconfig.getoption("--fault-seed")
    chance = Random(seed)
    database = await killable.make_database()
    proxy = FaultyProxy(killable.url(database))
    async with (
        listening(proxy),
        Deployment(tmp_path, "--workers", "2", DATABASE_URL=proxy.url, **SHORT_LIMITS) as service,
    ):
        site = Site(killable, database, proxy, service, chance)
        record = Record(Weather())
        async with writing(record, service.url, chance, WRITERS):
            await asyncio.sleep(WARM_UP_SECONDS)
            kinds = shuffled(chance)
            while record.weather.now() + FAULT_SECONDS + CALM_SECONDS < seconds:
                kind = next(kinds)
                record.faults[kind.__name__] += 1
                async with record.weather.fault(kind.__name__):
                    await kind(site)
                await record.weather.stay_calm()
        async with killable.admin(database) as admin:
            record.compare(await admin.fetch("SELECT * FROM task"))
    record.read_log(service.output)
    seconds, requests = record.weather.now(), record.count["requests"]
    figures += [f"{seconds:.0f} s, seed {seed}, {requests} requests", *record.figures()]
    record.check()


def shuffled(chance: Random) -> Iterator[Kind]:
    """Yields every kind once, in a random order, again and again."""
    while True:
        yield from chance.sample(KINDS, len(KINDS))
