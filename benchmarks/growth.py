"""Whether a request takes longer where there are more rows."""
# [Task]: T083 [From]: specs/performance.md

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from random import Random
from statistics import median
from typing import Any

import psutil

from benchmarks.bench import Bench, Figures, say
from benchmarks.load import Sample, total
from benchmarks.operations import MEASURED, Operation, pick_requests, request_for
from benchmarks.peers import Peer, run_peer
from benchmarks.report import table
from benchmarks.rows import COLLECTOR, TASKS_EACH, connect, fill, tasks_of, user_id

SMALLEST = 10_000
LARGEST = 10_000_000
ACTIVE_USERS = 100
OPERATIONS = ("get", "put", "toggle", "list of 100")
REQUESTS = 100
WARM_UP = 200
MOST_COLLECTED = 100_000
OFFSETS = (0, 1_000, 10_000, 100_000)
DEEP_REQUESTS = 20


@dataclass(frozen=True)
class Database:
    """One size: who serves it, what there is to ask for, and PostgreSQL's processes behind it."""

    peer: Peer
    tasks: dict[str, list[int]]
    backends: list[psutil.Process]

    @property
    def backend_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.backends)


def sizes_up_to(rows: int) -> list[int]:
    sizes = [SMALLEST]
    while sizes[-1] * 10 < rows:
        sizes.append(sizes[-1] * 10)
    return sizes if rows == SMALLEST else [*sizes, rows]


def measure(bench: Bench) -> Figures:
    chance = Random(83)  # noqa: S311 - the same requests in every run
    sizes = sizes_up_to(bench.rows)
    collected = min(MOST_COLLECTED, bench.rows // 10)
    samples: dict[tuple[int, str], list[Sample]] = {key: [] for key in product(sizes, OPERATIONS)}
    backend_seconds = dict.fromkeys(samples, 0.0)
    with ExitStack() as stack:
        databases = {}
        for rows in sizes:
            say(f"  a database of {rows:,} rows")
            extra = collected if rows == sizes[-1] else 0
            databases[rows] = stack.enter_context(prepare(bench, rows, extra, chance))
        for number in range(1, bench.rounds + 1):
            say(f"  round {number} of {bench.rounds}")
            for name in OPERATIONS:
                for rows in chance.sample(sizes, len(sizes)):
                    database = databases[rows]
                    requests = pick_requests(MEASURED[name], database.tasks, REQUESTS, chance)
                    used = database.backend_seconds
                    sample = bench.driver.drive(database.peer, requests)
                    samples[rows, name].append(sample)
                    backend_seconds[rows, name] += database.backend_seconds - used
        say("  deep offsets")
        deep = measure_offsets(bench, databases[sizes[-1]].peer, collected)
    figures: Figures = {"sizes": {}, "offsets": deep, "collected": collected}
    for (rows, name), batches in samples.items():
        found = total(batches)
        used_us = backend_seconds[rows, name] / len(found.latencies) * 1e6
        by_name = figures["sizes"].setdefault(str(rows), {})
        by_name[name] = found.figures() | {"postgres_cpu_us": used_us}
    return figures


@contextmanager
def prepare(bench: Bench, rows: int, collected: int, chance: Random) -> Iterator[Database]:
    users = rows // TASKS_EACH
    # The same number of users everywhere, spread evenly over all there are.
    active = [user_id(number * users // ACTIVE_USERS) for number in range(ACTIVE_USERS)]
    with bench.database() as url, run_peer("service", bench.new_folder(), url) as peer:
        bench.portal.call(fill, url, rows, users, collected)
        tasks = bench.portal.call(tasks_of, url, active)
        for name in OPERATIONS:
            bench.driver.drive(peer, pick_requests(MEASURED[name], tasks, WARM_UP, chance))
        yield Database(peer, tasks, bench.portal.call(find_backends, url))


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


def measure_offsets(bench: Bench, peer: Peer, collected: int) -> dict[str, float]:
    """Median milliseconds of a page of 100, by its offset."""
    medians = {}
    for offset in OFFSETS:
        if offset > collected:
            break
        page = Operation(path=f"?limit=100&offset={offset}")
        requests = [request_for(page, COLLECTOR, 0)] * DEEP_REQUESTS
        bench.driver.drive(peer, requests)
        medians[str(offset)] = median(bench.driver.drive(peer, requests).latencies) * 1e3
    return medians


def tables(figures: Figures) -> str:
    sizes: dict[str, Any] = figures["sizes"]
    smallest = next(iter(sizes.values()))
    header = [f"{int(rows):,} rows" for rows in sizes]
    latencies, costs = [], []
    for name in OPERATIONS:
        medians = [by_name[name]["median_ms"] for by_name in sizes.values()]
        first = smallest[name]["median_ms"]
        latencies.append([name, *(f"{one:.2f} ({one / first:.2f})" for one in medians)])
        found = [by_name[name] for by_name in sizes.values()]
        costs.append([name, *(f"{one['cpu_us']:.0f} + {one['postgres_cpu_us']:.0f}" for one in found)])
    offsets = [[f"{int(offset):,}", f"{ms:.2f}"] for offset, ms in figures["offsets"].items()]
    deep = f"page of 100 at offset, of {figures['collected']:,} tasks"
    return "\n\n".join(
        [
            table(["median ms (and to the smallest)", *header], latencies),
            table(["CPU of the service + of PostgreSQL, µs", *header], costs),
            table([deep, "median ms"], offsets),
        ]
    )
