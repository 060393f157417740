"""All that the app needs, on loopback: its build, a database, the service behind a proxy, and Next.js."""
# [Task]: T170, T171 [From]: specs/features/frontend.md

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import asyncpg
import httpx

from tests.browser.proxy import LossyProxy, lossy_proxy
from tests.leaks import SECRET
from tests.server import Process, pick_port, uvicorn_process
from tests.typescript import EXAMPLE, NODE_MODULES
from tests.waiting import until

NEXT = ("node", str(NODE_MODULES / "next/dist/bin/next"))
ENVIRONMENT = {"PATH": os.environ["PATH"], "NEXT_TELEMETRY_DISABLED": "1", "BETTER_AUTH_SECRET": SECRET}


def build() -> None:
    """Builds the app, unless the last build is of just these files."""
    folders = [EXAMPLE / name for name in ("app", "components", "lib")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in EXAMPLE.iterdir() if path.suffix in {".ts", ".json"}]
    digest = sha256()
    for path in sorted(files):
        digest.update(f"{path}\n{path.read_text()}\n".encode())
    built = EXAMPLE / ".next/tests-built"
    if built.exists() and built.read_text() == digest.hexdigest():
        return
    built.unlink(missing_ok=True)
    run = subprocess.run([*NEXT, "build"], cwd=EXAMPLE, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    built.write_text(digest.hexdigest())


@dataclass
class Stack:
    """The app at `origin`, which browsers reach the service from, at `api`, by way of `proxy`."""

    origin: str
    database_url: str
    proxy: LossyProxy
    service_port: int
    settings: dict[str, str]
    folder: Path
    _service: AsyncExitStack = field(default_factory=AsyncExitStack)
    _process: Process | None = None

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    async def start_service(self) -> None:
        # Connections are kept for longer than tests wait, so that a cut one has been used before.
        arguments = ("--port", str(self.service_port), "--timeout-keep-alive", "120")
        self._process = await self._service.enter_async_context(
            uvicorn_process(self.folder, *arguments, **self.settings)
        )
        await self._process.url()

    async def end_service(self) -> None:
        await self._service.aclose()

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """The service crashes, and starts again at the end."""
        assert self._process is not None
        self._process.process.kill()
        await self._process.end()
        await self.end_service()
        try:
            yield
        finally:
            await self.start_service()

    async def has_no_stream(self) -> bool:
        return self.proxy.streams == 0

    async def rows(self, user_id: str) -> list[tuple[str, bool]]:
        """A user's tasks as the database has them."""
        query = "SELECT title, completed FROM task WHERE user_id = $1 ORDER BY id"
        return [tuple(row) for row in await self.fetch(query, user_id)]

    async def give(self, user_id: str, *tasks: tuple[str, str | None, bool]) -> None:
        """Gives a user tasks with these titles, descriptions, and whether they are completed."""
        query = (
            "INSERT INTO task (user_id, title, description, completed, created_at, updated_at)"
            " SELECT $1, *, now(), now() FROM unnest($2::text[], $3::text[], $4::boolean[])"
        )
        await self.fetch(query, user_id, *map(list, zip(*tasks, strict=True)))

    async def fetch(self, query: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database_url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *values)
            return rows
        finally:
            await connection.close()


@asynccontextmanager
async def next_server(port: int, **environment: str) -> AsyncIterator[None]:
    """`next start`, ended with all that it started."""
    process = await asyncio.create_subprocess_exec(
        *(*NEXT, "start", "-H", "127.0.0.1", "-p", str(port)),
        cwd=EXAMPLE,
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def answers() -> bool:
                assert process.returncode is None, "the app has ended"
                with suppress(httpx.TransportError):
                    return (await client.get("/api/auth/ok")).is_success
                return False

            await until(answers)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def running_stack(database_url: str, folder: Path, *, is_secret_shared: bool) -> AsyncIterator[Stack]:
    port, service_port = pick_port(), pick_port()
    origin = f"http://localhost:{port}"
    tokens = {"BETTER_AUTH_SECRET": SECRET} if is_secret_shared else {"BETTER_AUTH_URL": origin}
    settings = {
        "DATABASE_URL": database_url,
        "USER_TABLE": "user",
        "ALLOWED_ORIGINS": origin,
        "LIVE_INTERVAL": "0.5",
    } | tokens
    async with lossy_proxy(service_port) as proxy:
        stack = Stack(origin, database_url, proxy, service_port, settings, folder)
        web = {
            "DATABASE_URL": database_url,
            "BETTER_AUTH_URL": origin,
            "TODO_API_URL": stack.api,
            "TODO_API_TOKENS": "shared-secret" if is_secret_shared else "published-keys",
        }
        # It makes Better Auth's tables, which the service refers to.
        async with next_server(port, **web):
            await stack.start_service()
            try:
                yield stack
            finally:
                await stack.end_service()
