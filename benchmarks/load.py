"""The driver process, as the sections see it, and what its batches come to."""
# [Task]: T083 [From]: specs/performance.md

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

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


class Driver:
    """Sends what it is given, in a process of its own: its work shares no lock with ours."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def drive(self, peer: Peer, requests: Sequence[str], *, status: int = 200, connections: int = 1) -> Sample:
        """Sends each request once. Every answer has to have the status."""
        order = {"port": peer.port, "requests": requests, "connections": connections, "status": status}
        used = peer.cpu_seconds
        answer = json.loads(self._exchange(json.dumps(order)))
        used = peer.cpu_seconds - used
        if "error" in answer:
            raise RuntimeError(f"a request failed: {answer['error']}")
        return Sample(used, **answer)

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes, made below
        assert self._process.stdout is not None  # noqa: S101 - likewise
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the driver ended; its traceback says why")
        return answer


@contextmanager
def run_driver() -> Iterator[Driver]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.driver"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # An interrupt in the terminal is for the program that started it, which ends it.
        start_new_session=True,
    ) as process:
        try:
            yield Driver(process)
        finally:
            process.terminate()
