"""Waits for a condition, with a limit."""
# [Task]: T051, T089 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

BOUND_SECONDS = 60


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Returns when a condition holds, and fails if it never does."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not await holds():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)


async def until_true(holds: Callable[[], object], seconds: float = BOUND_SECONDS) -> None:
    """As `until`, for a condition that needs no waiting itself."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)


def is_closed(driver: Any) -> bool:
    """Whether a connection of asyncpg or of aiosqlite is closed."""
    if isinstance(driver, asyncpg.Connection):
        return bool(driver.is_closed())
    try:
        return driver.in_transaction is None
    except ValueError:
        return True


async def until_closed(drivers: set[Any]) -> None:
    """Returns when the drivers know that all these connections are closed."""

    async def are_closed() -> bool:
        return all(map(is_closed, drivers))

    await until(are_closed)


def note_connections(engine: AsyncEngine) -> set[Any]:
    """Returns a set that collects the driver connections that the engine's pool hands out from now on."""
    seen = set[Any]()
    event.listen(engine.sync_engine, "checkout", lambda connection, *_: seen.add(connection.driver_connection))
    return seen
