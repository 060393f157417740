"""Writers at work while every part breaks, one after the other."""
# [Task]: T093, T151, T163 [From]: specs/reliability.md, specs/features/live-changes.md

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.faults.deployment import SHORT_LIMITS, Deployment
from tests.faults.kinds import FAULT_SECONDS, KINDS, Kind, Site
from tests.faults.postgres import PrivatePostgres
from tests.faults.proxy import FaultyProxy
from tests.faults.record import CALM_SECONDS, Record, Weather
from tests.faults.watching import Watcher, watching
from tests.faults.workload import writing
from tests.proxy import listening

WRITERS = 12
STREAMS_OF_A_USER = 2
# So short that tokens expire on the way.
VALIDITY_SECONDS = (5, 25)
WARM_UP_SECONDS = 0.5
# In which all is told at the end: some rounds of LIVE_INTERVAL, and the time of a new start.
GRACE_SECONDS = 15


@pytest.mark.requirement("T089", "T090", "T093", "T151", "T163")
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
        watchers: list[Watcher] = []
        async with watching() as watch:
            async with writing(record, service.url, chance, WRITERS) as writers:
                for writer in writers:
                    for _ in range(STREAMS_OF_A_USER):
                        watcher = Watcher(writer.user.id, service.port, VALIDITY_SECONDS, record.weather.now)
                        watchers.append(watcher)
                        watch(watcher)
                await asyncio.sleep(WARM_UP_SECONDS)
                kinds = shuffled(chance)
                while record.weather.now() + FAULT_SECONDS + CALM_SECONDS < seconds:
                    kind = next(kinds)
                    record.faults[kind.__name__] += 1
                    async with record.weather.fault(kind.__name__):
                        await kind(site)
                    await record.weather.stay_calm()
            async with killable.admin(database) as admin:
                versions = defaultdict(int, await admin.fetch("SELECT user_id, version FROM task_list_version"))
                record.compare(await admin.fetch("SELECT * FROM task"))
            # Writes that were done without an answer are told, too.
            with suppress(TimeoutError):
                await until_told(watchers, versions)
    record.judge(watchers, versions)
    record.read_log(service.output)
    seconds, requests = record.weather.now(), record.count["requests"]
    figures += [f"{seconds:.0f} s, seed {seed}, {requests} requests", *record.figures()]
    record.check()


async def until_told(watchers: list[Watcher], versions: Mapping[str, int]) -> None:
    async with asyncio.timeout(GRACE_SECONDS):
        while not all(watcher.version == versions[watcher.user_id] for watcher in watchers):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.05)


def shuffled(chance: Random) -> Iterator[Kind]:
    """Yields every kind once, in a random order, again and again."""
    while True:
        yield from chance.sample(KINDS, len(KINDS))
