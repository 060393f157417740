"""A PostgreSQL 18 that tests kill and start again with the same data."""
# [Task]: T092, T093, T094 [From]: specs/reliability.md

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psutil
from sqlalchemy import URL

from tests.databases import load_pgserver
from tests.leaks import PASSWORD

# A killed server leaves shared memory to free and a log to replay.
START_PATIENCE_SECONDS = 60

# Not a superuser, to whom limits don't apply.
ROLE = "todo"


class PrivatePostgres:
    """A server on a Unix socket, whose path is the same after each start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._package: Any = load_pgserver().PostgresServer(self.data, cleanup_mode=None)
        self._process: asyncio.subprocess.Process | None = None

    def url(self, database: str, role: str = ROLE) -> str:
        url = URL.create("postgresql", role, PASSWORD, database=database)
        url = url.set(query={"host": str(self.folder)})
        return url.render_as_string(hide_password=False)

    def prepare(self) -> None:
        """Creates the data folder, for a user of its own if this process is root's."""
        self.data.mkdir()
        self.folder.chmod(0o777)
        self._package.ensure_pgdata_inited()

    async def start(self) -> None:
        async with asyncio.timeout(START_PATIENCE_SECONDS):
            while not await self.accepts():
                if self._process is None or self._process.returncode is not None:
                    self._process = await self._spawn()
                await asyncio.sleep(0.05)

    async def _spawn(self) -> asyncio.subprocess.Process:
        with (self.folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(str(self._package.bin_path / "postgres"), "-D", str(self.data)),
                *("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}"),
                stdout=log,
                stderr=log,
                user=self._package.system_user,
            )

    async def accepts(self) -> bool:
        try:
            async with self.admin():
                return True
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    async def kill(self) -> None:
        """Ends all its processes at once, as the failure of a machine does."""
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await self.wait_until_stopped()

    async def stop(self) -> None:
        """Stops it, and cuts its clients off ("fast shutdown")."""
        if self._process is not None and self._process.returncode is None:
            self.tell(signal.SIGINT)
            await self.wait_until_stopped()

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait_until_stopped(self) -> None:
        assert self._process is not None
        await self._process.wait()

    @asynccontextmanager
    async def admin(self, database: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.url(database, "postgres"), timeout=10)
        try:
            yield connection
        finally:
            await connection.close(timeout=10)

    async def run(self, sql: str) -> None:
        async with self.admin() as admin:
            await admin.execute(sql)

    async def make_database(self) -> str:
        """Creates an empty database of `ROLE`, and returns its name."""
        name = f"todo_test_{uuid4().hex}"
        await self.run(f"CREATE DATABASE {name} OWNER {ROLE}")
        return name


@asynccontextmanager
async def private_postgres() -> AsyncIterator[PrivatePostgres]:
    folder = Path(tempfile.mkdtemp(prefix="todo-api-"))
    server = PrivatePostgres(folder)
    try:
        await asyncio.to_thread(server.prepare)
        await server.start()
        await server.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder)
