"""The rows to measure on."""
# [Task]: T083 [From]: specs/performance.md

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import md5

import asyncpg

from benchmarks.bench import say

USERS = 50
TASKS_EACH = 100
CHUNK = 1_000_000
# A user of so many tasks that paging through them goes deep.
COLLECTOR = "collector"

# Row i belongs to user i % users, so that the tasks of a user lie scattered. Each `$3`th row is
# the collector's, and not counted there.
FILL = """
    INSERT INTO task (user_id, title, description, completed, created_at, updated_at)
    SELECT
        CASE WHEN i % $3 = 0 THEN $5 ELSE md5(((i - i / $3) % $4)::text) END,
        'Task number ' || i,
        CASE WHEN i % 2 = 0 THEN 'A description of some length, as every second has.' END,
        i % 3 = 0,
        made_at,
        made_at
    FROM generate_series($1::bigint, $2::bigint) AS i,
    LATERAL (SELECT timestamptz '2026-01-01 00:00Z' + i * interval '1.000001 s' AS made_at) AS _"""


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def execute(url: str, script: str) -> None:
    async with connect(url) as connection:
        await connection.execute(script)


def user_id(number: int) -> str:
    """As `FILL` makes it: 32 characters without an order, like Better Auth's."""
    return md5(str(number).encode(), usedforsecurity=False).hexdigest()


async def fill(url: str, rows: int, users: int, collected: int = 0) -> None:
    """Makes rows of so many users, and among them so many more of the collector's."""
    last = rows + collected
    every = rows // collected + 1 if collected else last + 1
    async with connect(url) as connection:
        for first in range(1, last + 1, CHUNK):
            if last > CHUNK:
                say(f"  row {first:,} of {last:,}")
            chunk_end = min(first + CHUNK - 1, last)
            await connection.execute(FILL, first, chunk_end, every, users, COLLECTOR)
        await connection.execute("VACUUM ANALYZE task")


async def fill_for_users(url: str) -> dict[str, list[int]]:
    """Makes the tasks of `USERS`, and gives their ids."""
    await fill(url, USERS * TASKS_EACH, USERS)
    return await tasks_of(url, [user_id(number) for number in range(USERS)])


async def tasks_of(url: str, user_ids: Sequence[str]) -> dict[str, list[int]]:
    """The ids of these users' tasks."""
    async with connect(url) as connection:
        found = await connection.fetch(
            "SELECT user_id, array_agg(id ORDER BY id) FROM task"
            " WHERE user_id = ANY($1) GROUP BY user_id ORDER BY user_id",
            user_ids,
        )
    return dict(found)
