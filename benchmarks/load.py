"""The processes of the clients, as the sections see them, and what a batch of requests comes to."""
# [Task]: T083, T164 [From]: specs/performance.md

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.peers import ROOT, Peer


@dataclass(frozen=True)
class Sample:
    """A batch of requests: the peer's CPU time and the time on the clock, in seconds, and each
    request's own.
    """

    cpu_seconds: float
    elapsed: float
    latencies: list[float]

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.latencies)
        count = len(ordered)
        return {
            "cpu_us": self.cpu_seconds / count * 1e6,
            "per_second": count / self.elapsed,
            "median_ms": statistics.median(ordered) * 1e3,
            "p99_ms": ordered[count * 99 // 100] * 1e3,
        }


def total(samples: Sequence[Sample]) -> Sample:
    return Sample(
        sum(sample.cpu_seconds for sample in samples),
        sum(sample.elapsed for sample in samples),
        [seconds for sample in samples for seconds in sample.latencies],
    )


class Client:
    """A process of its own, whose work shares no lock with ours: it is sent a line, and answers a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes, made below
        assert self._process.stdout is not None  # noqa: S101 - likewise
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a client ended; its traceback says why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"a request failed: {answer['error']}")
        return answer


class Driver(Client):
    """Sends what it is given."""

    def drive(self, peer: Peer, requests: Sequence[str], *, status: int = 200, connections: int = 1) -> Sample:
        """Sends each request once. Every answer has to have the status."""
        order = {"port": peer.port, "requests": requests, "connections": connections, "status": status}
        used = peer.cpu_seconds
        answer = self.ask(order)
        return Sample(peer.cpu_seconds - used, **answer)


class Watchers(Client):
    """Hold streams open, and say when they were told of a change."""

    def open(self, peer: Peer, requests: Sequence[str]) -> None:
        self.ask(["open", {"port": peer.port, "requests": requests}])

    def close(self) -> None:
        self.ask(["close", {}])

    def forget(self) -> None:
        """Forgets what was told so far."""
        self.ask(["forget", {}])

    def wait(self, count: int) -> tuple[float, float]:
        """Waits until so many were told, and returns when the first and the last were, by the monotonic clock."""
        answer = self.ask(["told", {"count": count}])
        return answer["first"], answer["last"]


@contextmanager
def run_client(module: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - a module of ours
        [sys.executable, "-m", module],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # An interrupt in the terminal is for the program that started it, which ends it.
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def run_driver() -> Iterator[Driver]:
    with run_client("benchmarks.driver") as process:
        yield Driver(process)


@contextmanager
def run_watchers() -> Iterator[Watchers]:
    with run_client("benchmarks.watchers") as process:
        yield Watchers(process)
