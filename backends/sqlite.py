"""The database in a file: SQLite, opened so that nothing acknowledged is lost, with one writer at a
time, and watched for somebody who takes the file away.
"""
# [Task]: T050, T107, T108, T109 [From]: specs/database/schema.md

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import aiosqlite
from sqlalchemy import Executable, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from backends.faults import Fault, fault_of, unavailable
from errors import ServiceUnavailable

# SQLite waits for a lock in a thread that can't be interrupted, so it does so in pieces, between
# which a request that has ended is let go.
PIECE_MILLISECONDS = 250

# How many that want to write have a connection: one writes, while others take or return theirs.
PLACES = 3

# Which files the names stand for: the database, its log and the index of that, or None for one
# that isn't there.
Files = tuple[tuple[int, int] | None, ...]

# What the connections of this process have opened: by which paths, and which files.
OPENED = WeakKeyDictionary[aiosqlite.Connection, tuple[tuple[str, ...], Files]]()


def prepare_engine(engine: AsyncEngine) -> None:
    """Lets an engine open the file as it has to be, and make it where a start finds none."""
    event.listen(engine.sync_engine, "do_connect", make_file, once=True)
    event.listen(engine.sync_engine, "do_connect", open_what_is_there)
    event.listen(engine.sync_engine, "connect", prepare_connection)
    event.listen(engine.sync_engine, "begin", begin_immediate)
    event.listen(engine.sync_engine, "do_execute", execute_patiently)


def make_file(_dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
    """Makes the file for its owner alone; SQLite gives those beside it the same mode."""
    # Why it can't be made is SQLite's to say. One that is there must not be opened: to close it
    # again would end the locks that SQLite has on it.
    with contextlib.suppress(OSError):
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(os.open(os.path.realpath(arguments[0]), flags, 0o600))


def open_what_is_there(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
    """A file that was deleted isn't made again, without its tables."""
    arguments[0] = f"{Path(arguments[0]).as_uri()}?mode=rw"
    options["uri"] = True
    # Transactions begin by `begin_immediate` alone, not by the driver.
    options["isolation_level"] = None


def prepare_connection(connection: Any, _record: Any) -> None:
    connection.create_function("next_update", 2, next_update, deterministic=True)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # in WAL mode, NORMAL may lose the last commits
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def next_update(now: str, updated_at: str) -> str:
    """SQLite's side of `statements.next_update`, on timestamps as SQLAlchemy stores them."""
    tick = datetime.fromisoformat(updated_at) + timedelta(microseconds=1)
    return max(now, tick.isoformat(" ", "microseconds"))


def begin_immediate(connection: Any) -> None:
    """Takes SQLite's write lock at the start: a transaction that reads and then wants to write
    could otherwise fail half-way, without waiting, where another has written in between.
    """
    if not connection.get_execution_options().get("is_single_statement"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def execute_patiently(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Runs a statement as SQLAlchemy does, and again where another process has the lock, which
    means that nothing was done, until the time of the transaction is up.
    """
    while True:
        try:
            cursor.execute(statement, parameters)
        except sqlite3.OperationalError as error:
            deadline = context.execution_options.get("lock_deadline", 0)
            if fault_of(error) is not Fault.LOCKED or time.monotonic() >= deadline:
                raise
        else:
            return True


class SQLiteFile:
    """Runs statements on the file that is at the path of `DATABASE_URL`, and on no other.

    Writers queue for `patience` seconds. One that found the lock taken by its own process would
    sleep, and be overtaken while it does.
    """

    def __init__(self, engine: AsyncEngine, patience: float) -> None:
        self._engine = engine
        self._single = engine.execution_options(is_single_statement=True)
        self._patience = patience
        self._lock = asyncio.Lock()
        self._places = asyncio.Semaphore(PLACES)
        path = str(engine.url.database)
        real = os.path.realpath(path)
        self._paths = (path, f"{real}-wal", f"{real}-shm")
        event.listen(engine.sync_engine, "connect", self._note_connect)
        event.listen(engine.sync_engine, "checkout", self._check_connection)

    async def execute(self, statement: Executable, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        if not statement.is_select:
            async with self._writing(self._single) as connection:
                return await fetch(connection, statement, parameters)
        self.check()
        async with self._patient(self._single).connect() as connection:
            return await fetch(connection, statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of several statements that may write: the only one of this process."""
        async with self._writing(self._engine) as connection, connection.begin():
            yield connection

    def _patient(self, engine: AsyncEngine) -> AsyncEngine:
        """The engine for a statement that has to wait for other processes' locks from now on."""
        return engine.execution_options(lock_deadline=time.monotonic() + self._patience)

    @asynccontextmanager
    async def _writing(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Raises `ServiceUnavailable` where others write for too long, and where what was
        committed is in a file that was taken away.
        """
        engine = self._patient(engine)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    await stack.enter_async_context(self._places)
                    self.check()
                    connection = await stack.enter_async_context(engine.connect())
                    await stack.enter_async_context(self._lock)
            except TimeoutError as error:
                raise unavailable(TimeoutError("others write too long"), Fault.LOCKED) from error
            written = (await connection.get_raw_connection()).info["files"]
            yield connection
            self._confirm(written)

    def check(self) -> None:
        """Raises `ServiceUnavailable` where a part of what is open was taken away. Whatever were
        opened in its place would not fit the rest; a whole new database may be opened.
        """
        found = self._look()
        for driver, (paths, files) in list(OPENED.items()):
            is_torn = found[0] is None or not set(found).isdisjoint(files)
            if paths == self._paths and files != found and is_torn and is_open(driver):
                raise taken_away()

    def _confirm(self, written: Files) -> None:
        if self._look() != written:
            raise taken_away()

    def _look(self) -> Files:
        return tuple(map(identify, self._paths))

    def _note_connect(self, connection: Any, record: Any) -> None:
        connection.create_function("is_read_only", 0, lambda: not self._is_writable())
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {PIECE_MILLISECONDS}")
        cursor.execute("SELECT name FROM sqlite_master")  # which opens the -wal and the -shm
        cursor.close()
        record.info["files"] = self._look()
        record.info["is_writable"] = self._is_writable()
        OPENED[connection.driver_connection] = (self._paths, record.info["files"])

    def _check_connection(self, _connection: Any, record: Any, _proxy: Any) -> None:
        """`DisconnectionError` makes the pool connect anew."""
        # One that was opened while the file was read only stays so.
        is_outdated = self._is_writable() and not record.info["is_writable"]
        if is_outdated or record.info["files"] != self._look():
            raise DisconnectionError

    def _is_writable(self) -> bool:
        return os.access(self._paths[0], os.W_OK)


async def fetch(connection: AsyncConnection, statement: Executable, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    result = await connection.execute(statement, parameters)
    return [dict(row) for row in result.mappings()]


def identify(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    # A database that was emptied is none; its log may well be empty.
    is_emptied = status.st_size == 0 and not path.endswith(("-wal", "-shm"))
    return None if is_emptied else (status.st_dev, status.st_ino)


def is_open(driver: aiosqlite.Connection) -> bool:
    try:
        return driver.in_transaction in {True, False}
    except ValueError:
        return False


def taken_away() -> ServiceUnavailable:
    message = (
        "its file, or the -wal or -shm beside it, was deleted, moved or replaced while the service"
        " ran; put it back as it was, or restart the service"
    )
    return unavailable(FileNotFoundError(message), Fault.UNREACHABLE)
