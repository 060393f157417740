"""Brings the schema up to date with Alembic, whose revisions are in `versions/`."""
# [Task]: T041, T042 [From]: specs/database/schema.md

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

import db
from config import Settings
from errors import ServiceUnavailable, StartupError

CONFIG_FILE = Path(__file__).parent.parent / "pyproject.toml"
# Any number will do, as long as it stays the same: whoever holds this lock may migrate.
ADVISORY_LOCK = 0x7461736B
# While it waits for a table, all who come later wait behind it.
LOCK_PATIENCE = "5s"

MIGRATION_ERRORS = (SQLAlchemyError, CommandError, ServiceUnavailable, TimeoutError)


async def upgrade_schema(settings: Settings) -> None:
    """Runs the missing migrations. Raises `StartupError` where that fails, and leaves the schema
    as it was.
    """

    def upgrade(connection: Connection) -> None:
        config = Config(toml_file=CONFIG_FILE)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    try:
        async with migration_connection(settings) as connection:
            await connection.run_sync(upgrade)
    except MIGRATION_ERRORS as error:
        raise StartupError(
            "The schema in the database of DATABASE_URL could not be"
            f" brought up to date and is as it was: {describe(error)}"
        ) from error


def describe(error: Exception) -> str:
    """Why a migration failed, without the SQL."""
    if isinstance(error, TimeoutError):
        return "another process holds the lock for migrations, or the server fell silent"
    return str(error.orig if isinstance(error, DBAPIError) else error)


@asynccontextmanager
async def migration_connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """A connection in one transaction for all that is to migrate, one process at a time."""
    engine = db.create_engine(settings, lock_timeout=db.START_PATIENCE_SECONDS)
    try:
        async with engine.begin() as connection:
            # SQLite needs no such lock: there, the transaction itself begins with one.
            if engine.dialect.name == "postgresql":
                async with asyncio.timeout(db.START_PATIENCE_SECONDS):
                    await connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                    set_limit = func.set_config("lock_timeout", LOCK_PATIENCE, True)  # noqa: FBT003 - for this transaction alone
                    await connection.execute(select(set_limit))
            yield connection
    finally:
        await engine.dispose()
