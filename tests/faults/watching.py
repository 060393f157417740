"""Streams of live changes that come back after each cut, and the verdict on what they were told.

The number in an event's id rises with each change, and is at least the time of the change in microseconds since the
epoch. A client must not rely on that; the verdict does, to find the first event that tells of a certain change.
"""
# [Task]: T093, T149, T151, T163 [From]: specs/reliability.md, specs/features/live-changes.md

import asyncio
import re
import ssl
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from operator import sub
from random import uniform
from typing import NamedTuple

from tests.leaks import watch
from tests.server import head
from tests.service import make_token

RETRY_SECONDS = 0.2
# More than the 15 s after which a comment comes at the latest.
SILENCE_SECONDS = 25
EVENT_ID = re.compile(r"^id: (.+)$", re.MULTILINE)
# The end of a stream may be this much before its token's, by the clocks of two processes.
CLOCK_SECONDS = 0.1


class Told(NamedTuple):
    version: int
    moment: float


class Owed(NamedTuple):
    """A version that each stream of a user has to be told, or a later one, and since when it is acknowledged."""

    user_id: str
    version: int
    moment: float


@dataclass
class End:
    """The end of a stream."""

    moment: float
    # Whether its token had expired.
    is_due: bool
    # What broke it off, or nothing if its answer was whole.
    error: str


@dataclass(eq=False)
class Watcher:
    """One tab of a user: keeps a stream open, and resumes after each end with a fresh token and the last id."""

    user_id: str
    port: int
    # The seconds for which its tokens are valid.
    validity: tuple[float, float] = (1000, 1000)
    now: Callable[[], float] = time.monotonic
    # Of the client, if there is TLS on the port.
    tls: ssl.SSLContext | None = None
    # The statuses with which it may be told to come back later.
    later: tuple[bytes, ...] = (b"503",)
    is_open: bool = False
    openings: list[float] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    refusals: int = 0
    # What no stream may do.
    wrong: list[str] = field(default_factory=list)
    last_id: str = ""

    @property
    def version(self) -> int | None:
        """The last version that it was told."""
        return self.told[-1].version if self.told else None

    async def run(self) -> None:
        while True:
            with suppress(OSError):  # nobody is there
                await self._watch()
            await asyncio.sleep(uniform(0, 2 * RETRY_SECONDS))

    async def _watch(self) -> None:
        # A whole number, as Better Auth's are.
        expires_at = int(time.time() + uniform(*self.validity))
        token = make_token(self.user_id, exp=expires_at)
        path = f"/api/{self.user_id}/tasks/events"
        request = head("GET", path, f"Authorization: Bearer {token}", f"Last-Event-ID: {self.last_id}")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        try:
            writer.write(request)
            error = await self._read(reader)
        finally:
            writer.transport.abort()  # with TLS, `close` would wait for the other side
        if self.is_open:
            self.is_open = False
            self.ends.append(End(self.now(), time.time() > expires_at - CLOCK_SECONDS, error))

    async def _read(self, reader: asyncio.StreamReader) -> str:
        """Reads a whole answer, and returns how it broke off, if it did."""
        try:
            status = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            if status != b"200":
                self.refusals += 1
                self.wrong += [] if status in self.later else [f"{status!r}"]
                return ""
            self.is_open = True
            self.openings.append(self.now())
            # Chunks (RFC 9112, section 7.1), of which the last is empty.
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    size = int(await reader.readline(), 16)
                    chunk = await reader.readexactly(size + 2)
                if not size:
                    return ""
                text = chunk.decode()
                watch.read(text, "a stream")
                for event_id in EVENT_ID.findall(text):
                    self._note(event_id)
        except (OSError, EOFError, ValueError, TimeoutError) as broken:
            return repr(broken)

    def _note(self, event_id: str) -> None:
        version = version_of(event_id)
        if self.version is not None and version < self.version:
            self.wrong.append(f"{event_id} was told after {self.last_id}")
        if self.last_id.partition("-")[0] not in {"", event_id.partition("-")[0]}:
            self.wrong.append(f"{event_id} of another list was told after {self.last_id}")
        if event_id != self.last_id:
            self.told.append(Told(version, self.now()))
        self.last_id = event_id


def version_of(tag: str) -> int:
    """The number in an event's id, or in a list's tag."""
    return int(tag.strip('W/"').rpartition("-")[2])


@asynccontextmanager
async def watching() -> AsyncIterator[Callable[[Watcher], None]]:
    """Runs all watchers that the function is called with, until the end."""
    tasks: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:
        yield lambda watcher: tasks.append(group.create_task(watcher.run()))
        for task in tasks:
            task.cancel()


class Wait(NamedTuple):
    """How long a stream waited for a change that it was owed: None if it was never told."""

    seconds: float | None
    owed: Owed
    watcher: Watcher


def waits(
    owed: Iterable[Owed], watchers: Iterable[Watcher], since: Callable[[float, float], float] = sub
) -> list[Wait]:
    """Returns each wait of each stream; `since` says for how many seconds it lasted, of its end and its beginning."""
    watchers_of: dict[str, list[Watcher]] = {}
    for watcher in watchers:
        watchers_of.setdefault(watcher.user_id, []).append(watcher)
    found = []
    for one in owed:
        for watcher in watchers_of[one.user_id]:
            place = bisect_left(watcher.told, one.version, key=lambda told: told.version)
            told = watcher.told[place : place + 1]
            seconds = max(since(told[0].moment, one.moment), 0) if told else None
            found.append(Wait(seconds, one, watcher))
    return found


def summary(all_waits: list[Wait], late_seconds: float) -> str:
    told = [wait.seconds for wait in all_waits if wait.seconds is not None]
    late = sum(seconds > late_seconds for seconds in told)
    return (
        f"changes owed to streams: {len(all_waits)}, told: {len(told)}, late: {late},"
        f" missed: {len(all_waits) - len(told)}; longest wait: {max(told, default=0):.2f} s"
    )
