"""A deploy with open streams of live changes: the old service stops while users write to both."""
# [Task]: T151, T163 [From]: specs/features/live-changes.md, specs/reliability.md

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path
from random import uniform

import httpx
import pytest

from main import create_app
from tests.databases import MakeDatabase
from tests.faults.deployment import Deployment
from tests.faults.watching import Owed, Watcher, summary, version_of, waits, watching
from tests.faults.workload import KEEP_ALIVE_SECONDS
from tests.server import connect, head, serving
from tests.service import User, make_settings, make_token
from tests.waiting import until_true

# 1,000 give the figures in docs/reliability.md.
STREAMS = int(os.environ.get("TEST_STREAMS", "100"))
STREAMS_OF_A_USER = 5
WRITES_A_SECOND = 100
LIVE_INTERVAL = 0.5
LATE_SECONDS = LIVE_INTERVAL + 1
# How long users write to the old service, and how long to the new one.
BEFORE_SECONDS, AFTER_SECONDS = 1.5, 1.0
BOUND_SECONDS = 30


class Writer:
    """Writes one task after the other, and notes what its streams are owed: the list's version after each write. When
    its service takes no more, it goes to the new one, and sends no request again that might have been taken.
    """

    def __init__(self, client: httpx.AsyncClient, new: Deployment, pause: float) -> None:
        self.user = User(client)
        self._client = client
        self._new = new
        self._pause = pause
        self._has_moved = client.base_url.port == new.port
        self.is_over = False
        self.written: list[str] = []
        self.owed: list[Owed] = []

    async def run(self) -> None:
        while not self.is_over:
            await asyncio.sleep(uniform(0, 2 * self._pause))
            title = f"{self.user.id} {len(self.written)}"
            if (answer := await self._try(self.user.post({"title": title}))) is not None:
                assert answer.status_code == 201, answer.text
                self.written.append(title)
                now = time.monotonic()
                self.owed.append(Owed(self.user.id, version_of((await self.read()).headers["ETag"]), now))

    async def read(self) -> httpx.Response:
        """Reads the list, from either service."""
        if (answer := await self._try(self.user.get("?limit=1000"))) is None:
            answer = await self.user.get("?limit=1000")
        assert answer.status_code == 200, answer.text
        return answer

    async def _try(self, request: Awaitable[httpx.Response]) -> httpx.Response | None:
        try:
            return await request
        except httpx.TransportError:
            if self._has_moved:
                raise
            self._has_moved, self._client.base_url = True, httpx.URL(self._new.url)
            return None


until = partial(until_true, seconds=BOUND_SECONDS)


@pytest.mark.requirement("T151", "T163")
@pytest.mark.parametrize(("backend", "share"), [("postgresql", 1), ("sqlite", 4)])
async def test_a_deploy_with_open_streams_misses_no_change(
    make_database: MakeDatabase, tmp_path: Path, figures: list[str], backend: str, share: int
) -> None:
    settings = {"DATABASE_URL": await make_database(backend), "LIVE_INTERVAL": f"{LIVE_INTERVAL}"}
    old, new = (Deployment(tmp_path, "--workers", "2", **settings) for _ in range(2))
    writers: list[Writer] = []
    watchers: list[Watcher] = []
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(service) for service in (old, new)))
        number = STREAMS // share // STREAMS_OF_A_USER
        for place in range(number):
            # Half of the users write to the new service from the start.
            client = httpx.AsyncClient(
                base_url=[old.url, new.url][place % 2],
                timeout=30,
                limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
                verify=False,  # so that it doesn't read the system's certificates
            )
            writer = Writer(await stack.enter_async_context(client), new, number / WRITES_A_SECOND)
            writers.append(writer)
            watchers += [Watcher(writer.user.id, old.port) for _ in range(STREAMS_OF_A_USER)]

        async with watching() as watch:
            for watcher in watchers:
                watch(watcher)
            await until(lambda: all(watcher.is_open for watcher in watchers))
            async with asyncio.TaskGroup() as group:
                for writer in writers:
                    group.create_task(writer.run())
                await asyncio.sleep(BEFORE_SECONDS)
                for watcher in watchers:
                    watcher.port = new.port
                stopped_at = time.monotonic()
                assert await old.stop() in {0, -signal.SIGTERM}
                stopped = time.monotonic() - stopped_at
                await until(lambda: all(watcher.ends for watcher in watchers))
                ends = [watcher.ends[0] for watcher in watchers]
                await until(lambda: all(watcher.is_open for watcher in watchers))
                resumed = time.monotonic() - stopped_at
                await asyncio.sleep(AFTER_SECONDS)
                for writer in writers:
                    writer.is_over = True
            lists = {writer.user.id: await writer.read() for writer in writers}
            last = {user_id: version_of(answer.headers["ETag"]) for user_id, answer in lists.items()}
            # Writes that are done, and not acknowledged, are told, too.
            with suppress(TimeoutError):
                await until(lambda: all(watcher.version == last[watcher.user_id] for watcher in watchers))

    owed = [one for writer in writers for one in writer.owed]
    found = waits(owed, watchers)
    is_told = [watcher.version == last[watcher.user_id] for watcher in watchers]
    longest = max(end.moment for end in ends) - stopped_at
    figures += [
        f"a deploy on {backend}: {len(watchers)} streams of {number} users, {len(owed)} acknowledged writes",
        f"from SIGTERM to the last end of a stream {longest:.2f} s, to that of the process {stopped:.2f} s",
        f"from SIGTERM until all are open on the new service {resumed:.2f} s",
        summary(found, LATE_SECONDS),
    ]
    assert {end.error for end in ends} == {""}
    assert [len(watcher.ends) for watcher in watchers] == [1] * len(watchers)
    assert [wrong for watcher in watchers for wrong in watcher.wrong] == []
    assert [wait for wait in found if wait.seconds is None] == []
    assert all(is_told)
    written = [title for writer in writers for title in writer.written]
    assert sorted(task["title"] for answer in lists.values() for task in answer.json()) == sorted(written)
    assert "Traceback" not in old.output + new.output


@pytest.mark.requirement("T151")
@pytest.mark.parametrize("parser", ["httptools", "h11"])
async def test_a_stop_without_a_signal_ends_streams(make_database: MakeDatabase, parser: str) -> None:
    """As by uvicorn's `--limit-max-requests`."""
    app = create_app(make_settings(database_url=await make_database("sqlite")))
    with ExitStack() as stack:
        with serving(app, parser) as port:
            connection = stack.enter_context(connect(port))
            connection.sendall(head("GET", "/api/ada/tasks/events", f"Authorization: Bearer {make_token('ada')}"))
            received = b""
            while b"event: ready" not in received:
                received += connection.recv(65536)
        while more := connection.recv(65536):
            received += more

    assert received.endswith(b"\r\n0\r\n\r\n")
