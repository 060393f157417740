"""The nginx of deploy/, which is told of other replicas while it serves."""
# [Task]: T178 [From]: specs/features/hosting.md

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.reverse_proxies import PROGRAMS, configuration, is_open, nginx_configuration
from tests.server import Process, pick_port, running_process
from tests.waiting import until

# For each stream there are two, one of them to the service.
CONNECTIONS = 8192


class Balancer:
    """An nginx on `port`, with the certificate of the fixture `tls`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.url = f"https://127.0.0.1:{port}"
        self.file = folder / "nginx.conf"
        self._folder = folder
        self._process: Process | None = None

    @property
    def output(self) -> str:
        return self._process.output if self._process else ""

    def write(self, *services: str) -> None:
        text = nginx_configuration(self._folder, configuration("nginx", services), self.port)
        assert "master_process off; " in text
        text = text.replace("master_process off; ", "")
        text = text.replace("events {}", f"events {{ worker_connections {CONNECTIONS}; }}")
        # As root, nginx's workers run as a user who can't read the folders of tests.
        self.file.write_text("user root;\n" + text if os.geteuid() == 0 else text)

    async def serve(self, process: Process) -> None:
        self._process = process

        async def is_serving() -> bool:
            assert process.process.returncode is None, process.output
            return await is_open(self.port)

        await until(is_serving)

    async def reload(self, *services: str) -> None:
        """As `nginx -s reload`. Returns when the workers that know only the replicas before take no more requests."""
        assert self._process
        before = self._workers()
        self.write(*services)
        self._process.process.send_signal(signal.SIGHUP)

        async def is_done() -> bool:
            now = self._workers()
            return bool(now) and not now & before

        await until(is_done)

    def _workers(self) -> set[int]:
        """The workers that take requests."""
        assert self._process
        found = set()
        for child in psutil.Process(self._process.process.pid).children():
            try:
                title = " ".join(child.cmdline()).strip()
            except psutil.NoSuchProcess:
                continue
            if title == "nginx: worker process":
                found.add(child.pid)
        return found


@asynccontextmanager
async def balancing(folder: Path, *services: str) -> AsyncIterator[Balancer]:
    """Runs an nginx in front of these two services. Skips the test where it isn't installed."""
    program = PROGRAMS["nginx"]
    if program is None:
        pytest.skip("nginx isn't installed")
    balancer = Balancer(folder, pick_port())
    balancer.write(*services)
    command = (program, "-e", "stderr", "-p", f"{folder}", "-c", f"{balancer.file}")
    async with running_process(*command, cwd=folder) as process:
        await balancer.serve(process)
        yield balancer
