"""Live changes: tells open streams that their user's list changed, by the version that the database keeps of it."""
# [Task]: T148, T150, T152, T153 [From]: specs/features/live-changes.md

import asyncio
import json
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from fastapi import HTTPException, status

import statements
from backends.faults import unavailable
from db import Database
from metrics import LIMITS_REACHED, OPEN_STREAMS

logger = logging.getLogger(__name__)

MOST_STREAMS = 2000
MOST_STREAMS_OF_A_USER = 20
TOO_MANY = "Too many open streams"
RETRY_AFTER = {"Retry-After": "5"}

# Changes so close together are asked for by one query.
SETTLE_SECONDS = 0.02
# The limit of a query for all who look, and the time until the next one after a failure: together less than the 5 s
# after which everything works again.
QUERY_SECONDS = 3.0
RETRY_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class Watch:
    """The version of one user's list, as far as it is known, and the streams to wake when it changes."""

    streams: "set[Stream]" = field(default_factory=set)
    version: int = 0
    # The number of the query that told the version.
    query: int = 0

    def learn(self, query: int, version: int) -> None:
        """Notes what a query found, unless a later query was answered first. Versions are compared for equality alone:
        one that was restored, or of a user who is gone, is lower.
        """
        if query > self.query:
            # Before the first answer no stream has told anything.
            has_changed = self.query and version != self.version
            self.query, self.version = query, version
            for stream in self.streams if has_changed else ():
                stream.wake()


@dataclass(eq=False, slots=True)
class Stream:
    """One open stream."""

    watch: Watch
    is_over: bool = False
    # Done when it was woken. An `Event` would make each stream 0.7 kB larger.
    woken: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def wake(self) -> None:
        """Wakes it, since there may be something to tell, or it is over."""
        if not self.woken.done():
            self.woken.set_result(None)

    def end(self) -> None:
        self.is_over = True
        self.wake()

    async def wait(self, until: float) -> None:
        """Waits to be woken, until a time of the loop's clock at the latest."""
        loop = asyncio.get_running_loop()
        timer = loop.call_at(until, self.wake)
        await self.woken
        timer.cancel()
        self.woken = loop.create_future()


class Live:
    """All open streams of this worker. Every `interval` seconds, one query finds what other workers changed in the
    lists of all users with a stream; the lists that this worker changed are looked up at once.

    After `idle` seconds in which no request used the database, the queries pause, so that the database may sleep; 0
    means that they never do.
    """

    def __init__(self, database: Database, interval: float, idle: float) -> None:
        self._database = database
        self._interval = interval
        self._idle = idle
        self._watches: dict[str, Watch] = {}
        self._open = 0
        self._changed: set[str] = set()
        self._queries = count(1)
        self._clock = asyncio.get_running_loop().time
        self._used_at = self._next_round = self._clock()
        self._signal = asyncio.Event()
        self._is_stopping = False
        self._has_failed = False

    def note_use(self, user_id: str | None = None) -> None:
        """Notes that a request used the database, and that it may have changed the list of a user."""
        if self._is_asleep():
            self._next_round = self._clock()
            self._signal.set()
        self._used_at = self._clock()
        if user_id in self._watches:
            self._changed.add(user_id)
            self._signal.set()

    def open(self, user_id: str) -> Stream:
        """Opens a stream, to be closed. Answers 429 if the user has too many in this worker, and 503 if the worker
        has.
        """
        watch = self._watches.get(user_id)
        if watch and len(watch.streams) >= MOST_STREAMS_OF_A_USER:
            LIMITS_REACHED.labels("user_streams").inc()
            raise HTTPException(status.HTTP_429_TOO_MANY_REQUESTS, TOO_MANY, RETRY_AFTER)
        if self._open >= MOST_STREAMS:
            LIMITS_REACHED.labels("worker_streams").inc()
            raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, TOO_MANY, RETRY_AFTER)
        self.note_use()
        if not self._watches:
            # The stream asks for itself.
            self._next_round = self._clock() + self._interval
        watch = self._watches.setdefault(user_id, Watch())
        stream = Stream(watch)
        if self._is_stopping:
            stream.end()
        watch.streams.add(stream)
        self._open += 1
        OPEN_STREAMS.inc()
        self._signal.set()
        return stream

    def close(self, user_id: str, stream: Stream) -> None:
        OPEN_STREAMS.dec()
        self._open -= 1
        stream.watch.streams.remove(stream)
        if not stream.watch.streams:
            del self._watches[user_id]

    def stop(self) -> None:
        """Ends all streams, and each that is opened from now on as soon as it has begun."""
        self._is_stopping = True
        for watch in self._watches.values():
            for stream in watch.streams:
                stream.end()

    async def ask(self, users: Collection[str]) -> None:
        """Looks up the versions of the lists of these users, who all have a stream. Raises `ServiceUnavailable`."""
        query = next(self._queries)
        names = json.dumps([{"id": user_id} for user_id in users])
        rows = await self._database.fetch(statements.LIST_VERSIONS, {"users": names})
        versions = {row["user_id"]: row["version"] for row in rows}
        for user_id in users:
            if watch := self._watches.get(user_id):
                watch.learn(query, versions.get(user_id, 0))

    async def run(self) -> None:
        """Asks as long as the service runs."""
        while True:
            is_asking = self._watches and not self._is_asleep()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next_round if is_asking else None):
                    await self._signal.wait()
            self._signal.clear()
            users = self._changed & self._watches.keys()
            self._changed.clear()
            if self._clock() >= self._next_round:
                self._next_round = self._clock() + self._interval
                users = set(self._watches)
            if users:
                await self._ask_bounded(users)
                await asyncio.sleep(SETTLE_SECONDS)

    async def _ask_bounded(self, users: set[str]) -> None:
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                await self.ask(users)
            self._has_failed = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the next round asks again
            fault = unavailable(error)
            fault.count()
            if not self._has_failed:
                logger.warning("Open streams wait, and are told later what changed meanwhile: %s", fault)
            self._has_failed = True
            self._next_round = min(self._next_round, self._clock() + RETRY_SECONDS)

    def _is_asleep(self) -> bool:
        return 0 < self._idle <= self._clock() - self._used_at
