"""The one door to the database: single statements, and sessions for several in one transaction."""
# [Task]: T047, T048, T050, T051, T052, T088, T089, T096 [From]: specs/database/schema.md, specs/reliability.md

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

import statements
from backends import postgres, sqlite
from backends.faults import translate_faults
from backends.postgres import Postgres
from backends.sqlite import SQLite
from config import Settings

# A row's values by the names of its columns.
Row = dict[str, Any]

# The parameters of `check`: a task that nobody owns.
NOBODYS = {"owner": "", "task_id": 0}


def create_engine(settings: Settings, *, lock_timeout: float | None = None) -> AsyncEngine:
    """Creates an engine for `DATABASE_URL`, not yet connected. With a `lock_timeout`, in seconds, it is for
    migrations: it waits that long for SQLite's lock, and its statements have no limit.
    """
    create = sqlite.create_engine if settings.database.is_sqlite else postgres.create_engine
    return create(settings, lock_timeout)


class Database:
    """The database of `DATABASE_URL`. Its methods raise `ServiceUnavailable` if it can't serve."""

    def __init__(self, settings: Settings) -> None:
        self._backend = SQLite(settings) if settings.database.is_sqlite else Postgres(settings)
        self.engine = self._backend.engine
        self.is_postgres = not settings.database.is_sqlite

    async def fetch(self, statement: Executable, parameters: dict[str, Any]) -> list[Row]:
        """Runs and commits a statement, in one round trip on Postgres, and returns its rows."""
        with translate_faults():
            return await self._backend.fetch(statement, parameters)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Begins a transaction, which is committed at the end and rolled back on an error."""
        with translate_faults():
            async with self._backend.session() as session:
                yield session

    async def check(self) -> bool:
        """Reads a task as requests do, and returns whether the database takes writes."""
        (row,) = await self.fetch(statements.LOOK, NOBODYS)
        return not row["is_read_only"]

    async def close(self) -> None:
        await self._backend.close()


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    database: Database = request.app.state.database
    async with database.session() as session:
        yield session


# scope="function": a session commits before the answer is sent, not after it.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
