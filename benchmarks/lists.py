"""What lists, conditions and bulk writes cost, next to the floor, and the six operations next to the version before."""
# [Task]: T146 [From]: specs/performance.md

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.bench import CONNECTIONS, Bench, Figures, say
from benchmarks.database import SERVICE, Account, Database, serve
from benchmarks.operations import (
    CREATORS,
    MEASURED,
    Operation,
    pick_requests,
    request,
    request_for,
    serial_numbers,
    token_of,
)
from benchmarks.peers import ROOT
from benchmarks.report import table
from benchmarks.rows import COLLECTOR, TASKS_EACH, user_id
from tests.server import exchange

USERS = 100
COLLECTED = 10_000
# How many tasks a bulk write has, and how many a request to clear deletes.
BULK = 100
CLEARED = 1000
BEFORE = "before"
FLOORS = ("floor", "floor+orjson")
NEW = (SERVICE, *FLOORS)
OWN_TO_EACH = {"created_at", "updated_at"}

Pick = Callable[[Database, int, Random], list[str]]


@dataclass(frozen=True)
class Case:
    """Batches of `times` requests, which `pick` makes for a database, and the peers that can answer them."""

    pick: Pick
    times: int = 100
    status: int = 200
    peers: Sequence[str] = NEW
    connections: int = 1


def of_some(operation: Operation) -> Pick:
    """The operation on users of a hundred tasks each."""
    return lambda database, times, chance: pick_requests(operation, database.tasks, times, chance)


def of_many(operation: Operation) -> Pick:
    """The operation on the user of ten thousand."""
    return lambda database, times, chance: pick_requests(operation, {COLLECTOR: database.collected}, times, chance)


def of_one(operation: Operation) -> Pick:
    """The operation on tasks of a single user."""

    def pick(database: Database, times: int, chance: Random) -> list[str]:
        user = next(iter(database.tasks))
        return pick_requests(operation, {user: database.tasks[user]}, times, chance)

    return pick


def unchanged_lists(query: str, *, of_collector: bool = False) -> Pick:
    """Lists that the client has already: each with its tag."""

    def pick(database: Database, times: int, chance: Random) -> list[str]:
        user = COLLECTOR if of_collector else chance.choice(list(database.tasks))
        target = f"/api/{user}/tasks{query}"
        asked = request("GET", target, token_of(user), None, 'If-None-Match: "none"')
        tag = exchange(database.peer.port, asked.encode()).headers["etag"]
        return [request("GET", target, token_of(user), None, f"If-None-Match: {tag}")] * times

    return pick


def tagged(operation: Operation, header: str) -> Pick:
    """The operation on each task of a user, with its tag in this header."""

    def pick(database: Database, times: int, chance: Random) -> list[str]:
        user = chance.choice(list(database.tasks))
        listed = request_for(Operation(path=f"?limit={times}"), user, 0)
        tasks = exchange(database.peer.port, listed.encode()).json()
        return [
            request_for(operation, user, task["id"], headers=[f'{header}: "{task["updated_at"]}"']) for task in tasks
        ]

    return pick


def bulk(method: str, user: str, content: Any) -> str:
    return request(method, f"/api/{user}/tasks/bulk", token_of(user), json.dumps(content))


def create(user: str, count: int, *, completed: bool) -> str:
    tasks = [{"title": f"Buy milk {n}", "description": "Two litres", "completed": completed} for n in range(count)]
    return bulk("POST", user, {"tasks": tasks})


def creates(_database: Database, times: int, chance: Random) -> list[str]:
    return [create(chance.choice(CREATORS), BULK, completed=False) for _ in range(times)]


def completes(database: Database, times: int, chance: Random) -> list[str]:
    """Ticks all tasks of a user, unticks them, and so on."""
    user = chance.choice(list(database.tasks))
    ids = database.tasks[user][:BULK]
    return [bulk("PATCH", user, {"ids": ids, "completed": number % 2 == 0}) for number in range(times)]


