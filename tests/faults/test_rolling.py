"""A rolling deploy: replica after replica gives way to a new version, with a migration in the middle."""
# [Task]: T178, T179 [From]: specs/features/hosting.md

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import uniform
from typing import Any

import httpx
import pytest

from tests.faults.balancer import balancing
from tests.faults.pgbouncer import pgbouncer_before
from tests.faults.postgres import PrivatePostgres
from tests.faults.rolling import (
    LIVE_INTERVAL,
    NEXT,
    Replicas,
    connections_computed,
    copy_with_a_migration,
    counting,
    migrate,
)
from tests.faults.watching import Owed, Watcher, summary, version_of, waits, watching
from tests.faults.workload import KEEP_ALIVE_SECONDS
from tests.server import ROOT
from tests.service import User
from tests.waiting import until_true

# 1,000 give the figures in docs/reliability.md.
STREAMS = int(os.environ.get("TEST_STREAMS", "100"))
STREAMS_OF_A_USER = 5
WRITES_A_SECOND = 25
LATE_SECONDS = LIVE_INTERVAL + 1
# What the client of docs/frontend.md repeats, and how often.
REPEATED = {502, 503, 504}
ATTEMPTS = 6


class Writer:
    """Creates one task after the other, and completes every second one. It repeats what had no answer, or one of the
    proxy's, and notes what its streams are owed.
    """

    def __init__(self, client: httpx.AsyncClient, pause: float) -> None:
        self.user = User(client)
        self._pause = pause
        self.is_over = False
        # Whether each task is completed, by its title.
        self.written: dict[str, bool] = {}
        self.owed: list[Owed] = []
        self.repeated: Counter[str] = Counter()

    async def run(self) -> None:
        while not self.is_over:
            await asyncio.sleep(uniform(0, 2 * self._pause))
            title = f"{self.user.id} {len(self.written)}"
            made = await self._send("POST", json={"title": title}, headers={"Idempotency-Key": f"{len(self.written)}"})
            self.written[title] = is_completed = len(self.written) % 2 == 1
            if is_completed:
                await self._send("PATCH", f"/{made.json()['id']}/complete", json={"completed": True})
            now = time.monotonic()
            self.owed.append(Owed(self.user.id, version_of((await self.read()).headers["ETag"]), now))

    async def read(self) -> httpx.Response:
        return await self._send("GET", "?limit=1000")

    async def _send(self, method: str, path: str = "", **kwargs: Any) -> httpx.Response:
        for attempt in range(ATTEMPTS):
            try:
                answer = await self.user.request(method, path, **kwargs)
            except httpx.TransportError as error:
                self.repeated[type(error).__name__] += 1
            else:
                if answer.status_code not in REPEATED:
                    assert answer.is_success, answer.text
                    return answer
                self.repeated[f"{answer.status_code}"] += 1
            await asyncio.sleep(uniform(0.1, 0.2) * 2**attempt)
        pytest.fail(f"{method} {path} was never done: {self.repeated}")


@asynccontextmanager
async def writing(url: str, trust: ssl.SSLContext) -> AsyncIterator[list[Writer]]:
    number = STREAMS // STREAMS_OF_A_USER
    async with AsyncExitStack() as stack:
        limits = httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS)
        clients = [httpx.AsyncClient(base_url=url, timeout=30, limits=limits, verify=trust) for _ in range(number)]
        yield [Writer(await stack.enter_async_context(client), number / WRITES_A_SECOND) for client in clients]


async def until_all_have_written(writers: list[Writer]) -> None:
    goals = {writer: len(writer.owed) + 1 for writer in writers}
    await until_true(lambda: all(len(writer.owed) >= goal for writer, goal in goals.items()))


@pytest.mark.requirement("T178", "T179")
async def test_a_rolling_deploy_loses_no_write_and_no_event(
    killable: PrivatePostgres, tmp_path: Path, tls: object, figures: list[str]
) -> None:
    database = await killable.make_database()
    code = copy_with_a_migration(tmp_path)
    trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    await migrate(ROOT, killable.url(database))
    async with AsyncExitStack() as stack:
        pooler = await stack.enter_async_context(pgbouncer_before(killable, database))
        most = await stack.enter_async_context(counting(pooler, killable, database))
        replicas = Replicas(tmp_path, stack, pooler.url)
        await asyncio.gather(*(replicas.start(ROOT) for _ in range(2)))
        balancer = await stack.enter_async_context(balancing(tmp_path, *replicas.urls))
        writers = await stack.enter_async_context(writing(balancer.url, trust))
        users = [writer.user.id for writer in writers]
        later = tuple(f"{status}".encode() for status in REPEATED)
        watchers = [
            Watcher(user, balancer.port, tls=trust, later=later) for user in users for _ in range(STREAMS_OF_A_USER)
        ]
        async with watching() as watch:
            for watcher in watchers:
                watch(watcher)
            await until_true(lambda: all(watcher.is_open for watcher in watchers))
            async with asyncio.TaskGroup() as group:
                for writer in writers:
                    group.create_task(writer.run())
                await until_all_have_written(writers)
                await migrate(code, killable.url(database))
                # An old replica that starts anew serves on the schema of the new ones.
                for version in (ROOT, code, code):
                    await replicas.replace_oldest(balancer, version)
                await until_true(lambda: all(watcher.ends and watcher.is_open for watcher in watchers))
                await until_all_have_written(writers)
                for writer in writers:
                    writer.is_over = True
            lists = {writer.user.id: await writer.read() for writer in writers}
            last = {user_id: version_of(answer.headers["ETag"]) for user_id, answer in lists.items()}
            with suppress(TimeoutError):
                await until_true(lambda: all(watcher.version == last[watcher.user_id] for watcher in watchers))

    found = waits((one for writer in writers for one in writer.owed), watchers)
    repeated = sum((writer.repeated for writer in writers), Counter[str]())
    written = sorted(item for writer in writers for item in writer.written.items())
    computed = connections_computed()
    took = replicas.stops[-1][1] - replicas.stops[0][0]
    refusals = sum(watcher.refusals for watcher in watchers)
    returns = sum(len(watcher.ends) for watcher in watchers)
    figures += [
        f"a rolling deploy: {len(watchers)} streams of {len(users)} users came back {returns} times",
        f"tasks created: {len(written)}; repeated: {repeated.total()} {dict(repeated)}; streams refused: {refusals}",
        f"from SIGTERM to the end of a process at most {replicas.longest_stop():.2f} s",
        f"from SIGTERM until all streams are open again at most {replicas.longest_return(watchers):.2f} s",
        f"from the first SIGTERM to the end of the last old process {took:.2f} s",
        summary(found, LATE_SECONDS),
        f"connections to the pooler: {most.pooler} of {computed} computed; to Postgres: {most.database}",
    ]
    assert {end.error for watcher in watchers for end in watcher.ends} == {""}
    assert {len(watcher.ends) for watcher in watchers} <= {1, 2, 3}
    assert [wrong for watcher in watchers for wrong in watcher.wrong] == []
    assert [wait for wait in found if wait.seconds is None] == []
    assert [watcher.version for watcher in watchers] == [last[watcher.user_id] for watcher in watchers]
    tasks = [task for answer in lists.values() for task in answer.json()]
    assert sorted((task["title"], task["completed"]) for task in tasks) == written
    assert most.pooler <= computed
    outputs = [one.output for one in replicas.started]
    # The third is the old one that started on the new schema.
    is_behind = [f"The schema is of a later version, {NEXT}, than this code" in output for output in outputs]
    assert is_behind == [False, False, True, False, False]
    assert "Traceback" not in "".join(outputs)
