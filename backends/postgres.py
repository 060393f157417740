"""Postgres: SQLAlchemy compiles the SQL and pools the connections, asyncpg runs single statements."""
# [Task]: T048, T051, T053, T088, T089, T103, T116, T117 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache, partial
from typing import Any, cast

import asyncpg
from sqlalchemy import ClauseElement, Dialect, Executable, PoolProxiedConnection, event
from sqlalchemy.exc import DisconnectionError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util.concurrency import in_greenlet
from sqlmodel.ext.asyncio.session import AsyncSession

from backends.faults import DatabaseUnavailable, Fault, explain, fault_of, sqlstate_of
from backends.pool import BoundedConnection, PgBouncerConnection, Pool, make_engine
from backends.url import Host
from config import Settings

logger = logging.getLogger(__name__)
# SQLAlchemy's own logger, for the statements that it doesn't run itself.
sql_logger = logging.getLogger("sqlalchemy.engine")

# The server cancels a statement after this share of the limit, asyncpg after all of it: a connection
# survives the server's cancel.
SERVER_SHARE = 0.95
# A database that restarts, or fails over, is often back after a moment.
RETRY_PAUSE_SECONDS = 0.2
# A connection that has idled for longer is pinged at checkout.
TRUSTED_IDLE_SECONDS = 30.0
PING_TIMEOUT_SECONDS = 2.0
# A write refused as read only makes the pool reconnect, to find the primary, at most twice in this time.
READ_ONLY_SECONDS = 3.0
# A host that failed is tried after the others for this time.
REMEMBERED_SECONDS = 30.0
# The time of each host's last failure, for all engines of the process.
FAILED_AT: dict[Host, float] = {}


def create_engine(settings: Settings, lock_timeout: float | None = None) -> AsyncEngine:
    target = settings.database
    connect_args = {
        "async_creator_fn": partial(connect_postgres, target.hosts),
        "connection_class": PgBouncerConnection if target.pooled else BoundedConnection,
        # asyncpg would name its own statements alike in every process.
        "statement_cache_size": 0,
        "timeout": settings.db_connect_timeout,
        **target.connect_args,
    }
    if lock_timeout is None:
        connect_args["command_timeout"] = settings.db_statement_timeout
        if not target.pooled:  # a pooler takes no startup parameters
            limit = {"statement_timeout": str(round(settings.db_statement_timeout * SERVER_SHARE * 1000))}
            connect_args["server_settings"] = connect_args.get("server_settings", {}) | limit
    return make_engine(settings, connect_args)


@lru_cache(maxsize=128)
def compile_sql(statement: ClauseElement, dialect: Dialect) -> tuple[str, Sequence[str], dict[str, Any]]:
    """Returns the SQL, the names of its `$1`, `$2`, …, and the values of the literals in it."""
    compiled = cast("SQLCompiler", statement.compile(dialect=dialect))
    values = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    return compiled.string, compiled.positiontup or (), values


@lru_cache(maxsize=128)
def reads_only(statement: Executable) -> bool:
    """Whether a statement changes nothing. A SELECT may have a part that writes, and is marked then."""
    return statement.is_select and not statement.get_execution_options().get("is_write")