def clears(database: Database, times: int, _chance: Random) -> list[str]:
    """Clears the lists of users who are made for it."""
    users = [f"clearer-{next(serial_numbers)}" for _ in range(times)]
    for user in users:
        for _ in range(CLEARED // BULK):
            exchange(database.peer.port, create(user, BULK, completed=True).encode())
    return [request("DELETE", f"/api/{user}/tasks?status=completed", token_of(user)) for user in users]


SORTS = {
    "by created": "?limit=100&sort=created",
    "by updated": "?limit=100&sort=updated",
    "by title": "?limit=100&sort=title",
    "search": "?limit=100&search=NUMBER+1",
}
COUNT = "?limit=100&count=true"
SOME, MANY = f"of {TASKS_EACH}", f"of {COLLECTED:,}"
READS = {
    **{f"{name}, {SOME}": Case(of_some(Operation(path=path))) for name, path in SORTS.items()},
    f"with count, {SOME}": Case(of_some(Operation(path=COUNT)), peers=[SERVICE]),
    f"304, {SOME}": Case(unchanged_lists("?limit=100"), status=304),
    **{f"{name}, {MANY}": Case(of_many(Operation(path=path)), 20) for name, path in SORTS.items()},
    f"with count, {MANY}": Case(of_many(Operation(path=COUNT)), 20, peers=[SERVICE]),
    f"304, {MANY}": Case(unchanged_lists("?limit=100", of_collector=True), status=304),
    "get, 304": Case(tagged(MEASURED["get"], "If-None-Match"), status=304),
}
WRITES = {
    "put, If-Match": Case(tagged(MEASURED["put"], "If-Match")),
    f"create {BULK}": Case(creates, 10, 201),
    f"complete {BULK}": Case(completes, 20),
    f"clear {CLEARED:,}": Case(clears, 3),
}
SIX = {
    name: Case(of_some(operation), status=operation.status, peers=(*NEW, BEFORE))
    for name, operation in MEASURED.items()
}
CASES = SIX | READS | WRITES
# Writes of one user, who have to wait for one another, and of many.
AT_ONCE = {
    "toggle, by 50 users": Case(of_some(MEASURED["toggle"]), 500, peers=(*NEW, BEFORE), connections=CONNECTIONS),
    "toggle, by one user": Case(of_one(MEASURED["toggle"]), 500, peers=(*NEW, BEFORE), connections=CONNECTIONS),
}


def measure(bench: Bench) -> Figures:
    chance = Random(146)  # noqa: S311 - the same requests in every run
    with serve_all(bench) as databases:
        say("  whether all answer the same")
        check_agreement(databases)
        # Those at once come last: they open more connections.
        return {
            "cases": measure_cases(bench, databases, CASES, chance),
            "at once": measure_cases(bench, databases, AT_ONCE, chance),
        }


@contextmanager
def serve_all(bench: Bench) -> Iterator[dict[str, Database]]:
    """Each peer on a database of its own, all with the same rows."""
    roots = dict.fromkeys(NEW, ROOT) | ({BEFORE: bench.before} if bench.before else {})
    rows = USERS * TASKS_EACH
    active = [user_id(number) for number in range(USERS)]
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                serve(bench, SERVICE if name == BEFORE else name, rows, USERS, active, COLLECTED, root=root)
            )
            for name, root in roots.items()
        }


def check_agreement(databases: Mapping[str, Database]) -> None:
    """Raises `RuntimeError` unless all peers answer the same, but for the times of changes."""
    for name, case in (READS | SIX | WRITES).items():
        answers = {
            peer: answer_to(database, case, is_read=name in READS)
            for peer, database in databases.items()
            if peer in case.peers
        }
        if any(answer != answers[SERVICE] for answer in answers.values()):
            raise RuntimeError(f"the peers don't agree on {name}: {answers}")


def answer_to(database: Database, case: Case, *, is_read: bool) -> tuple[int, Any]:
    sent = case.pick(database, 1, Random(1))[0]  # noqa: S311 - the same request to each
    answer = exchange(database.peer.port, sent.encode())
    if answer.status_code != case.status:
        raise RuntimeError(f"answered {answer.status_code}, not {case.status}: {answer.text}")
    if is_read:
        return answer.status_code, answer.json() if answer.content else None
    found = answer.json()
    tasks = found if isinstance(found, list) else [found]
    return answer.status_code, [{name: one[name] for name in one.keys() - OWN_TO_EACH} for one in tasks]


def measure_cases(
    bench: Bench, databases: Mapping[str, Database], cases: Mapping[str, Case], chance: Random
) -> Figures:
    accounts = {(name, peer): Account() for name, case in cases.items() for peer in databases if peer in case.peers}
    for number in range(bench.rounds + 1):
        say(f"  round {number} of {bench.rounds}" if number else "  warm-up")
        for name, case in cases.items():
            peers = [peer for peer in databases if peer in case.peers]
            for peer in chance.sample(peers, len(peers)):
                requests = case.pick(databases[peer], case.times, chance)
                account = accounts[name, peer] if number else Account()
                account.drive(bench, databases[peer], requests, case.status, case.connections)
    found: Figures = {name: {} for name in cases}
    for (name, peer), account in accounts.items():
        found[name][peer] = account.figures()
    return found


def tables(figures: Figures) -> str:
    cases, at_once = figures["cases"], figures["at once"]
    peers = [peer for peer in (SERVICE, BEFORE, *FLOORS) if peer in cases["get"]]
    others = peers[1:]
    costs = [
        [name, *(format_cost(by_peer.get(peer)) for peer in peers), *(format_ratio(by_peer, other) for other in others)]
        for name, by_peer in cases.items()
    ]
    speeds = [[name, *(f"{by_peer[peer]['per_second']:,.0f}" for peer in peers)] for name, by_peer in at_once.items()]
    header = ["median ms; CPU + PostgreSQL's, µs", *peers, *(f"service / {other}: ms, CPU" for other in others)]
    return "\n\n".join([table(header, costs), table([f"requests/s, {CONNECTIONS} at once", *peers], speeds)])


def format_cost(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['median_ms']:.2f}; {found['cpu_us']:,.0f} + {found['postgres_cpu_us']:,.0f}"


def format_ratio(by_peer: Mapping[str, Mapping[str, float]], other: str) -> str:
    if other not in by_peer:
        return ""
    found, others = by_peer[SERVICE], by_peer[other]
    used, used_there = (one["cpu_us"] + one["postgres_cpu_us"] for one in (found, others))
    return f"{found['median_ms'] / others['median_ms']:.2f}, {used / used_there:.2f}"
