"""A real Redis server, in a process of its own that keeps nothing on disk."""
# [Task]: T157 [From]: specs/features/limits.md

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.leaks import PASSWORD
from tests.server import pick_port
from tests.waiting import BOUND_SECONDS

PROGRAM = shutil.which("redis-server")


class RedisServer:
    """A server on loopback that can be killed and started again, and that can fall silent: it then takes connections
    and commands, and answers nothing until it speaks again.
    """

    def __init__(self) -> None:
        self.port = pick_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        if PROGRAM is None:
            pytest.skip("redis-server isn't installed")
        self._process = subprocess.Popen(
            [
                *(PROGRAM, "--bind", "127.0.0.1", "--port", f"{self.port}", "--requirepass", PASSWORD),
                *("--save", "", "--appendonly", "no"),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + BOUND_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server never answered"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def fall_silent(self) -> None:
        self._signal(signal.SIGSTOP)

    def speak_again(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(1) != b""
        return False


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A server of a test's own."""
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.kill()
