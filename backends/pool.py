"""An engine whose pool closes spare connections, and asyncpg connections that close in bounded time."""
# [Task]: T051, T089, T103, T105 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import contextlib
import time
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from config import Settings
from metrics import CONNECTIONS_IN_USE, REQUESTS_WAITING

CLOSE_TIMEOUT_SECONDS = 3.0
# A connection above `DB_POOL_SIZE` is closed when it has idled for this long.
SPARE_IDLE_SECONDS = 30.0
TRIM_SECONDS = 1.0
# Behind a pooler, a cancel request is sent this many times.
CANCELS = 4
CANCEL_PAUSE_SECONDS = 0.25


def make_engine(settings: Settings, connect_args: dict[str, Any]) -> AsyncEngine:
    """An engine for `DATABASE_URL`, not yet connected."""
    return create_async_engine(
        settings.database.url,
        connect_args=connect_args,
        hide_parameters=True,
        # SQLAlchemy closes an overflow connection as soon as it is returned; `Pool` waits a while.
        pool_size=settings.db_pool_size + settings.db_max_overflow,
        max_overflow=0,
        pool_timeout=settings.db_pool_timeout,
        pool_recycle=settings.db_pool_recycle,
        # The last returned is the next used, so that spare connections idle.
        pool_use_lifo=True,
        # Each transaction of the service is ended where it is begun.
        pool_reset_on_return=None,
    )


class Pool:
    """Tracks an engine's connections, and closes those above `DB_POOL_SIZE` that have idled."""

    def __init__(self, engine: AsyncEngine, settings: Settings) -> None:
        # Each free place with the time of its return, in the pool's order: the last is used next.
        self.idle: dict[ConnectionPoolEntry, float] = {}
        self._in_use = set[ConnectionPoolEntry]()
        self._kept = settings.db_pool_size
        self._is_measured = settings.metrics_token is not None
        self.waiting = REQUESTS_WAITING.track_inprogress() if self._is_measured else contextlib.nullcontext()
        self._trimming: asyncio.TimerHandle | None = None
        # The event loop keeps only weak references to tasks.
        self._ending = set[asyncio.Task[None]]()
        # Inserted first, since other listeners may wait for the database.
        event.listen(engine.sync_engine, "connect", self._note_connect, insert=True)
        event.listen(engine.sync_engine, "checkout", self._note_checkout)
        event.listen(engine.sync_engine, "checkin", self._note_return)
        event.listen(engine.sync_engine, "detach", self._note_return)

    @property
    def places(self) -> list[ConnectionPoolEntry]:
        """The places that have a connection, in use or not."""
        return [place for place in (*self.idle, *self._in_use) if place.driver_connection is not None]

    def end(self, driver: Any) -> None:
        """Closes a connection in the background."""
        task = asyncio.create_task(close_quietly(driver))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        if self._trimming is not None:
            self._trimming.cancel()
        await asyncio.gather(*self._ending)

    def _note_connect(self, _connection: Any, place: ConnectionPoolEntry) -> None:
        place.info["connected_at"] = time.monotonic()
        self.idle.pop(place, None)
        if self._trimming is None:
            self._trim_later()

    def _note_checkout(self, _connection: Any, place: ConnectionPoolEntry, _proxy: Any) -> None:
        place.info["idle_since"] = self.idle.pop(place, None)
        if place not in self._in_use:
            self._in_use.add(place)
            if self._is_measured:
                CONNECTIONS_IN_USE.inc()

    def _note_return(self, _connection: Any, place: ConnectionPoolEntry) -> None:
        self.idle[place] = time.monotonic()
        if place in self._in_use:  # a place that got no connection is returned, too
            self._in_use.remove(place)
            if self._is_measured:
                CONNECTIONS_IN_USE.dec()

    def _trim_later(self) -> None:
        self._trimming = asyncio.get_running_loop().call_later(TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        self._trimming = None
        if (spare := len(self.places) - self._kept) <= 0:
            return
        long_ago = time.monotonic() - SPARE_IDLE_SECONDS
        idle = [place for place in self.places if place in self.idle and self.idle[place] < long_ago]
        for place in idle[:spare]:
            del self.idle[place]
            self.end(place.driver_connection)
            # The pool connects anew when it needs the place again.
            place.invalidate(soft=True)
        self._trim_later()


async def close_quietly(driver: Any) -> None:
    # asyncpg aborts a connection that it can't close, and no request waits for the reason.
    with contextlib.suppress(Exception):
        await driver.close()


class BoundedConnection(asyncpg.Connection):  # type: ignore[misc] # asyncpg ships no types
    """An asyncpg connection that closes in bounded time and names its statements at random.

    asyncpg waits for the server to hang up. It numbers its statements, so that all processes use the
    same names: behind an undeclared transaction pooler, one's SELECT would run another's DELETE.
    """

    async def prepare(self, query: str, **options: Any) -> Any:
        return await super().prepare(query, **options | {"name": f"todo_{uuid4().hex}"})

    async def close(self, *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:  # noqa: ASYNC109 - asyncpg's
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=timeout)


class PgBouncerConnection(BoundedConnection):
    """A connection through a transaction pooler, whose server sets no limit to a statement.

    A pooler ignores a cancel request while the statement waits for a server connection, and may run
    it the next moment. So closing repeats the request before it hangs up.
    """

    # Unnamed, with asyncpg's cache off: a statement is sent with each use, in the same round trip, to
    # the server connection that the pooler chooses.
    prepare = asyncpg.Connection.prepare

    async def close(self, *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:  # noqa: ASYNC109 - asyncpg's
        if not self._cancellations:
            await super().close(timeout=timeout)
            return
        try:
            # asyncpg has no public method that cancels a statement.
            for _ in range(CANCELS):
                await asyncio.sleep(CANCEL_PAUSE_SECONDS)
                self._cancel_current_command(self._loop.create_future())
            await asyncio.wait(self._cancellations, timeout=timeout - CANCELS * CANCEL_PAUSE_SECONDS)
        finally:
            self.terminate()
