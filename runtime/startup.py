"""Waits at start for the database, and brings its schema up to date."""
# [Task]: T041, T052, T110, T111, T112, T114, T159 [From]: specs/database/schema.md, specs/reliability.md, specs/features/user-deletion.md

import asyncio
import logging
import multiprocessing
import os
import sqlite3
import ssl
from typing import Any

from backends.faults import NO_TLS, POOLER_REFUSAL, Fault, driver_error, fault_of, sqlite_code, sqlstate_of, unavailable
from config import Settings
from db import Database
from errors import ServiceUnavailable, StartupError
from migrations import DATABASE_ERRORS, upgrade_schema
from migrations.state import HEAD, Facts, read_facts, refuse_misfits
from migrations.user_key import add_user_keys

logger = logging.getLogger(__name__)

START_PATIENCE_SECONDS = 30.0
FIRST_RETRY_SECONDS = 0.5
# So that a database that is back is used within 5 s.
LONGEST_RETRY_SECONDS = 3.0
# No such folder, or no database file: waiting mends neither.
SQLITE_HOPELESS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB}


class NotStarted:
    """Stands in for what the lifespan creates if the server runs no lifespan. Any use of it is a 503."""

    def __getattr__(self, name: str) -> Any:
        raise ServiceUnavailable(
            "The service wasn't started: its server runs no lifespan. Turn it on (uvicorn: --lifespan on), or enter"
            " main.app.router.lifespan_context(main.app) in the lifespan of the application that mounts it.",
            detail="The service has not started",
        )


async def prepare_database(database: Database, settings: Settings) -> None:
    """Tries until the database can be used and its schema fits, and logs each failed attempt.

    One of several workers waits for as long as it takes, since a server ends all workers with one that can't
    start. Any other process raises `StartupError` after `START_PATIENCE_SECONDS`, or at once if waiting can't
    help.
    """
    is_one_of_several = multiprocessing.parent_process() or "gunicorn" in os.environ.get("SERVER_SOFTWARE", "")
    clock = asyncio.get_running_loop().time
    deadline = None if is_one_of_several else clock() + START_PATIENCE_SECONDS
    pause = FIRST_RETRY_SECONDS
    while True:
        try:
            return await prepare_once(database, settings, deadline)
        except (StartupError, *DATABASE_ERRORS) as error:
            reason = error.reasons[0] if isinstance(error, StartupError) else str(unavailable(error))
            is_vain = is_hopeless(error)
        if deadline is not None and (is_vain or clock() + pause >= deadline):
            raise StartupError(reason)
        logger.log(logging.ERROR if is_vain else logging.WARNING, "%s Trying again in %.1f s.", reason, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_RETRY_SECONDS)


async def prepare_once(database: Database, settings: Settings, deadline: float | None) -> None:
    async with asyncio.timeout_at(deadline):
        facts = await find_facts(database)
    refuse_misfits(facts, will_migrate=settings.db_migrate_on_start)
    if facts.is_behind:
        await upgrade_schema(settings)
        facts = await find_facts(database)
        refuse_misfits(facts, will_migrate=False)
    if facts.is_ahead:
        message = "The schema is of a later version, %s, than this code, %s: a deploy is under way, or was rolled back."
        logger.warning(message, facts.revision, HEAD)
    if settings.user_table:
        async with asyncio.timeout_at(deadline):
            await add_user_keys(database, settings)


async def find_facts(database: Database) -> Facts:
    # On SQLite, `begin_immediate` would wait for the write lock.
    options = {"isolation_level": "REPEATABLE READ"} if database.is_postgres else {"is_single_statement": True}
    async with database.engine.execution_options(**options).connect() as connection:
        if not database.is_postgres:
            await connection.exec_driver_sql("BEGIN")
        return await connection.run_sync(read_facts)


def is_hopeless(error: BaseException) -> bool:
    """Whether waiting can't help, since the database or this service refuses for a reason that stays."""
    cause, fault = driver_error(error), fault_of(error)
    code = sqlite_code(cause)
    return (
        isinstance(cause, StartupError)
        or (isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError))
        or any(sign in str(cause) for sign in (NO_TLS, POOLER_REFUSAL))
        or fault is Fault.LOGIN
        or code in SQLITE_HOPELESS
        or (fault is None and bool(sqlstate_of(cause) or code))
    )