class Postgres:
    """Runs statements on pooled connections, which are checked at checkout without a round trip."""

    def __init__(self, settings: Settings) -> None:
        self.engine = create_engine(settings)
        self._pool = Pool(self.engine, settings)
        # Connections older than this are replaced at checkout.
        self._broken_at = -math.inf
        self._refused_at = deque([-math.inf, -math.inf], maxlen=2)
        event.listen(self.engine.sync_engine, "checkout", self._check)
        event.listen(self.engine.sync_engine, "do_connect", need_greenlet)

    async def close(self) -> None:
        for place in self._pool.places:  # all at once; the engine would close one after the other
            self._pool.end(place.driver_connection)
        await self._pool.close()
        await self.engine.dispose()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            try:
                async with session.begin():
                    yield session
            except Exception as error:
                if self._is_broken_by(fault_of(error)):
                    await session.invalidate()
                raise

    async def fetch(self, statement: Executable, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Runs a statement, and once more after a fault if it can have changed nothing."""
        try:
            return await self._fetch_once(statement, parameters)
        except DatabaseUnavailable as error:
            if not error.is_repeatable:
                raise
            logger.warning("%s Trying once more.", error)
            error.count()
        await asyncio.sleep(RETRY_PAUSE_SECONDS)
        return await self._fetch_once(statement, parameters)

    async def _fetch_once(self, statement: Executable, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        sql, names, own_values = compile_sql(statement, self.engine.dialect)
        values = own_values | parameters
        sql_logger.info(sql)
        connection = await self._connect()
        driver: asyncpg.Connection = connection.driver_connection
        is_undone, is_broken = True, True
        try:
            prepared = connection.info.get(sql)
            if prepared is None:
                prepared = connection.info[sql] = await driver.prepare(sql)
            is_undone = reads_only(statement)
            records = await prepared.fetch(*[values[name] for name in names])
            is_broken = False
        except Exception as error:
            fault = fault_of(error) or (Fault.CONNECTION_LOST if driver.is_closed() else None)
            is_broken = self._is_broken_by(fault)
            if fault is None:
                raise
            raise DatabaseUnavailable(error, fault, is_undone=is_undone) from error
        finally:
            if is_broken:  # or cancelled: closing ends what the server may still run
                connection.detach()
                self._pool.end(driver)
            else:
                connection.close()
        return [dict(record) for record in records]

    async def _connect(self) -> PoolProxiedConnection:
        """Takes a connection from the pool, without a greenlet if the next idle one is usable as it is.

        The shortcut looks needless, but with a greenlet a statement costs 70 µs of CPU, not 45.
        """
        place, idle_since = next(reversed(self._pool.idle.items()), (None, 0.0))
        if place is not None and self._is_sound(place) and time.monotonic() - idle_since <= TRUSTED_IDLE_SECONDS:
            with suppress(MissingGreenlet):  # the pool may still want to replace it, by `DB_POOL_RECYCLE`
                return self.engine.sync_engine.raw_connection()
        with self._pool.waiting:
            return await self.engine.raw_connection()

    def _is_sound(self, place: ConnectionPoolEntry) -> bool:
        driver = place.driver_connection
        return driver is not None and not driver.is_closed() and place.info["connected_at"] >= self._broken_at

    def _is_broken_by(self, fault: Fault | None) -> bool:
        """Whether a connection is of no use after this fault. If so, older ones are replaced, too."""
        if fault is None or not fault.row.breaks_connection:
            return False
        now = time.monotonic()
        if fault is Fault.READ_ONLY:
            if now < self._refused_at[0] + READ_ONLY_SECONDS:
                return False  # writes on new connections were refused, too: the database is read only
            self._refused_at.append(now)
        self._broken_at = now
        return True

    def _check(self, connection: Any, place: ConnectionPoolEntry, _proxy: Any) -> None:
        """Checks a connection at checkout. On `DisconnectionError` the pool connects anew."""
        driver: asyncpg.Connection = connection.driver_connection
        if (idle_since := place.info["idle_since"]) is None:
            return  # it is new
        if not self._is_sound(place):
            driver.terminate()
            raise DisconnectionError
        if time.monotonic() - idle_since > TRUSTED_IDLE_SECONDS:
            try:
                connection.run_async(lambda _: driver.execute("SELECT 1", timeout=PING_TIMEOUT_SECONDS))
            except BaseException as error:
                driver.terminate()
                self._broken_at = time.monotonic()
                if not isinstance(error, Exception):
                    raise  # the request was cancelled
                raise DisconnectionError from error


def need_greenlet(*_: Any) -> None:
    """Refuses to connect outside a greenlet, where SQLAlchemy would leave asyncpg's connection half open."""
    if not in_greenlet():
        raise MissingGreenlet


async def connect_postgres(hosts: Sequence[Host], *_: Any, **options: Any) -> asyncpg.Connection:
    """Connects to the first host that serves, with a `timeout` for each. Raises `DatabaseUnavailable`.

    A refused login ends the search, since the other hosts have the same users.
    """
    long_ago = time.monotonic() - REMEMBERED_SECONDS
    # Hosts that failed lately come last. Sorting keeps the order of the others.
    for host in sorted(hosts, key=lambda host: max(FAILED_AT.get(host, long_ago), long_ago)):
        if host in FAILED_AT:
            # One request tries it again; those that come meanwhile try the others first.
            FAILED_AT[host] = time.monotonic()
        try:
            connection = await connect_to(host, options)
        except (Exception, asyncio.CancelledError) as error:
            FAILED_AT[host] = time.monotonic()
            if isinstance(error, asyncio.CancelledError):
                raise
            failure, fault = error, fault_of(error)
        else:
            FAILED_AT.pop(host, None)
            return connection
        if fault is Fault.LOGIN:
            break
        if len(hosts) > 1 and not isinstance(failure, FileNotFoundError):
            logger.warning("The database at %s %s", host, explain(failure, fault))
    fault = Fault.CONNECT_TIMEOUT if isinstance(failure, TimeoutError) else fault or Fault.UNREACHABLE
    raise DatabaseUnavailable(failure, fault, is_undone=True) from failure


async def connect_to(host: Host, options: dict[str, Any]) -> asyncpg.Connection:
    """Tries the host's TLS modes in order. Every option of the target is passed, since asyncpg takes
    missing ones from the environment (`PGHOST` and others).
    """
    tls, *others = host.tls
    place = {"host": host.name, "port": host.port, "ssl": tls, "direct_tls": False, "gsslib": "gssapi"}
    try:
        return await asyncpg.connect(**options | place)
    except Exception as error:
        # libpq's prefer and allow go on where the server has no TLS, or demands it.
        if not others or (fault_of(error) is not Fault.TLS and sqlstate_of(error) != "28000"):
            raise
    return await connect_to(host._replace(tls=tuple(others)), options)
