"""What a rolling deploy needs: the next version, with its migration, and replicas that give way to it."""
# [Task]: T178, T179 [From]: specs/features/hosting.md

import asyncio
import re
import shutil
import signal
import sys
import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from commands.connections import compute, read_arguments
from migrations.state import HEAD
from tests.faults.balancer import Balancer
from tests.faults.deployment import Deployment
from tests.faults.pgbouncer import PgBouncer
from tests.faults.postgres import ROLE, PrivatePostgres
from tests.faults.watching import Watcher
from tests.leaks import SECRET
from tests.server import INHERITED, ROOT, running_process
from tests.service import make_settings
from tests.test_layout import PACKAGES

LIVE_INTERVAL = 0.5
POOL = {"db_pool_size": 4, "db_max_overflow": 2}
NEXT = f"{int(HEAD) + 1:04}"
MIGRATION = f'''
"""Adds the day on which a task is due."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade() -> None:
    op.add_column("task", sa.Column("due", sa.Date()))
    op.create_index("ix_task_due", "task", ["user_id", "due"])
'''


def copy_with_a_migration(folder: Path) -> Path:
    """Makes the next version of the service: a copy of the product with one more migration."""
    copy = folder / "next"
    copy.mkdir()
    for path in [ROOT / "pyproject.toml", *ROOT.glob("*.py")]:
        shutil.copy(path, copy)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "migrations" / "versions" / f"{NEXT}_add_due.py").write_text(MIGRATION)
    return copy


async def migrate(code: Path, url: str) -> None:
    """As a job before a deploy does, by the URL that leads past the pooler."""
    program = (sys.executable, "-m", "alembic", "upgrade", "head")
    environment = INHERITED | {"DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET}
    async with running_process(*program, cwd=code, env=environment) as job:
        assert await job.end() == 0, job.output


@dataclass
class Most:
    """The most connections that there were at one time: of the service to the pooler, and to the database."""

    pooler: int = 0
    database: int = 0


@asynccontextmanager
async def counting(pooler: PgBouncer, postgres: PrivatePostgres, database: str) -> AsyncIterator[Most]:
    most = Most()
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1"

    async def sample() -> None:
        while True:
            most.pooler = max(most.pooler, pooler.clients())
            most.database = max(most.database, await admin.fetchval(count, ROLE))
            await asyncio.sleep(0.1)

    async with postgres.admin(database) as admin, asyncio.TaskGroup() as group:
        task = group.create_task(sample())
        yield most
        task.cancel()


def connections_computed() -> int:
    """Returns the command's figure for two replicas that are replaced one after the other."""
    options = read_arguments(["--replicas", "2", "--surge", "1", "--limit", "100", "--reserved", "0"])
    fits, lines = compute(options, make_settings(**POOL))
    (computed,) = re.findall(r"in a deploy: .* at most (\d+)", "\n".join(lines))
    assert fits
    return int(computed)


class Replicas:
    """Two replicas behind a proxy, of which the oldest gives way to a new one."""

    def __init__(self, folder: Path, stack: AsyncExitStack, database_url: str) -> None:
        self._folder = folder
        self._stack = stack
        self._settings = {"DATABASE_URL": database_url, "DB_MIGRATE_ON_START": "false"}
        self._settings |= {"LIVE_INTERVAL": f"{LIVE_INTERVAL}"} | {name.upper(): f"{POOL[name]}" for name in POOL}
        self.started: list[Deployment] = []
        # When each stop began and ended.
        self.stops: list[tuple[float, float]] = []

    @property
    def urls(self) -> list[str]:
        return [one.url for one in self.started[-2:]]

    async def start(self, code: Path) -> None:
        # Kept alive for longer than by nginx.
        arguments = ("--app-dir", f"{code}", "--timeout-keep-alive", "75")
        self.started.append(
            await self._stack.enter_async_context(Deployment(self._folder, *arguments, **self._settings))
        )

    async def replace_oldest(self, balancer: Balancer, code: Path) -> None:
        await self.start(code)
        await balancer.reload(*self.urls)
        begin = time.monotonic()
        assert await self.started[-3].stop() in {0, -signal.SIGTERM}
        self.stops.append((begin, time.monotonic()))

    def longest_stop(self) -> float:
        return max(end - begin for begin, end in self.stops)

    def longest_return(self, watchers: list[Watcher]) -> float:
        """Returns after how many seconds, at most, the streams that a stop has ended were open again."""
        begins = [begin for begin, _ in self.stops]
        openings = [opening for watcher in watchers for opening in watcher.openings[1:]]
        return max(opening - begins[bisect_right(begins, opening) - 1] for opening in openings)
