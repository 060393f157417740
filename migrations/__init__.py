"""Brings the schema up to date with Alembic, whose revisions are in `versions/`."""
# [Task]: T041, T042 [From]: specs/database/schema.md

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from backends.faults import explain, fault_of
from config import Settings
from db import create_engine
from errors import ServiceUnavailable, StartupError

CONFIG_FILE = Path(__file__).parent.parent / "pyproject.toml"
# Any number will do, as long as it stays the same: whoever holds this lock may migrate.
ADVISORY_LOCK = 0x7461736B
LOCK_PATIENCE_SECONDS = 30.0
# While a migration waits for a table, all that come later wait behind it.
TABLE_PATIENCE = "5s"

DATABASE_ERRORS = (asyncpg.PostgresError, SQLAlchemyError, CommandError, ServiceUnavailable, TimeoutError)


async def upgrade_schema(settings: Settings) -> None:
    """Runs the missing migrations. Raises `StartupError` where that fails."""

    def upgrade(connection: Connection) -> None:
        command.upgrade(Config(toml_file=CONFIG_FILE, attributes={"connection": connection}), "head")

    async with migration_connection(settings) as connection:
        await connection.run_sync(upgrade)


@asynccontextmanager
async def migration_connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """A connection in one transaction for all pending migrations, for one process at a time. Raises
    `StartupError` where that fails, and leaves the schema as it was.
    """
    engine = create_engine(settings, lock_timeout=LOCK_PATIENCE_SECONDS)
    try:
        async with engine.begin() as connection:
            # SQLite needs no such lock: there, the transaction itself begins with one.
            if engine.dialect.name == "postgresql":
                async with asyncio.timeout(LOCK_PATIENCE_SECONDS):
                    await connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TABLE_PATIENCE}'")
            yield connection
    except TimeoutError as error:
        reason = "DATABASE_URL: another process holds the lock for migrations, or the server fell silent."
        raise StartupError(reason) from error
    except DATABASE_ERRORS as error:
        raise StartupError(f"The schema is as it was: {unusable(error)}") from error
    finally:
        await engine.dispose()


def unusable(error: BaseException) -> str:
    """Why the database can't be used, and what mends that, without the SQL."""
    return f"The database of DATABASE_URL {explain(error, fault_of(error))}"
