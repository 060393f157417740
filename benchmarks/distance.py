"""How often a request goes to the database and back, and what that takes when it is far away."""
# [Task]: T083, T146 [From]: specs/performance.md

import asyncio
import time
from contextlib import ExitStack, suppress
from random import Random
from statistics import median
from typing import NamedTuple

from benchmarks.bench import Bench, Figures, say
from benchmarks.database import Database
from benchmarks.lists import BULK, NEW, READS, SOME, WRITES
from benchmarks.operations import DELETE, MEASURED, NOT_FOUND, pick_requests, request, request_for, sign, token_of
from benchmarks.peers import PEERS, Peer, run_peer
from benchmarks.report import table
from benchmarks.rows import fill_for_users
from tests.proxy import Proxy, proxy_to

ONE_WAY_SECONDS = 0.005
WARM_UP = 5
# What is left for after the answer counts, too.
SETTLE_SECONDS = 0.2
REQUESTS = 20
# What the database isn't asked about. The others make no promise there.
REFUSED = ["401", "403", "422"]
# What the usual way doesn't do.
LISTS = {name: READS[name] for name in (f"by title, {SOME}", f"search, {SOME}", f"304, {SOME}")} | WRITES
SINGLES = f"create 1, {BULK} times"


class Case(NamedTuple):
    status: int
    requests: list[str]


class DistantProxy(Proxy):
    """Counts as its base does, and everything takes its time, in both directions."""

    def __init__(self, upstream_url: str) -> None:
        super().__init__(upstream_url)
        self._pumps: set[asyncio.Task[None]] = set()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await super().connect()
        return self._delay(reader), writer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super().serve(self._delay(reader), writer)

    def _delay(self, reader: asyncio.StreamReader) -> asyncio.StreamReader:
        """The same bytes, later. What follows close behind is not held up by what it follows."""
        delayed = asyncio.StreamReader()
        loop = asyncio.get_running_loop()

        async def pump() -> None:
            with suppress(ConnectionError):
                while data := await reader.read(65536):
                    loop.call_later(ONE_WAY_SECONDS, delayed.feed_data, data)
            loop.call_later(ONE_WAY_SECONDS, delayed.feed_eof)

        task = asyncio.create_task(pump())
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        return delayed


def measure(bench: Bench) -> Figures:
    chance = Random(146)  # noqa: S311 - the same requests in every run
    figures: Figures = {name: {} for name in [*MEASURED, "delete", "404", *REFUSED, *LISTS, SINGLES]}
    with ExitStack() as stack:
        url = stack.enter_context(bench.database())
        proxy = stack.enter_context(bench.portal.wrap_async_context_manager(proxy_to(url, DistantProxy)))
        peers = {name: stack.enter_context(run_peer(name, bench.folder, proxy.url)) for name in PEERS}
        tasks = bench.portal.call(fill_for_users, url)
        for name, peer in peers.items():
            say(f"  {name}")
            # What is deleted can't be asked for.
            doomed = dict([tasks.popitem()])
            database = Database(peer, tasks, [], [], url)
            for case, (status, requests) in cases(tasks, doomed).items():
                if case not in REFUSED or name == "service":
                    figures[case][name] = mean(*drive(bench, proxy, peer, status, requests))
            for case, one in LISTS.items() if name in NEW else ():
                requests = one.pick(database, WARM_UP + REQUESTS, chance)
                figures[case][name] = mean(*drive(bench, proxy, peer, one.status, requests))
            singles = pick_requests(MEASURED["create"], tasks, WARM_UP + BULK, chance)
            trips, seconds = drive(bench, proxy, peer, 201, singles)
            figures[SINGLES][name] = {"round_trips": trips, "median_ms": sum(seconds) * 1e3}
    return figures


def drive(bench: Bench, proxy: Proxy, peer: Peer, status: int, requests: list[str]) -> tuple[int, list[float]]:
    """How many round trips these make behind the warm-up, and how long each takes."""
    bench.driver.drive(peer, requests[:WARM_UP], status=status)
    time.sleep(SETTLE_SECONDS)
    before = proxy.round_trips
    sample = bench.driver.drive(peer, requests[WARM_UP:], status=status)
    time.sleep(SETTLE_SECONDS)
    return proxy.round_trips - before, sample.latencies


def mean(trips: int, seconds: list[float]) -> dict[str, float]:
    return {"round_trips": trips / len(seconds), "median_ms": median(seconds) * 1e3}


def cases(tasks: dict[str, list[int]], doomed: dict[str, list[int]]) -> dict[str, Case]:
    """What to send: the operations on tasks, DELETE on those doomed to it, and what is refused."""
    chance = Random(83)  # noqa: S311 - the same requests in every run
    count = WARM_UP + REQUESTS
    found = {
        name: Case(operation.status, pick_requests(operation, tasks, count, chance))
        for name, operation in (MEASURED | {"404": NOT_FOUND}).items()
    }
    deletes = [request_for(DELETE, owner, task_id) for owner, ids in doomed.items() for task_id in ids]
    found["delete"] = Case(DELETE.status, deletes[:count])
    user, other = list(tasks)[:2]
    path = f"/api/{user}/tasks"
    refused = {
        401: request("GET", path, sign(user, exp=1)),
        403: request("GET", path, token_of(other)),
        422: request("POST", path, token_of(user), "{}"),
    }
    for status, text in refused.items():
        found[str(status)] = Case(status, [text] * count)
    return found


def tables(figures: Figures) -> str:
    rows = [
        [
            name,
            *(format_trips(by_peer.get(peer)) for peer in PEERS),
            *(f"{by_peer[peer]['median_ms']:.1f}" if peer in by_peer else "" for peer in PEERS),
        ]
        for name, by_peer in figures.items()
    ]
    header = ["round trips per request", *PEERS, *(f"{peer}, median ms" for peer in PEERS)]
    return table(header, rows)


def format_trips(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['round_trips']:g}"
