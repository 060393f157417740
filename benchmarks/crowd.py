"""The service with its own pool, under more clients than it keeps connections."""
# [Task]: T106 [From]: specs/performance.md

from contextlib import ExitStack
from itertools import product
from random import Random
from statistics import geometric_mean

from sqlalchemy import make_url

from benchmarks import rows
from benchmarks.bench import CONNECTIONS, Bench, Figures, say
from benchmarks.load import Sample, total
from benchmarks.operations import MEASURED, pick_requests
from benchmarks.peers import ROOT, Peer, run_peer
from benchmarks.report import table

CLIENTS = (8, CONNECTIONS, 24, 40)
REQUESTS = 1000
OPERATIONS = ("get", "toggle")
SERVICE = "service"
FLOOR = "floor+orjson"
BEFORE = "before"


def measure(bench: Bench) -> Figures:
    chance = Random(106)  # noqa: S311 - the same requests in every run
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        tasks, databases = {}, {}
        for name in (SERVICE, FLOOR, *([BEFORE] if bench.before else [])):
            url = stack.enter_context(bench.database())
            databases[name] = make_url(url).database or ""
            if name == FLOOR:
                # Whose schema a service makes, and goes.
                with run_peer(SERVICE, bench.new_folder(), url):
                    pass
            peers[name] = stack.enter_context(
                run_peer(
                    FLOOR if name == FLOOR else SERVICE,
                    bench.new_folder(),
                    url,
                    root=(name == BEFORE and bench.before) or ROOT,
                    has_own_pool=True,
                )
            )
            tasks[name] = bench.portal.call(rows.fill_for_users, url)

        samples: dict[tuple[str, int, str], list[Sample]] = {}
        sessions = {name: dict.fromkeys(CLIENTS, 0) for name in peers}
        for number, operation in product(range(bench.rounds + 1), OPERATIONS):
            say(f"  {operation}, " + (f"round {number} of {bench.rounds}" if number else "warm-up"))
            for clients in CLIENTS:
                for name in chance.sample(list(peers), len(peers)):
                    requests = pick_requests(MEASURED[operation], tasks[name], REQUESTS, chance)
                    before = bench.portal.call(count_sessions, bench.server_url, databases[name])
                    sample = bench.driver.drive(peers[name], requests, connections=clients)
                    after = bench.portal.call(count_sessions, bench.server_url, databases[name])
                    if not number:
                        # Later rounds meet connections that have idled, and were let go.
                        sessions[name][clients] += after - before
                    else:
                        samples.setdefault((operation, clients, name), []).append(sample)
    return {
        "speed": {
            operation: {
                str(clients): {name: total(samples[operation, clients, name]).figures() for name in peers}
                for clients in CLIENTS
            }
            for operation in OPERATIONS
        },
        "sessions": {str(clients): {name: sessions[name][clients] for name in peers} for clients in CLIENTS},
    }


async def count_sessions(server_url: str, database: str) -> int:
    """How many connections to a database there have been."""
    async with rows.connect(server_url) as connection:
        statement = "SELECT sessions FROM pg_stat_database WHERE datname = $1"
        count: int = await connection.fetchval(statement, database)
        return count


def tables(figures: Figures) -> str:
    speed, sessions = figures["speed"], figures["sessions"]
    names = list(next(iter(sessions.values())))
    fewest = str(CLIENTS[0])

    def per_second(operation: str, clients: str, name: str) -> str:
        value, at_rest = (speed[operation][count][name]["per_second"] for count in (clients, fewest))
        return f"{value:,.0f} ({value / at_rest:.2f})"

    def ratio(clients: str, name: str) -> str:
        by_peer = [speed[operation][clients] for operation in OPERATIONS]
        mean = geometric_mean(peers[name]["cpu_us"] / peers[FLOOR]["cpu_us"] for peers in by_peer)
        return f"{mean:.2f}"

    header = ["clients"]
    header += [f"{operation}/s, {name}" for operation in OPERATIONS for name in names]
    header += [f"CPU, {name} / {FLOOR}" for name in names if name != FLOOR]
    header += [f"sessions opened, {name}" for name in names]
    lines = [
        [
            clients,
            *(per_second(operation, clients, name) for operation in OPERATIONS for name in names),
            *(ratio(clients, name) for name in names if name != FLOOR),
            *(str(count) for count in sessions[clients].values()),
        ]
        for clients in sessions
    ]
    sums = [str(sum(by_peer[name] for by_peer in sessions.values())) for name in names]
    return table(header, [*lines, ["in all", *[""] * (len(header) - len(sums) - 1), *sums]])
