"""Copies the tasks of another table into the service's: `python -m commands.copy_tasks`."""
# [Task]: T180, T181 [From]: specs/features/moving.md

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import column, insert, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from backends.faults import driver_error, explain, fault_of, sqlstate_of
from backends.url import DatabaseTarget
from commands.fitting import BIGGEST_ID, Account, FittingTask, read_id
from commands.other_table import NAMES, Source, find_source
from config import DatabaseURL, Settings, load_settings
from db import create_engine
from errors import StartupError
from logs import configure_logging
from migrations import DATABASE_ERRORS, LOCK_PATIENCE_SECONDS, TABLE_PATIENCE, migration_connection, upgrade
from migrations.state import MOVED, TASKS, Facts, read_facts, refuse_misfits
from migrations.user_key import missing_keys

# Rows of any size are in memory at once, and their ids in a statement.
ROWS_AT_ONCE = 5_000
# PostgreSQL 18, appendix A.
DATA_EXCEPTION = "22"
# Behind all ids that were given, also to tasks that are gone by now.
SET_IDENTITY = text(
    "SELECT setval(sequence, greatest(nextval(sequence), (SELECT max(id) FROM task)))"
    " FROM pg_get_serial_sequence('task', 'id') AS sequence"
)
MAY_SET_IDENTITY = text("SELECT has_sequence_privilege(pg_get_serial_sequence('task', 'id'), 'UPDATE')")


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line. Exits with 2 if it can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.copy_tasks",
        description="Copies the tasks of another table into the service's, from the database of DATABASE_URL, or from"
        " the one that COPY_FROM names in the environment. Without --apply, it shows what it would do.",
    )
    parser.add_argument("--table", help=f"the table or view to copy (default: the one of {', '.join(NAMES)})")
    parser.add_argument("--apply", action="store_true", help="copy, in one transaction")
    parser.add_argument("--leave-out", action="store_true", help="copy even if some rows don't fit, without these")
    parser.add_argument("--time-zone", type=read_zone, default=UTC, help="of times without one (default: %(default)s)")
    return parser.parse_args(arguments)


def read_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError("write a time zone as Europe/Berlin") from None


def read_source_url(value: str) -> DatabaseURL:
    """Reads `COPY_FROM`. Raises `StartupError`, which doesn't show it: it may hold a password."""
    try:
        return DatabaseURL(value)
    except ValueError as error:
        raise StartupError(f"COPY_FROM {error}.") from None


def refuse_missing(target: DatabaseTarget) -> None:
    """Raises `StartupError` if there is no such SQLite file: an engine would create it."""
    if target.is_sqlite and not Path(target.url.database or "").is_file():
        raise StartupError(f"There is no file {target.url.database} yet.")


@contextmanager
def telling_apart(target: DatabaseTarget) -> Iterator[None]:
    """Raises `StartupError` for an error of this database, without the value that its message may hold."""
    try:
        yield
    except OverflowError as error:
        raise StartupError("A time lies outside the years 1 to 9999. Name a view that leaves it out.") from error
    except DATABASE_ERRORS as error:
        state = sqlstate_of(driver_error(error))
        if state.startswith(DATA_EXCEPTION):
            raise StartupError(f"A value of {target.place} can't be read ({state}).") from error
        raise StartupError(f"The database {target.place} {explain(error, fault_of(error))}") from error


def create_reader(settings: Settings) -> AsyncEngine:
    """An engine for statements that only read, and may take long. It leaves an SQLite file as it is, its mode too."""
    if not settings.database.is_sqlite:
        return create_engine(settings, lock_timeout=LOCK_PATIENCE_SECONDS)
    file = Path(settings.database.url.database or "").absolute().as_uri()
    return create_async_engine(settings.database.url.set(database=file, query={"mode": "ro", "uri": "true"}))


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """Connects for statements that only read."""
    refuse_missing(settings.database)
    engine = create_reader(settings)
    try:
        with telling_apart(settings.database):
            async with engine.connect() as connection:
                if engine.dialect.name == "postgresql":
                    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TABLE_PATIENCE}'")
                yield connection
    finally:
        await engine.dispose()


