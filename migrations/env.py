"""Alembic's entry point, for `uv run alembic …` and for `upgrade_schema`, which passes its own connection."""
# [Task]: T041, T043, T159 [From]: specs/database/schema.md, specs/features/user-deletion.md

import asyncio
import sys

from alembic import context
from sqlalchemy import Connection

from config import load_settings
from errors import StartupError
from logs import configure_logging
from migrations import migration_connection
from migrations.state import VERSION_TABLE
from models import Task
from runtime.report import warn_of_mistakes


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Whether autogenerate compares it. Unfiltered, it would drop Better Auth's tables, and `USER_TABLE`'s keys."""
    return kind != "foreign_key_constraint" and (kind != "table" or name in Task.metadata.tables)


def migrate(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        # For `--sql`, which has no connection.
        dialect_name="postgresql",
        literal_binds=connection is None,
        target_metadata=Task.metadata,
        include_name=is_ours,
        version_table=VERSION_TABLE,
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
    except StartupError as error:
        sys.exit(*error.reasons)


connection = context.config.attributes.get("connection")
if connection or context.is_offline_mode():
    migrate(connection)
else:
    asyncio.run(migrate_from_the_command_line())
