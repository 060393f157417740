"""The service as it is deployed: a real uvicorn at a fixed port, which can be ended and started
again.
"""
# [Task]: T092, T093, T094, T095 [From]: specs/reliability.md

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Self

import httpx
import psutil

from tests.faults.record import REQUEST_TIMEOUT_SECONDS
from tests.leaks import SECRET
from tests.server import Process, pick_port, uvicorn_process

START_PATIENCE_SECONDS = 60

SETTINGS = {"BETTER_AUTH_SECRET": SECRET, "REQUEST_TIMEOUT": f"{REQUEST_TIMEOUT_SECONDS:g}", "LOG_LEVEL": "WARNING"}
# Short, so that a broken connection is noticed and closed within seconds.
SHORT_LIMITS = {
    "DB_POOL_SIZE": "3",
    "DB_MAX_OVERFLOW": "2",
    "DB_POOL_TIMEOUT": "1",
    "DB_CONNECT_TIMEOUT": "2",
    "DB_STATEMENT_TIMEOUT": "2",
}


class Deployment:
    """One service with its settings. As a context, it is started and then ended."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.port = pick_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._arguments = (*arguments, "--port", str(self.port))
        self._environment = SETTINGS | environment
        self._stack = AsyncExitStack()
        self._processes: list[Process] = []

    @property
    def output(self) -> str:
        return "".join(process.output for process in self._processes)

    @property
    def process(self) -> Process:
        """The process that was started last."""
        return self._processes[-1]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self) -> None:
        """Returns when it serves."""
        await self.launch()
        await self.wait_until_ready()

    async def launch(self) -> None:
        process = uvicorn_process(self._folder, *self._arguments, **self._environment)
        self._processes.append(await self._stack.enter_async_context(process))

    async def wait_until_ready(self) -> None:
        async with asyncio.timeout(START_PATIENCE_SECONDS), httpx.AsyncClient() as client:
            while not await is_ready(client, self.url):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.05)

    async def stop(self) -> int:
        """Asks it to stop, and returns its exit code."""
        self.process.process.terminate()
        return await self.process.end()

    async def kill(self) -> None:
        """Ends all its processes at once."""
        for process in [psutil.Process(self.process.process.pid), *self.workers()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await self.process.end()

    def workers(self) -> list[psutil.Process]:
        """The processes that serve, if it was started with `--workers`."""
        found = []
        for process in psutil.Process(self.process.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if any("spawn_main" in argument for argument in process.cmdline()):
                    found.append(process)
        return found


async def is_ready(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/ready")).status_code == 200
    except httpx.TransportError:
        return False
