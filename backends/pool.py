"""Which of the pool's connections can be handed out, told without a round trip on the way, and
which are kept.
"""
# [Task]: T051, T089, T103, T105 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import contextlib
import math
import time
from collections import deque
from typing import Any
from uuid import uuid4
from weakref import WeakSet

import asyncpg
from sqlalchemy import PoolProxiedConnection, event
from sqlalchemy.exc import DisconnectionError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.concurrency import in_greenlet

from backends.faults import SPOILED, Fault

# How long a connection may idle before it is asked, on its way out of the pool, whether it lives.
TRUSTED_IDLE_SECONDS = 30.0
PING_TIMEOUT_SECONDS = 2.0
# A refused write makes the pool connect anew, since a primary may have become a standby, but no
# more than two do so in this time.
READ_ONLY_SECONDS = 3.0
CLOSE_TIMEOUT_SECONDS = 3.0
# After so long without use a connection goes that is there only because of a load.
SPARE_IDLE_SECONDS = 30.0
TRIM_SECONDS = 1.0
CANCELS = 4
CANCEL_PAUSE_SECONDS = 0.25


class BoundedConnection(asyncpg.Connection):  # type: ignore[misc] # asyncpg ships no types
    """A connection whose end has a limit (asyncpg's own waits for the server to hang up), and whose
    statements have names that no other process gives.

    asyncpg counts them, so that all processes give the same ones. Behind a transaction pooler that
    nobody declared, the name of a SELECT would be another process's DELETE.
    """

    async def prepare(self, query: str, **options: Any) -> Any:
        return await super().prepare(query, **options | {"name": f"todo_{uuid4().hex}"})

    async def close(self, *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:  # noqa: ASYNC109 - asyncpg's
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=timeout)


