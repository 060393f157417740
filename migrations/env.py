"""Alembic's entry: for `uv run alembic …`, and for `upgrade_schema`, which hands over its own
connection.
"""
# [Task]: T041, T043 [From]: specs/database/schema.md

import asyncio
import sys

from alembic import context
from sqlalchemy import Connection

import models
from config import load_settings
from logs import configure_logging
from migrations import MIGRATION_ERRORS, describe, migration_connection
from runtime.report import warn_of_mistakes

metadata = models.Task.metadata


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Whether autogenerate may look at it: unfiltered, it would drop Better Auth's tables."""
    return kind != "table" or name in metadata.tables


def migrate(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        dialect_name=None if connection else "postgresql",
        literal_binds=connection is None,
        target_metadata=metadata,
        include_name=is_ours,
        version_table="task_schema_version",
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_from_the_command_line() -> None:
    settings = load_settings()
    configure_logging(settings.log_level, sql=settings.debug)
    warn_of_mistakes(settings)
    try:
        async with migration_connection(settings) as connection:
            await connection.run_sync(migrate)
    except MIGRATION_ERRORS as error:
        sys.exit(f"The schema is as it was: {describe(error)}")


if context.is_offline_mode():
    migrate(None)
elif (connection := context.config.attributes.get("connection")) is not None:
    migrate(connection)
else:
    asyncio.run(migrate_from_the_command_line())
