"""Brings the schema up to date with Alembic. Its revisions are in `versions/`."""
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

from backends.faults import unavailable
from config import Settings
from db import create_engine
from errors import ServiceUnavailable, StartupError

CONFIG_FILE = Path(__file__).parent.parent / "pyproject.toml"
# The process that holds this lock may migrate. The number is arbitrary, but must stay the same.
ADVISORY_LOCK = 0x7461736B
LOCK_PATIENCE_SECONDS = 30.0
# While a migration waits for a table, all later statements on it wait behind the migration.
TABLE_PATIENCE = "5s"

DATABASE_ERRORS = (asyncpg.PostgresError, SQLAlchemyError, CommandError, ServiceUnavailable, TimeoutError)


async def upgrade_schema(settings: Settings) -> None:
    """Runs the pending migrations. Raises `StartupError` if one fails."""
    async with migration_connection(settings) as connection:
        await connection.run_sync(upgrade)


def upgrade(connection: Connection) -> None:
    """Runs the pending migrations in this connection's transaction."""
    command.upgrade(Config(toml_file=CONFIG_FILE, attributes={"connection": connection}), "head")


@asynccontextmanager
async def migration_connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """Connects for one process at a time, and runs all pending migrations in one transaction. Raises
    `StartupError` if that fails, and leaves the schema as it was.
    """
    engine = create_engine(settings, lock_timeout=LOCK_PATIENCE_SECONDS)
    try:
        async with engine.begin() as connection:
            # On SQLite the transaction itself begins with a lock.
            if engine.dialect.name == "postgresql":
                async with asyncio.timeout(LOCK_PATIENCE_SECONDS):
                    await connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TABLE_PATIENCE}'")
            yield connection
    except TimeoutError as error:
        reason = "DATABASE_URL: another process holds the lock for migrations, or the server fell silent."
        raise StartupError(reason) from error
    except DATABASE_ERRORS as error:
        raise StartupError(f"The schema is as it was: {unavailable(error)}") from error
    finally:
        await engine.dispose()