class PooledConnection(BoundedConnection):
    """One by way of a transaction pooler, where nobody but its client ends a statement.

    A pooler passes over the cancelling of a statement that still waits for a server, and may give
    it one the next moment. So it is cancelled some more times, and then the pooler is left.
    """

    # Without names, which needs asyncpg's cache to be off, statements go along with each use, in
    # the same round trip, and a pooler can hand them to any server connection.
    prepare = asyncpg.Connection.prepare

    async def close(self, *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:  # noqa: ASYNC109 - asyncpg's
        if not self._cancellations:
            await super().close(timeout=timeout)
            return
        try:
            for _ in range(CANCELS):
                await asyncio.sleep(CANCEL_PAUSE_SECONDS)
                self._cancel_current_command(self._loop.create_future())
            left = timeout - CANCELS * CANCEL_PAUSE_SECONDS
            await asyncio.wait(self._cancellations, timeout=left)
        finally:
            self.terminate()


class PoolHealth:
    """Watches an engine's pool. On Postgres, a connection that was closed, that doesn't answer
    after a long idle time, or that is older than the last silence is replaced by a new one. Those
    beyond the first `kept` go when they have idled; the pool alone would keep all, or close them as
    soon as they come back and open new ones the next moment.
    """

    def __init__(self, engine: AsyncEngine, kept: int) -> None:
        self._kept = kept
        # The pool's places where a connection was made.
        self._places: WeakSet[ConnectionPoolEntry] = WeakSet()
        self._trimming: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        # What was given back, the last one last, which comes first.
        self._idle: dict[ConnectionPoolEntry, None] = {}
        self._silence_at = -math.inf
        self._refusals = deque([-math.inf, -math.inf], maxlen=2)
        # First, since others that listen may wait for the database.
        event.listen(engine.sync_engine, "connect", self._note_connect, insert=True)
        event.listen(engine.sync_engine, "checkin", self._note_checkin)
        self._has_server = engine.dialect.name == "postgresql"
        if self._has_server:
            event.listen(engine.sync_engine, "checkout", self._check)
            event.listen(engine.sync_engine, "do_connect", self._need_greenlet)

    def is_spoiled_by(self, fault: Fault | None) -> bool:
        """Whether a connection is of no use after this fault. Then all that are as old may be."""
        if fault not in SPOILED:
            return False
        if fault is Fault.READ_ONLY:
            if time.monotonic() < self._refusals[0] + READ_ONLY_SECONDS:
                # New connections are refused, too: the database itself is read only.
                return False
            self._refusals.append(time.monotonic())
        self.note_silence()
        return True

    def note_silence(self) -> None:
        """A connection was of no use any more, and so may be all that there are."""
        self._silence_at = time.monotonic()

    def discard(self, connection: PoolProxiedConnection) -> None:
        """Takes a connection out of the pool, at once, and ends it behind everybody's back, with
        what its server may still run for it.
        """
        driver = connection.driver_connection
        connection.detach()
        self._end_behind(driver)

    def _end_behind(self, driver: Any) -> None:
        ending = asyncio.create_task(self._end(driver))
        # The loop alone would not keep it.
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    @staticmethod
    async def _end(driver: Any) -> None:
        # asyncpg aborts what it can't close; why it couldn't is nobody's concern any more.
        with contextlib.suppress(Exception):
            await driver.close()

    @property
    def places(self) -> list[ConnectionPoolEntry]:
        """The pool's places that have a connection, in use or not."""
        return [place for place in self._places if place.driver_connection is not None]

    async def close_connections(self) -> None:
        """Closes all, at the same time. The engine closes an SQLite file's, one by one: the last
        brings the log into the file, and of two that end at once each leaves it to the other.
        """
        if self._trimming is not None:
            self._trimming.cancel()
        ends = (self._end(place.driver_connection) for place in self.places)
        await asyncio.gather(*(ends if self._has_server else ()), *self._ending)

    def _note_connect(self, _connection: Any, record: Any) -> None:
        record.info["connected_at"] = record.info["idle_since"] = time.monotonic()
        self._places.add(record)
        if self._trimming is None:
            self._trim_later()

    def _trim_later(self) -> None:
        self._trimming = asyncio.get_running_loop().call_later(TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        """Lets go of what has idled, the longest first, while more are there than are kept."""
        self._trimming = None
        places = self.places
        spare = len(places) - self._kept
        if spare <= 0:
            return
        long_ago = time.monotonic() - SPARE_IDLE_SECONDS
        idle = (place for place in places if not place.in_use and place.info["idle_since"] < long_ago)
        for place in sorted(idle, key=lambda place: place.info["idle_since"])[:spare]:
            self._places.discard(place)
            self._end_behind(place.driver_connection)
            # Who needs this place again gets a new connection.
            place.invalidate(soft=True)
        self._trim_later()

    def _note_checkin(self, _connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()
        if self._has_server:
            self._idle[record] = None

    def is_at_hand(self) -> bool:
        """Whether the connection that comes next can be handed out as it is, so that no greenlet is
        needed, which would take a fifth of the time of a statement.
        """
        place = next(reversed(self._idle), None)
        if place is None or (driver := place.driver_connection) is None:
            return False
        return (
            not driver.is_closed()
            and place.info["connected_at"] >= self._silence_at
            and time.monotonic() - place.info["idle_since"] <= TRUSTED_IDLE_SECONDS
        )

    @staticmethod
    def _need_greenlet(*_: Any) -> None:
        """Refuses to connect outside a greenlet, where SQLAlchemy would leave asyncpg half open."""
        if not in_greenlet():
            raise MissingGreenlet

    def _check(self, connection: Any, record: Any, _proxy: Any) -> None:
        """`DisconnectionError` makes the pool connect anew."""
        self._idle.pop(record, None)
        driver: asyncpg.Connection = connection.driver_connection
        if record.info["connected_at"] < self._silence_at:
            driver.terminate()
        if driver.is_closed():
            raise DisconnectionError
        if time.monotonic() - record.info["idle_since"] > TRUSTED_IDLE_SECONDS:
            try:
                connection.run_async(lambda _: driver.execute("SELECT 1", timeout=PING_TIMEOUT_SECONDS))
            except BaseException as error:
                driver.terminate()
                self.note_silence()
                if not isinstance(error, Exception):
                    raise  # the request has no more time
                raise DisconnectionError from error
