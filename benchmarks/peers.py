"""The programs that are compared, each a uvicorn of one worker in a process of its own."""
# [Task]: T083 [From]: specs/performance.md

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
SECRET = "a secret of the benchmark and of nobody else"  # noqa: S105 - guards made-up tasks
POOL = {
    # As many connections as the others have.
    "DB_POOL_SIZE": "10",
    "DB_MAX_OVERFLOW": "0",
    # For longer than any section, as the others keep them.
    "DB_POOL_RECYCLE": "3600",
}
START_SECONDS = 30
END_SECONDS = 10

# What to run, and with which of uvicorn's options. To add a peer, add a line.
PEERS = {
    "service": ["main:app"],
    "floor": ["benchmarks.floor:app", "--no-access-log"],
    "floor+orjson": ["benchmarks.floor_orjson:app", "--no-access-log"],
    "usual": ["benchmarks.usual:app"],
}


class Peer:
    """A running program: where it listens, and what it has used so far."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._process = psutil.Process(process.pid)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of the process, as the operating system accounts it."""
        used = self._process.cpu_times()
        return used.user + used.system

    @property
    def resident_bytes(self) -> int:
        resident: int = self._process.memory_info().rss
        return resident


@contextmanager
def run_peer(
    name: str, folder: Path, database_url: str | None, *, root: Path = ROOT, has_own_pool: bool = False
) -> Iterator[Peer]:
    """Runs a peer in a folder, where its log goes too. Without a URL the service makes a file. It
    has the others' pool, or else its own; `root` is where its code is.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    environment = {"PATH": os.environ["PATH"]}
    if database_url is not None:
        environment |= {"DATABASE_URL": database_url, "BETTER_AUTH_SECRET": SECRET}
        if not has_own_pool:
            environment |= POOL
    command = [sys.executable, "-m", "uvicorn", *PEERS[name], "--app-dir", str(root)]
    with (
        (folder / f"{name}.log").open("wb") as log,
        subprocess.Popen(  # noqa: S603 - one of the peers above
            [*command, "--port", str(port)], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            if not wait_for(process, port):
                said = Path(log.name).read_text()
                raise RuntimeError(f"{name} did not start:\n{said}")
            yield Peer(process, port)
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the process came to listen."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False
