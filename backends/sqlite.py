"""SQLite: a file opened so that no acknowledged write is lost, with one writer at a time, and checked
before each use, since somebody may take it away.
"""
# [Task]: T050, T107, T108, T109 [From]: specs/database/schema.md

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import aiosqlite
from sqlalchemy import Executable, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from backends.faults import DatabaseUnavailable, Fault, fault_of
from backends.functions import SQLITE_FUNCTIONS
from backends.pool import Pool, make_engine
from config import Settings

# SQLite waits for a lock in a thread that can't be interrupted. So it waits in pieces, and a cancelled
# request ends after one of them.
PIECE_SECONDS = 0.25
# This many writers may hold a connection: one writes, while others take or return theirs.
PLACES = 3
TAKEN_AWAY = "the file, its -wal or its -shm was taken away; put it back as it was, or restart the service"

# The device and inode of the database, its log and the log's index, or None where there is no file.
Files = tuple[tuple[int, int] | None, ...]
# The paths by which this process opened its connections, and the files that it found there.
OPENED = WeakKeyDictionary[aiosqlite.Connection, tuple[tuple[str, ...], Files]]()


def create_engine(settings: Settings, lock_timeout: float | None = None) -> AsyncEngine:
    """An engine for the file. A missing file is created, readable by its owner alone."""
    # Transactions begin by `begin_immediate` alone, not by the driver.
    own = {"timeout": lock_timeout or PIECE_SECONDS, "isolation_level": None}
    engine = make_engine(settings, {**settings.database.connect_args, **own})
    # SQLite itself will say why a file can't be created. An existing one must not be opened: closing it
    # would end the locks that SQLite holds on it.
    with suppress(OSError):
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(os.open(os.path.realpath(str(engine.url.database)), flags, 0o600))
    event.listen(engine.sync_engine, "do_connect", open_existing)
    event.listen(engine.sync_engine, "connect", prepare_connection)
    event.listen(engine.sync_engine, "begin", begin_immediate)
    event.listen(engine.sync_engine, "do_execute", execute_patiently)
    return engine


def open_existing(_dialect: Any, _place: Any, arguments: list[Any], options: dict[str, Any]) -> None:
    """Opens the file without creating it: a deleted one would come back without its tables."""
    arguments[0] = f"{Path(arguments[0]).as_uri()}?mode=rw"
    options["uri"] = True


def prepare_connection(connection: Any, _place: Any) -> None:
    for name, (arguments, function) in SQLITE_FUNCTIONS.items():
        connection.create_function(name, arguments, function, deterministic=True)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # in WAL mode, NORMAL may lose the last commits
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("SELECT name FROM sqlite_master")  # which opens the -wal and the -shm
    cursor.close()


