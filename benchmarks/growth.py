"""Whether a request takes longer where there are more rows."""
# [Task]: T083 [From]: specs/performance.md

from contextlib import ExitStack
from itertools import product
from random import Random
from statistics import median
from typing import Any

from benchmarks.bench import Bench, Figures, say
from benchmarks.database import SERVICE, Account, Database, serve
from benchmarks.lists import CASES, SOME
from benchmarks.operations import Operation, request_for
from benchmarks.report import table
from benchmarks.rows import COLLECTOR, TASKS_EACH, user_id
from tests.server import exchange

SMALLEST = 10_000
LARGEST = 10_000_000
ACTIVE_USERS = 100
# Without those that make tasks or delete them, which would change the size.
OPERATIONS = (
    "get",
    "put",
    "toggle",
    "list of 100",
    f"by updated, {SOME}",
    f"by title, {SOME}",
    f"search, {SOME}",
    f"304, {SOME}",
    "complete 100",
)
MOST_COLLECTED = 100_000
SORTS = ("created", "updated", "title")
PAGE = 100
DEEP_REQUESTS = 5


def sizes_up_to(rows: int) -> list[int]:
    sizes = [SMALLEST]
    while sizes[-1] * 10 < rows:
        sizes.append(sizes[-1] * 10)
    return sizes if rows == SMALLEST else [*sizes, rows]


def measure(bench: Bench) -> Figures:
    chance = Random(83)  # noqa: S311 - the same requests in every run
    sizes = sizes_up_to(bench.rows)
    collected = min(MOST_COLLECTED, bench.rows // 10)
    accounts = {key: Account() for key in product(sizes, OPERATIONS)}
    with ExitStack() as stack:
        databases = {}
        for rows in sizes:
            say(f"  a database of {rows:,} rows")
            users = rows // TASKS_EACH
            # The same number of users everywhere, spread evenly over all there are.
            active = [user_id(number * users // ACTIVE_USERS) for number in range(ACTIVE_USERS)]
            extra = collected if rows == sizes[-1] else 0
            databases[rows] = stack.enter_context(serve(bench, SERVICE, rows, users, active, extra))
        for number in range(bench.rounds + 1):
            say(f"  round {number} of {bench.rounds}" if number else "  warm-up")
            for name in OPERATIONS:
                case = CASES[name]
                for rows in chance.sample(sizes, len(sizes)):
                    requests = case.pick(databases[rows], case.times, chance)
                    account = accounts[rows, name] if number else Account()
                    account.drive(bench, databases[rows], requests, case.status)
        say("  deep pages")
        deep = measure_depth(bench, databases[sizes[-1]], collected)
    figures: Figures = {"sizes": {}, "depth": deep, "collected": collected}
    for (rows, name), account in accounts.items():
        figures["sizes"].setdefault(str(rows), {})[name] = account.figures()
    return figures


def measure_depth(bench: Bench, database: Database, collected: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of a page of the collector's tasks, by sort and place: the first, and behind nine tenths of
    them by cursor and by offset.
    """
    depth = collected * 9 // 10
    medians: dict[str, dict[str, float]] = {}
    for sort in SORTS:
        path = f"?limit={PAGE}&sort={sort}"
        before = request_for(Operation(path=f"{path}&offset={depth - PAGE}"), COLLECTOR, 0)
        link = exchange(database.peer.port, before.encode()).links["next"]["url"]
        places = {"first": path, "by cursor": f"?{link.partition('?')[2]}", "by offset": f"{path}&offset={depth}"}
        requests = {
            place: [request_for(Operation(path=one), COLLECTOR, 0)] * DEEP_REQUESTS for place, one in places.items()
        }
        seconds: dict[str, list[float]] = {place: [] for place in places}
        for number in range(bench.rounds + 1):
            for place in places:
                sample = bench.driver.drive(database.peer, requests[place])
                if number:
                    seconds[place] += sample.latencies
        medians[sort] = {place: median(found) * 1e3 for place, found in seconds.items()}
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
    depth = f"{figures['collected'] * 9 // 10:,}"
    pages = [
        [sort, *(f"{ms:.2f} ({ms / by_place['first']:.2f})" for ms in by_place.values())]
        for sort, by_place in figures["depth"].items()
    ]
    places = ["first", f"at {depth} by cursor", f"at {depth} by offset"]
    return "\n\n".join(
        [
            table(["median ms (and to the smallest)", *header], latencies),
            table(["CPU of the service + of PostgreSQL, µs", *header], costs),
            table([f"page of {figures['collected']:,} tasks by, median ms (and to the first)", *places], pages),
        ]
    )
