"""A real PgBouncer in transaction mode, with fewer server connections than clients."""
# [Task]: T094, T178 [From]: specs/reliability.md, specs/features/hosting.md

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from tests.faults.postgres import ROLE, PrivatePostgres
from tests.reverse_proxies import is_open
from tests.server import pick_port

POOL_SIZE = 2

# `server_login_retry` is the pause before it tries a failed server again.
CONFIG = """\
[databases]
{database} = host={socket} dbname={database} user={role}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
ignore_startup_parameters = {ignored}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 100
server_login_retry = 1
"""


class PgBouncer:
    """A pooler that its URL declares, or that nothing in the URL gives away."""

    def __init__(
        self, program: str, folder: Path, postgres: PrivatePostgres, database: str, *, is_declared: bool
    ) -> None:
        port = pick_port()
        url = make_url(postgres.url(database)).set(host="127.0.0.1", port=port)
        url = url.set(query={"pgbouncer": "true"} if is_declared else {})
        self.url = url.render_as_string(hide_password=False)
        self._port = port
        self._database = database
        self._folder = folder
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        config = CONFIG.format(
            database=database,
            socket=postgres.folder,
            role=ROLE,
            port=port,
            pool_size=POOL_SIZE,
            ignored="" if is_declared else "statement_timeout",
        )
        (folder / "pgbouncer.ini").write_text(config)
        # For the user that it runs as.
        folder.chmod(0o755)

    async def start(self) -> None:
        """Returns when it takes connections."""
        # It refuses to run as root.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self._program, *user, str(self._folder / "pgbouncer.ini")), stdout=log, stderr=log
            )
        async with asyncio.timeout(30):
            while not await is_open(self._port):
                assert self._process.returncode is None, (self._folder / "log").read_text()
                await asyncio.sleep(0.05)

    def clients(self) -> int:
        """How many connections it has from its clients."""
        assert self._process
        connections = psutil.Process(self._process.pid).net_connections("tcp")
        return sum(one.laddr.port == self._port and one.status == psutil.CONN_ESTABLISHED for one in connections)

    async def stop(self, *, kill: bool = False) -> None:
        """Ends it at once, with all its connections."""
        if self._process is not None and self._process.returncode is None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            await self._process.wait()


@asynccontextmanager
async def pgbouncer_before(
    postgres: PrivatePostgres, database: str, *, is_declared: bool = True
) -> AsyncIterator[PgBouncer]:
    """Runs a pooler of one database. Skips the test where PgBouncer isn't installed."""
    # Debian installs it in a folder that isn't on every PATH.
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer isn't installed (apt-get install pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="todo-api-"))
    pooler = PgBouncer(program, folder, postgres, database, is_declared=is_declared)
    try:
        await pooler.start()
        yield pooler
    finally:
        await pooler.stop()
        shutil.rmtree(folder)
