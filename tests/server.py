"""The service behind a real uvicorn, and a client that sends just the bytes it is told to."""
# [Task]: T021, T063 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from random import sample
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.leaks import watch

ROOT = Path(__file__).parent.parent

# No setting, but what finds programs and measures coverage.
INHERITED = {name: value for name, value in os.environ.items() if name == "PATH" or "COVERAGE" in name}

# A start without a key prints these two lines for a developer, and not into the log.
DEMO = re.compile(r"^(eyJ|curl ).*$", re.MULTILINE)


@contextmanager
def serving(app: FastAPI, http: str = "auto") -> Iterator[int]:
    """The port on which a uvicorn serves this application, in a thread and a loop of its own;
    `http` is the parser.
    """
    config = uvicorn.Config(app, http=http, lifespan="on", log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the service did not start"
                time.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def head(method: str, target: str | bytes, *headers: str | bytes) -> bytes:
    """The first line of a request and its headers, with a Host of its own."""
    target = target if isinstance(target, bytes) else target.encode()
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: testserver"]
    lines += [line if isinstance(line, bytes) else line.encode() for line in headers]
    return b"\r\n".join([*lines, b"", b""])


def pick_port() -> int:
    """A free port that can be closed and opened again: it is below those that systems give to
    outgoing connections, one of which could else have it meanwhile.
    """
    for port in sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    pytest.fail("there is no free port")


def connect(port: int) -> socket.socket:
    # Long enough for the slowest machine; what should come at once is there long before.
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def read_answer(connection: socket.socket, method: str = "GET") -> httpx.Response:
    response = HTTPResponse(connection, method=method)
    response.begin()
    answer = httpx.Response(response.status, headers=response.getheaders(), content=response.read())
    watch.read_answer(answer)
    return answer


def exchange(port: int, request: bytes) -> httpx.Response:
    """The answer to these bytes."""
    with connect(port) as connection:
        connection.sendall(request)
        return read_answer(connection, request.partition(b" ")[0].decode(errors="replace"))


class Process:
    """A running program, what it has printed so far, and where it listens, if it is a uvicorn."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._lines: list[str] = []
        self._has_more = asyncio.Event()
        # Read as it comes: a process whose output nobody takes would stand still in the end.
        self._reading = asyncio.create_task(self._read())

    @property
    def output(self) -> str:
        return "".join(self._lines)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._lines.append(line.decode())
            self._has_more.set()

    async def wait_for(self, pattern: str) -> re.Match[str]:
        while not (found := re.search(pattern, self.output)):
            if self._reading.done():
                pytest.fail(f"it ended, and never printed {pattern}:\n{self.output}")
            self._has_more.clear()
            more = asyncio.create_task(self._has_more.wait())
            await asyncio.wait([more, self._reading], return_when=asyncio.FIRST_COMPLETED)
            more.cancel()
        return found

    async def url(self) -> str:
        return (await self.wait_for(r"running on (http://[\d.:]+)"))[1]

    async def end(self) -> int:
        await self._reading
        return await self.process.wait()


@asynccontextmanager
async def running_process(*command: str, cwd: Path, **options: Any) -> AsyncIterator[Process]:
    """A program that ends with the block, and prints no secret."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **{"env": INHERITED} | options
    )
    running = Process(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        await running.end()
        watch.read(DEMO.sub("", running.output), "what a process printed")


def uvicorn_process(
    folder: Path, *arguments: str, app: str = "main:app", **environment: str
) -> AbstractAsyncContextManager[Process]:
    """`uvicorn main:app` in a process of its own, as a newcomer runs it."""
    uvicorn = (sys.executable, "-m", "uvicorn", app, "--app-dir", str(ROOT), "--port", "0")
    return running_process(*uvicorn, *arguments, cwd=folder, env=INHERITED | {"PYTHONUNBUFFERED": "1"} | environment)
