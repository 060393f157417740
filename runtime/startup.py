"""A start: waits for the database, and brings its schema up to date."""
# [Task]: T041, T052, T110, T111, T112 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import logging
import multiprocessing
import os
import sqlite3
import ssl
from typing import Any

import asyncpg

import db
from backends.faults import NO_TLS, POOLER_REFUSAL, Fault, driver_error, explain, fault_of, sqlite_code, sqlstate_of
from config import Settings
from db import Database
from errors import StartupError
from migrations import MIGRATION_ERRORS, upgrade_schema
from migrations.state import HEAD, Facts, read_facts, refuse_database, refuse_tasks

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
# A database that is there again is used within 5 s.
LONGEST_RETRY_SECONDS = 3.0

# No such folder, no database file: no waiting mends these.
SQLITE_HOPELESS = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB})

DATABASE_ERRORS = (StartupError, asyncpg.PostgresError, *MIGRATION_ERRORS)


def is_one_of_several() -> bool:
    """Whether this process is a server's worker. uvicorn and hypercorn, granian and gunicorn end
    all of theirs with one that can't start.
    """
    is_child = multiprocessing.parent_process() is not None
    return is_child or "gunicorn" in os.environ.get("SERVER_SOFTWARE", "")


async def prepare_database(database: Database, settings: Settings) -> None:
    """Returns when the database can be used and its schema fits, with a log line for each try.

    A worker of several waits for that as long as it takes. Else raises `StartupError` after
    `START_PATIENCE_SECONDS`, or at once where waiting is vain.
    """
    patience = None if is_one_of_several() else db.START_PATIENCE_SECONDS
    clock = asyncio.get_running_loop().time
    deadline = None if patience is None else clock() + patience
    pause = FIRST_RETRY_SECONDS
    while True:
        try:
            await prepare_once(database, settings, deadline)
        except DATABASE_ERRORS as error:
            if isinstance(error, StartupError):
                (reason,) = error.reasons
            else:
                reason = f"The database of DATABASE_URL {explain(error, fault_of(error))}"
            is_vain = is_hopeless(error)
            if deadline is not None and (is_vain or clock() + pause >= deadline):
                raise StartupError(reason) from None
        else:
            return
        level = logging.ERROR if is_vain else logging.WARNING
        logger.log(level, "%s Trying again in %.1f s.", reason, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_RETRY_SECONDS)


async def prepare_once(database: Database, settings: Settings, deadline: float | None) -> None:
    async with asyncio.timeout_at(deadline):
        facts = await find_facts(database)
    refuse_database(facts, will_migrate=settings.db_migrate_on_start)
    if facts.is_behind:
        await upgrade_schema(settings)
        facts = await find_facts(database)
    refuse_tasks(facts)
    if facts.is_ahead:
        logger.warning(
            "The schema is of a later version, %s, than this code, %s: a deploy is under way, or"
            " was rolled back. The service serves it all the same.",
            facts.revision,
            HEAD,
        )


async def find_facts(database: Database) -> Facts:
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
    if database.engine.dialect.name == "sqlite":
        # A transaction would wait for the write lock there.
        options = {"is_single_statement": True}
    async with database.engine.execution_options(**options).connect() as connection:
        return await connection.run_sync(read_facts)


def is_hopeless(error: BaseException) -> bool:
    """Whether waiting for the database is vain: it, or this service, refuses what won't change."""
    cause = driver_error(error)
    if isinstance(cause, ssl.SSLError):
        return not isinstance(cause, ssl.SSLEOFError)
    if isinstance(cause, StartupError) or NO_TLS in str(cause) or POOLER_REFUSAL in str(cause):
        return True
    fault, code = fault_of(error), sqlite_code(cause)
    is_refused = fault is None and bool(sqlstate_of(cause) or code)
    return is_refused or fault is Fault.LOGIN or code in SQLITE_HOPELESS
