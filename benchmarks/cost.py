"""The CPU that a request costs, and how many are served at a time and how fast."""
# [Task]: T083 [From]: specs/performance.md

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import product
from random import Random
from statistics import geometric_mean
from typing import Any

from benchmarks.bench import CONNECTIONS, Bench, Figures, say
from benchmarks.load import Sample, total
from benchmarks.operations import CREATORS, FRESH, MEAN, MEASURED, NOT_FOUND, Operation, pick_requests, request_for
from benchmarks.peers import PEERS, Peer, run_peer
from benchmarks.report import table
from benchmarks.rows import fill_for_users
from tests.server import exchange

REQUESTS = 500
# The system accounts CPU time in ticks of 10 ms: a ratio is of a fifth of all rounds at least.
GROUPS = 5

OPERATIONS = MEASURED | {FRESH: MEASURED["get"]}
PAIRS = [("service", "floor"), ("service", "floor+orjson"), ("usual", "floor"), ("usual", "service")]

OWN_TO_EACH = {"id", "created_at", "updated_at"}

# By operation and peer, one for each round.
Batches = dict[tuple[str, str], list[Sample]]


def measure(bench: Bench) -> Figures:
    chance = Random(83)  # noqa: S311 - the same requests in every run
    with ExitStack() as stack:
        url = stack.enter_context(bench.database())
        peers = {
            # The service comes first and makes the schema.
            name: stack.enter_context(run_peer(name, bench.folder, url))
            for name in PEERS
        }
        tasks = bench.portal.call(fill_for_users, url)
        say("  whether all answer the same")
        check_agreement(peers, tasks)

        batches: Batches = {pair: [] for pair in product(OPERATIONS, PEERS)}
        for number in range(bench.rounds + 1):
            say(f"  round {number} of {bench.rounds}" if number else "  warm-up")
            for name, operation in OPERATIONS.items():
                requests = pick_requests(operation, tasks, REQUESTS, chance, has_fresh_tokens=name == FRESH)
                for peer in chance.sample(list(PEERS), len(PEERS)):
                    sample = bench.driver.drive(peers[peer], requests, status=operation.status, connections=CONNECTIONS)
                    if number:
                        batches[name, peer].append(sample)
    return {
        "operations": {name: {peer: total(batches[name, peer]).figures() for peer in PEERS} for name in OPERATIONS},
        "ratios": {f"{peer} / {other}": compare(batches, peer, other) for peer, other in PAIRS},
    }


def compare(batches: Batches, peer: str, other: str) -> dict[str, list[float]]:
    """The ratios of CPU time: over all rounds, and the lowest and the highest of the groups."""

    def ratio(name: str, rounds: slice) -> float:
        used, others = (total(batches[name, one][rounds]).cpu_seconds for one in (peer, other))
        return used / others

    def mean(rounds: slice) -> float:
        return geometric_mean(ratio(name, rounds) for name in MEASURED)

    def spread(measured: Callable[[slice], float]) -> list[float]:
        count = len(batches[FRESH, peer])
        groups = [measured(slice(first, None, GROUPS)) for first in range(min(count, GROUPS))]
        return [measured(slice(None)), min(groups), max(groups)]

    ratios = {name: spread(partial(ratio, name)) for name in OPERATIONS}
    return ratios | {MEAN: spread(mean)}


def check_agreement(peers: Mapping[str, Peer], tasks: Mapping[str, list[int]]) -> None:
    """Raises `RuntimeError` unless all peers answer the same, but for the ids of new tasks and the
    times of changes.
    """
    owner, (task_id, *_) = next(iter(tasks.items()))

    def settle(*, completed: bool) -> None:
        """Waits for the write of a peer that commits after its answer, and sets the task."""
        put = Operation("PUT", "/{task_id}", fields={"completed": completed})
        answer_to(peers["floor"], request_for(put, owner, task_id), put)

    # Who reads at last sees what the others wrote.
    writes_first = sorted(MEASURED.items(), key=lambda item: item[1].method == "GET")
    for name, operation in [*writes_first, ("not found", NOT_FOUND)]:
        user = CREATORS[0] if operation.method == "POST" else owner
        sent = request_for(operation, user, task_id)
        answers: dict[str, list[Any]] = {peer: [] for peer in peers}
        for completed in (True, False):
            settle(completed=completed)
            for peer in peers:
                answers[peer].append(answer_to(peers[peer], sent, operation))
                if operation.method != "GET":
                    settle(completed=completed)
        if any(answer != answers["floor"] for answer in answers.values()):
            raise RuntimeError(f"the peers don't agree on {name}: {answers}")


def answer_to(peer: Peer, sent: str, operation: Operation) -> tuple[int, Any]:
    answer = exchange(peer.port, sent.encode())
    content = answer.json()
    if operation.method != "GET":
        content = {name: value for name, value in content.items() if name not in OWN_TO_EACH}
    return answer.status_code, content


def tables(figures: Figures) -> str:
    operations, ratios = figures["operations"], figures["ratios"]
    costs = [
        [
            name,
            *(f"{operations[name][peer]['cpu_us']:,.0f}" if name != MEAN else "" for peer in PEERS),
            *(format_ratio(by_name[name]) for by_name in ratios.values()),
        ]
        for name in [*MEASURED, MEAN, FRESH]
    ]
    speeds = [[name, *(format_speed(by_peer[peer]) for peer in PEERS)] for name, by_peer in operations.items()]
    return "\n\n".join(
        [
            table(["CPU per request, µs", *PEERS, *ratios], costs),
            table(["requests/s (median, 99 % within, ms)", *PEERS], speeds),
        ]
    )


def format_ratio(spread: list[float]) -> str:
    value, low, high = spread
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def format_speed(speed: Mapping[str, float]) -> str:
    return f"{speed['per_second']:,.0f} ({speed['median_ms']:.1f}, {speed['p99_ms']:.1f})"
