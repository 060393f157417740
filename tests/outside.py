"""SQL from outside: what a person, or another program, does to the database of a running service."""
# [Task]: T145 [From]: specs/database/schema.md

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import URL, NullPool, create_engine, text

from tests.service import Service

# Runs a statement with named parameters, and returns its rows, if it has any.
Execute = Callable[..., Awaitable[list[Any]]]


@asynccontextmanager
async def transaction(service: Service) -> AsyncIterator[Execute]:
    """A transaction past the service, committed at the end. On SQLite its connection has nothing that the service gives
    to its own.
    """
    engine = service.app.state.database.engine
    if service.backend == "sqlite":
        plain = create_engine(URL.create("sqlite", database=engine.url.database), poolclass=NullPool)
        with plain.begin() as connection:

            async def execute(sql: str, **parameters: Any) -> list[Any]:
                result = connection.execute(text(sql), parameters)
                return list(result) if result.returns_rows else []

            yield execute
        return
    async with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:

        async def execute_there(sql: str, **parameters: Any) -> list[Any]:
            result = await connection.execute(text(sql), parameters)
            return list(result) if result.returns_rows else []

        yield execute_there


async def run_sql(service: Service, sql: str, **parameters: Any) -> list[Any]:
    """Runs and commits one statement past the service."""
    async with transaction(service) as execute:
        return await execute(sql, **parameters)
