"""A database with the program that serves it, and the CPU that both spend."""
# [Task]: T083, T146 [From]: specs/performance.md

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.bench import Bench
from benchmarks.load import Sample, total
from benchmarks.operations import MEASURED, request_for
from benchmarks.peers import ROOT, Peer, run_peer
from benchmarks.rows import COLLECTOR, connect, execute, fill, tasks_of

SERVICE = "service"
WARM_UP = 200


@dataclass(frozen=True)
class Database:
    """`tasks` has the ids of each user's tasks, `collected` those of the collector's. `backends` are PostgreSQL's
    processes for this database.
    """

    peer: Peer
    tasks: dict[str, list[int]]
    collected: list[int]
    backends: list[psutil.Process]
    url: str

    @property
    def backend_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.backends)


@dataclass
class Account:
    """All batches of one operation on one database, and PostgreSQL's CPU time for them."""

    samples: list[Sample] = field(default_factory=list)
    backend_seconds: float = 0.0

    def drive(
        self, bench: Bench, database: Database, requests: Sequence[str], status: int = 200, connections: int = 1
    ) -> None:
        used = database.backend_seconds
        self.samples.append(bench.driver.drive(database.peer, requests, status=status, connections=connections))
        self.backend_seconds += database.backend_seconds - used

    def figures(self) -> dict[str, float]:
        found = total(self.samples)
        return found.figures() | {"postgres_cpu_us": self.backend_seconds / len(found.latencies) * 1e6}


@contextmanager
def serve(  # noqa: PLR0913 - all that makes a database
    bench: Bench,
    name: str,
    rows: int,
    users: int,
    active: Sequence[str],
    collected: int,
    *,
    root: Path = ROOT,
    change: str = "",
) -> Iterator[Database]:
    """Runs a peer on a database of its own, with so many rows of so many users and the collector's. `active` are the
    users whose tasks are asked for, `change` is SQL that changes the schema.
    """
    with bench.database() as url:
        if name != SERVICE or change:
            # The service makes the schema, and ends.
            with run_peer(SERVICE, bench.new_folder(), url):
                pass
        if change:
            bench.portal.call(execute, url, change)
        with run_peer(name, bench.new_folder(), url, root=root) as peer:
            bench.portal.call(fill, url, rows, users, collected)
            tasks = bench.portal.call(tasks_of, url, [*active, COLLECTOR])
            of_collector = tasks.pop(COLLECTOR, [])
            bench.driver.drive(peer, [request_for(MEASURED["get"], active[0], tasks[active[0]][0])] * WARM_UP)
            yield Database(peer, tasks, of_collector, bench.portal.call(find_backends, url), url)


async def find_backends(url: str) -> list[psutil.Process]:
    """The processes that serve this database's clients, none where the server isn't of this run."""
    async with connect(url) as connection:
        if not await connection.fetchval("SELECT inet_server_addr() IS NULL"):
            return []
        found = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    return [psutil.Process(row["pid"]) for row in found]