def begin_immediate(connection: Any) -> None:
    """Takes the write lock at the start: a transaction that reads first would fail at its write, without
    waiting, if another has written in between.
    """
    if not connection.get_execution_options().get("is_single_statement"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def execute_patiently(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Runs a statement, again and again until its deadline while another process holds the lock."""
    while True:
        try:
            cursor.execute(statement, parameters)
        except asyncio.CancelledError:
            # The thread runs it all the same, and it would hold the lock until its rows are fetched.
            cursor.close()
            raise
        except sqlite3.OperationalError as error:
            deadline = context.execution_options.get("lock_deadline", 0)
            if fault_of(error) is not Fault.LOCKED or time.monotonic() >= deadline:
                raise
        else:
            return True


class SQLite:
    """Runs statements on the file at the path of `DATABASE_URL`, and on no other.

    Writers of this process queue for a lock of its own, for `db_statement_timeout`. At SQLite's lock they
    would sleep, and be overtaken.
    """

    def __init__(self, settings: Settings) -> None:
        self.engine = create_engine(settings)
        self._single = self.engine.execution_options(is_single_statement=True)
        self._pool = Pool(self.engine, settings)
        self._patience = settings.db_statement_timeout
        self._lock = asyncio.Lock()
        self._places = asyncio.Semaphore(PLACES)
        path = str(self.engine.url.database)
        self._paths = (path, *(os.path.realpath(path) + suffix for suffix in ("-wal", "-shm")))
        event.listen(self.engine.sync_engine, "do_connect", self._refuse_torn)
        event.listen(self.engine.sync_engine, "connect", self._note_connect)
        event.listen(self.engine.sync_engine, "checkout", self._check_connection)

    async def close(self) -> None:
        # The engine closes connections one by one: the last copies the log into the file, and of two
        # that close at once each would leave that to the other.
        await self._pool.close()
        await self.engine.dispose()

    async def fetch(self, statement: Executable, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        connecting = self._connect(self._single) if statement.is_select else self._writing(self._single)
        async with connecting as connection:
            result = await connection.execute(statement, parameters)
            return [dict(row) for row in result.mappings()]

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Begins the one transaction of this process that may write."""
        async with (
            self._writing(self.engine) as connection,
            AsyncSession(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def _connect(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Gives a connection whose patience with other processes' locks begins now."""
        patient = engine.execution_options(lock_deadline=time.monotonic() + self._patience)
        async with patient.connect() as connection:
            try:
                self._refuse_torn()
            except DatabaseUnavailable:
                # One that was opened meanwhile made a new part, which won't fit once the old one is back.
                if (await connection.get_raw_connection()).info["files"] == self._files():
                    await connection.invalidate()
                raise
            yield connection

    @asynccontextmanager
    async def _writing(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Holds a connection and the lock of writers. Raises `DatabaseUnavailable` if others write for too
        long, or if the commit went to a file that was taken away.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    await stack.enter_async_context(self._places)
                    connection = await stack.enter_async_context(self._connect(engine))
                    await stack.enter_async_context(self._lock)
            except TimeoutError as error:
                raise DatabaseUnavailable(TimeoutError("others write too long"), Fault.LOCKED) from error
            written = (await connection.get_raw_connection()).info["files"]
            try:
                yield connection
            except asyncio.CancelledError:
                # A BEGIN that nobody waits for is still run, and no rollback follows one that SQLAlchemy saw fail.
                await connection.invalidate()
                raise
            self._confirm(written)

    # A method, since in the generator above its last branch passes for one that no test takes.
    def _confirm(self, written: Files) -> None:
        if written != self._files():
            raise taken_away()

    def _refuse_torn(self, *_: Any) -> None:
        if self._is_torn():
            raise taken_away()

    def _is_torn(self) -> bool:
        """Tells whether a part of the open database was taken away: a new part wouldn't fit the rest. A whole new
        database may be opened.
        """
        found = self._files()
        return any(
            paths == self._paths
            and files != found
            and (found[0] is None or not set(found).isdisjoint(files))
            and is_open(driver)
            for driver, (paths, files) in list(OPENED.items())
        )

    def _files(self) -> Files:
        return tuple(map(identify, self._paths))

    def _note_connect(self, connection: Any, place: Any) -> None:
        connection.create_function("is_read_only", 0, lambda: not self._is_writable())
        place.info.update(files=self._files(), is_writable=self._is_writable())
        OPENED[connection.driver_connection] = (self._paths, place.info["files"])

    def _check_connection(self, _connection: Any, place: Any, _proxy: Any) -> None:
        """Checks a connection at checkout. On `DisconnectionError` the pool connects anew, which would make what is
        missing.
        """
        # A connection opened while the file was read only stays read only.
        is_outdated = self._is_writable() and not place.info["is_writable"]
        if is_outdated or (place.info["files"] != self._files() and not self._is_torn()):
            raise DisconnectionError

    def _is_writable(self) -> bool:
        return os.access(self._paths[0], os.W_OK)


def identify(path: str) -> tuple[int, int] | None:
    """Returns the file's device and inode, or None if it is missing or is a database that was emptied."""
    with suppress(OSError):
        status = Path(path).stat()
        if status.st_size or path.endswith(("-wal", "-shm")):
            return status.st_dev, status.st_ino
    return None


def is_open(driver: aiosqlite.Connection) -> bool:
    # sqlite3 raises the second as soon as the connection is closed, aiosqlite the first soon after.
    with suppress(ValueError, sqlite3.ProgrammingError):
        return driver.total_changes >= 0
    return False


def taken_away() -> DatabaseUnavailable:
    return DatabaseUnavailable(FileNotFoundError(TAKEN_AWAY), Fault.UNREACHABLE)
