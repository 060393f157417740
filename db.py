"""The database: its engine, its pool, and its two ways to run statements."""
# [Task]: T047, T048, T050, T051, T052, T088, T089, T103, T105 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple, cast

import asyncpg
from fastapi import Depends, Request
from sqlalchemy import ClauseElement, Dialect, Executable, NullPool, PoolProxiedConnection, QueuePool
from sqlalchemy.exc import InvalidRequestError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import greenlet_spawn
from sqlmodel.ext.asyncio.session import AsyncSession

from backends.faults import Fault, fault_of, translate_faults, unavailable
from backends.pool import BoundedConnection, PooledConnection, PoolHealth
from backends.postgres import connect_postgres
from backends.sqlite import SQLiteFile, prepare_engine
from backends.url import DatabaseTarget
from config import Settings
from errors import ServiceUnavailable
from metrics import CONNECTIONS_IN_USE, REQUESTS_WAITING

logger = logging.getLogger(__name__)
# Where SQLAlchemy logs the statements that it runs itself.
sql_logger = logging.getLogger("sqlalchemy.engine")

# A row by the names of its columns.
Row = dict[str, Any]

# The server gives up after this part of the limit, asyncpg after all of it: an end by the server
# leaves the connection in order.
SERVER_SHARE = 0.95

# A database that restarts, or fails over, is often there again after a moment.
RETRY_PAUSE_SECONDS = 0.2

START_PATIENCE_SECONDS = 30.0


def create_engine(settings: Settings, *, is_for_migrations: bool = False) -> AsyncEngine:
    """The engine for `DATABASE_URL`, not yet connected.

    The one for migrations keeps no connections and gives statements all the time they need.
    """
    target = settings.database
    connect_args = dict(target.connect_args)
    if target.is_sqlite:
        # How long to wait for a lock that another holds.
        connect_args["timeout"] = START_PATIENCE_SECONDS if is_for_migrations else settings.db_statement_timeout
    else:
        connect_args["async_creator_fn"] = partial(connect_postgres, target.hosts)
        connect_args["connection_class"] = PooledConnection if target.pooled else BoundedConnection
        # What asyncpg runs by itself would else have names, too, which every process gives alike.
        connect_args["statement_cache_size"] = 0
        connect_args.setdefault("timeout", settings.db_connect_timeout)
        if not is_for_migrations:
            connect_args |= limit_statements(target, settings.db_statement_timeout)
    pool_args: dict[str, Any] = (
        {"poolclass": NullPool}
        if is_for_migrations
        else {
            # A connection above the pool's size would be closed as soon as it comes back.
            # `PoolHealth` lets it go when it has idled.
            "pool_size": settings.db_pool_size + settings.db_max_overflow,
            "max_overflow": 0,
            "pool_timeout": settings.db_pool_timeout,
            "pool_recycle": settings.db_pool_recycle,
            # So that the connections that a quiet service doesn't need idle.
            "pool_use_lifo": True,
        }
    )
    engine = create_async_engine(target.url, connect_args=connect_args, hide_parameters=True, **pool_args)
    if target.is_sqlite:
        prepare_engine(engine)
    return engine


def limit_statements(target: DatabaseTarget, seconds: float) -> dict[str, Any]:
    """asyncpg's arguments that end a statement after so many seconds, on the server too where
    the connection takes a startup parameter, which a pooler doesn't.
    """
    if target.pooled:
        return {"command_timeout": seconds}
    milliseconds = str(round(seconds * SERVER_SHARE * 1000))
    server_settings = target.connect_args.get("server_settings", {})
    return {"command_timeout": seconds, "server_settings": {**server_settings, "statement_timeout": milliseconds}}


class CompiledSQL(NamedTuple):
    """A statement as asyncpg takes it: the text, the names of its `$1`, `$2`, …, and the values of
    those that come with the statement.
    """

    text: str
    names: Sequence[str]
    values: dict[str, Any]


@lru_cache(maxsize=128)
def compile_sql(statement: ClauseElement, dialect: Dialect) -> CompiledSQL:
    compiled = cast("SQLCompiler", statement.compile(dialect=dialect))
    values = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    return CompiledSQL(compiled.string, compiled.positiontup or (), values)