async def copy_tasks(options: argparse.Namespace, settings: Settings, source_url: DatabaseURL) -> list[str]:
    """Copies the rows that fit, or finds out which would, and describes the outcome in lines. Raises `StartupError`,
    and leaves everything as it was, if it can't be done.
    """
    is_within = source_url.target == settings.database
    async with AsyncExitStack() as stack:
        opened = migration_connection(settings) if options.apply else reading(settings)
        reader = writer = await stack.enter_async_context(opened)
        if not is_within:
            reader = await stack.enter_async_context(reading(settings.model_copy(update={"database_url": source_url})))
        facts = await writer.run_sync(read_facts)
        # One without a revision is another program's.
        is_in_the_way = facts.fits is not None and not facts.revision
        names = [name for name in NAMES if name != TASKS.name or is_in_the_way or not is_within]
        source = await reader.run_sync(find_source, names, options.table)
        is_of_own_schema = source.schema in {None, writer.dialect.default_schema_name}
        is_moved = is_within and is_in_the_way and source.name == TASKS.name and is_of_own_schema
        if is_moved and await writer.run_sync(lambda connection: inspect(connection).has_table(MOVED)):
            raise StartupError(f"The table task can't be renamed to {MOVED}, since there is one. Rename either first.")
        refuse_misfits(facts._replace(fits=None) if is_moved else facts, will_migrate=True)

        outcome = [f"From the table {source} of {source_url.target.place}:"]
        account = Account(options.time_zone, await find_users(writer, settings))
        if options.apply:
            if is_moved:
                await writer.exec_driver_sql(f"ALTER TABLE task RENAME TO {MOVED}")
                source.name = MOVED
            await prepare(writer, facts, settings)
        target = Target(writer, settings.database, has_tasks=bool(facts.revision), is_written=options.apply)
        with telling_apart(source_url.target):
            await copy_rows(source, reader, target, account)

        outcome += [*account.describe(), f"Times without a zone are taken for {options.time_zone}.", *source.describe()]
        if is_moved:
            outcome.append(f"The table task is renamed to {MOVED}.")
        if account.misfits and not options.leave_out:
            raise StartupError(*outcome, "Nothing was changed. Mend the rows that don't fit, or add --leave-out.")
        if options.apply and writer.dialect.name == "postgresql":
            # Last, since it isn't taken back with the transaction.
            await writer.execute(SET_IDENTITY)
    return [*outcome, "Copied." if options.apply else "Nothing was changed. To copy, add --apply."]


async def find_users(connection: AsyncConnection, settings: Settings) -> set[str] | None:
    """Reads the ids of `USER_TABLE`. None if it isn't set: then any user will do."""
    if not settings.user_table:
        return None
    schema, _, name = settings.user_table.rpartition(".")
    ids: Iterable[object] = await connection.scalars(
        select(column("id")).select_from(table(name, schema=schema or None))
    )
    return set(map(str, ids))


async def prepare(connection: AsyncConnection, facts: Facts, settings: Settings) -> None:
    """Brings the schema up to date, and keeps the service from taking an id meanwhile, and the users from going. On
    SQLite, nobody else writes anyway.
    """
    if not facts.is_ahead:
        await connection.run_sync(upgrade)
    refuse_misfits(await connection.run_sync(read_facts), will_migrate=False)
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql("LOCK TABLE task IN SHARE ROW EXCLUSIVE MODE")
        if not await connection.scalar(MAY_SET_IDENTITY):
            raise StartupError(f"{facts.role} may not set the next id. Let the owner of the table task run this.")
    if settings.user_table:
        # The keys that a start would add: with them, a user can't go before the tasks are there to go along.
        migrating = settings.model_copy(update={"db_migrate_on_start": True})
        for statement in await connection.run_sync(missing_keys, migrating):
            await connection.exec_driver_sql(statement)


class Target(NamedTuple):
    """The service's table: whether it is there yet, and whether it is to be written."""

    connection: AsyncConnection
    database: DatabaseTarget
    has_tasks: bool
    is_written: bool


async def copy_rows(source: Source, reader: AsyncConnection, target: Target, account: Account) -> None:
    """Reads all rows, and writes those that fit if the target is to be written."""
    write = insert_into_sqlite if target.database.is_sqlite else copy_to_postgres
    if reader.dialect.name == "sqlite":
        # What isn't UTF-8 fits no task, rather than ending this.
        driver: Any = (await reader.get_raw_connection()).driver_connection
        driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    result = await reader.stream(source.rows)
    async for rows in result.partitions(ROWS_AT_ONCE):
        with telling_apart(target.database):
            tasks = account.choose(rows, await find_present(target.connection, rows) if target.has_tasks else {})
            if target.is_written and tasks:
                await write(target.connection, tasks)
                print(f"{account.copied:,} rows …", file=sys.stderr)


async def find_present(connection: AsyncConnection, rows: Sequence[Any]) -> dict[int, Any]:
    """Finds the service's tasks with the ids of these rows."""
    ids = [number for row in rows if isinstance(number := read_id(row.id), int) and 0 < number <= BIGGEST_ID]
    columns = [TASKS.c[name] for name in ("id", "user_id", "title", "created_at", "updated_at")]
    chosen = select(*columns).where(TASKS.c.id.in_(ids))
    return {row.id: row for row in await connection.execute(chosen)}


async def copy_to_postgres(connection: AsyncConnection, tasks: Sequence[FittingTask]) -> None:
    # COPY takes an id for a column whose ids are always generated, and is faster than an INSERT.
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.copy_records_to_table(
        TASKS.name, records=[tuple(task.values()) for task in tasks], columns=list(tasks[0])
    )


async def insert_into_sqlite(connection: AsyncConnection, tasks: Sequence[FittingTask]) -> None:
    await connection.execute(insert(TASKS), [dict(task) for task in tasks])


def main() -> None:
    options = read_arguments(sys.argv[1:])
    try:
        settings = load_settings()
        configure_logging(settings.log_level, sql=settings.debug)
        source_url = read_source_url(url) if (url := os.environ.get("COPY_FROM")) else settings.database_url
        outcome = asyncio.run(copy_tasks(options, settings, source_url))
    except StartupError as error:
        sys.exit("\n".join(error.reasons))
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    print("\n".join(outcome))


if __name__ == "__main__":
    main()