class Database:
    """The engine and the two ways to run statements on it: a session, for a unit of work of
    several statements, and a single statement that is its own transaction.
    """

    def __init__(self, settings: Settings) -> None:
        self.engine = create_engine(settings)
        self._health = PoolHealth(self.engine, settings.db_pool_size)
        self._pool = cast("QueuePool", self.engine.pool)
        self._sqlite = SQLiteFile(self.engine, settings.db_statement_timeout) if settings.database.is_sqlite else None
        # Requests that wait for a connection.
        self.waiting = 0

    def note_use(self) -> None:
        """Tells the metrics how the pool is used now."""
        CONNECTIONS_IN_USE.set(self._pool.checkedout())
        REQUESTS_WAITING.set(self.waiting)

    async def close(self) -> None:
        await self._health.close_connections()
        await self.engine.dispose()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end, rolled back on an error.

        Raises `ServiceUnavailable` where the database can't serve.
        """
        unit = self._sqlite.transaction() if self._sqlite else nullcontext(self.engine)
        with translate_faults():
            async with unit as bind, AsyncSession(bind, expire_on_commit=False) as session:
                try:
                    async with session.begin():
                        yield session
                except Exception as error:
                    if self._health.is_spoiled_by(fault_of(error)):
                        await session.invalidate()
                    raise

    async def fetch(self, statement: Executable, parameters: dict[str, Any]) -> list[Row]:
        """Runs one statement as a transaction of its own, in one round trip on Postgres, and
        returns its rows; what it wrote is committed by then.

        Raises `ServiceUnavailable` where the database can't serve.
        """
        with translate_faults():
            if self._sqlite:
                return await self._sqlite.execute(statement, parameters)
            return await self._fetch(statement, parameters)

    async def _fetch(self, statement: Executable, parameters: dict[str, Any]) -> list[Row]:
        try:
            return await self._fetch_once(statement, parameters)
        except ServiceUnavailable as error:
            if not error.is_repeatable:
                raise
            logger.warning("%s Trying once more.", error)
        await asyncio.sleep(RETRY_PAUSE_SECONDS)
        return await self._fetch_once(statement, parameters)

    async def _fetch_once(self, statement: Executable, parameters: dict[str, Any]) -> list[Row]:
        """Gives SQL to asyncpg as it is: SQLAlchemy made it and keeps the connections, but takes
        twice as long to run it.
        """
        sql = compile_sql(statement, self.engine.dialect)
        values = sql.values | parameters
        sql_logger.info(sql.text)
        connection = await self._connect()
        driver: asyncpg.Connection = connection.driver_connection
        is_undone = True
        try:
            prepared = connection.info.get(sql.text)
            if prepared is None:
                prepared = connection.info[sql.text] = await driver.prepare(sql.text)
            is_undone = statement.is_select
            records = await prepared.fetch(*[values[name] for name in sql.names])
        except Exception as error:
            fault = fault_of(error) or (Fault.CONNECTION_LOST if driver.is_closed() else None)
            if self._health.is_spoiled_by(fault):
                self._health.discard(connection)
            else:
                connection.close()
            if fault is None:
                raise
            raise unavailable(error, fault, is_undone=is_undone) from error
        except asyncio.CancelledError:
            self._health.discard(connection)
            raise
        connection.close()
        return [dict(record) for record in records]

    async def _connect(self) -> PoolProxiedConnection:
        self.waiting += 1
        try:
            if self._health.is_at_hand():
                # It may be due for its replacement all the same.
                with suppress(MissingGreenlet):
                    return self._pool.connect()
            return await greenlet_spawn(self._pool.connect)
        except InvalidRequestError as error:
            # Several that were made one after the other were closed at once.
            raise unavailable(error, Fault.CONNECTION_LOST, is_undone=True) from error
        finally:
            self.waiting -= 1


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    database: Database = request.app.state.database
    async with database.session() as session:
        yield session


# scope="function": a session commits before the answer is sent, not after it.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
