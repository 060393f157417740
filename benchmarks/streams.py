"""What open streams of live changes cost, at rest and beside requests, and how soon they are told of a change."""
# [Task]: T164 [From]: specs/performance.md

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from statistics import median

from benchmarks import rows
from benchmarks.bench import Bench, Figures, say
from benchmarks.database import SERVICE, find_backends
from benchmarks.load import Sample, Watchers, run_watchers, total
from benchmarks.operations import MEASURED, pick_requests, request, request_for, token_of
from benchmarks.peers import Peer, run_peer
from benchmarks.report import table

# How many users, and how many streams each has.
CROWDS = {"1,000 of 1,000 users": (1000, 1), "1,000 of 50 users": (50, 20)}
REQUESTS = 200
# How many batches of reads there are to a round: a few would tell of the neighbours rather than of the streams.
BATCHES = 6
CONNECTIONS = 10
# A multiple of `LIVE_INTERVAL` and of the time between two comments.
REST_SECONDS = 42.0
# After so long, all that opening the streams left to do is done, and events come at once again.
SETTLE_SECONDS = 1.0
# The default of `LIVE_INTERVAL`. Changes come at any time within it.
INTERVAL_SECONDS = 2.0
# How many users change their lists at the same moment.
AT_ONCE = 50
# What moves the lists of all users, past the service.
CHANGE_ALL = "UPDATE task SET completed = NOT completed"

SAME, OTHER, PAST = "same worker", "another worker", "one SQL statement"


@dataclass(frozen=True)
class Crowd:
    """A worker with open streams, and another of the same database without any."""

    url: str
    watched: Peer
    other: Peer
    tasks: Mapping[str, Sequence[int]]
    each: int

    def requests(self) -> list[str]:
        """What opens the streams."""
        return [
            request("GET", f"/api/{user}/tasks/events", token_of(user)) for user in self.tasks for _ in range(self.each)
        ]


def measure(bench: Bench) -> Figures:
    chance = Random(164)  # noqa: S311 - the same requests in every run
    figures: Figures = {"bytes": {name: [] for name in CROWDS}, "rest": {}, "beside": {}, "told": {}}
    with bench.database() as url, run_watchers() as watchers:
        with run_peer(SERVICE, bench.new_folder(), url):
            pass  # makes the schema
        users = [rows.user_id(number) for number in range(max(count for count, _ in CROWDS.values()))]
        bench.portal.call(rows.fill, url, len(users), len(users))
        all_tasks = bench.portal.call(rows.tasks_of, url, users)
        for name, (count, each) in CROWDS.items():
            tasks = {user: all_tasks[user] for user in users[:count]}
            for number in range(1, bench.rounds + 1):
                say(f"  {name}: round {number} of {bench.rounds}")
                with ExitStack() as stack:
                    # A new process in each round: one that had streams before would use their memory again.
                    watched, other = (stack.enter_context(run_peer(SERVICE, bench.new_folder(), url)) for _ in range(2))
                    crowd = Crowd(url, watched, other, tasks, each)
                    for peer in (watched, other):
                        drive(bench, crowd, peer, chance)
                    if number == 1:
                        figures["rest"][f"none, before {name}"] = measure_rest(bench, crowd)
                    before = watched.resident_bytes
                    watchers.open(watched, crowd.requests())
                    time.sleep(SETTLE_SECONDS)
                    figures["bytes"][name].append((watched.resident_bytes - before) / (count * each))
                    if number == 1:
                        figures["rest"][name] = measure_rest(bench, crowd)
                        figures["beside"][name] = measure_beside(bench, crowd, chance)
                        figures["told"][name] = measure_told(bench, crowd, watchers, chance)
                    watchers.close()
    return figures


def drive(bench: Bench, crowd: Crowd, peer: Peer, chance: Random) -> Sample:
    requests = pick_requests(MEASURED["get"], crowd.tasks, REQUESTS, chance)
    return bench.driver.drive(peer, requests, connections=CONNECTIONS)


def measure_rest(bench: Bench, crowd: Crowd) -> dict[str, float]:
    """The share of a core that the worker takes when nothing happens, and that PostgreSQL takes for it. No other
    program uses this database then.
    """
    backends = bench.portal.call(find_backends, crowd.url)

    def used() -> list[float]:
        return [crowd.watched.cpu_seconds, sum(sum(process.cpu_times()[:2]) for process in backends)]

    before, started = used(), time.monotonic()
    time.sleep(REST_SECONDS)
    seconds = time.monotonic() - started
    worker, postgres = (after - start for after, start in zip(used(), before, strict=True))
    return {"worker": worker / seconds, "postgres": postgres / seconds}


def measure_beside(bench: Bench, crowd: Crowd, chance: Random) -> Figures:
    """What reads cost beside the streams, and in the worker without any."""
    samples: dict[str, list[Sample]] = {"with": [], "without": []}
    peers = {"with": crowd.watched, "without": crowd.other}
    for _ in range(bench.rounds * BATCHES):
        for name in chance.sample(list(peers), len(peers)):
            samples[name].append(drive(bench, crowd, peers[name], chance))
    return {name: total(of_peer).figures() for name, of_peer in samples.items()}


def measure_told(bench: Bench, crowd: Crowd, watchers: Watchers, chance: Random) -> Figures:
    """The seconds from before a change is sent until the first and the last stream are told, by who makes it and of
    how many users' lists.
    """
    everyone = list(crowd.tasks)

    def toggle(peer: Peer, users: Sequence[str]) -> None:
        toggles = [request_for(MEASURED["toggle"], user, crowd.tasks[user][0]) for user in users]
        bench.driver.drive(peer, toggles, connections=len(toggles))

    def change_all() -> None:
        bench.portal.call(execute, crowd.url, CHANGE_ALL)

    def one() -> list[str]:
        return [chance.choice(everyone)]

    def several() -> list[str]:
        return chance.sample(everyone, AT_ONCE)

    cases: dict[str, tuple[Callable[[Sequence[str]], None], Callable[[], list[str]]]] = {
        f"{SAME}, 1 user": (lambda users: toggle(crowd.watched, users), one),
        f"{SAME}, {AT_ONCE} users at once": (lambda users: toggle(crowd.watched, users), several),
        f"{OTHER}, 1 user": (lambda users: toggle(crowd.other, users), one),
        f"{OTHER}, {AT_ONCE} users at once": (lambda users: toggle(crowd.other, users), several),
        f"{PAST}, all users": (lambda _: change_all(), lambda: everyone),
    }
    found: Figures = {name: {"streams": 0, "first": [], "last": []} for name in cases}
    for number in range(bench.rounds + 1):
        for name, (change, pick) in cases.items():
            users = pick()
            found[name]["streams"] = len(users) * crowd.each
            time.sleep(SETTLE_SECONDS + chance.uniform(0, INTERVAL_SECONDS))
            watchers.forget()
            sent_at = time.monotonic()
            change(users)
            first, last = watchers.wait(len(users) * crowd.each)
            if number:
                found[name]["first"].append(first - sent_at)
                found[name]["last"].append(last - sent_at)
    return found


async def execute(url: str, statement: str) -> None:
    async with rows.connect(url) as connection:
        await connection.execute(statement)


def tables(figures: Figures) -> str:
    memory = [
        [name, f"{median(found) / 1e3:.1f}", f"{min(found) / 1e3:.1f} to {max(found) / 1e3:.1f}"]
        for name, found in figures["bytes"].items()
    ]
    rest = [[name, *(f"{found[one]:.2%}" for one in ("worker", "postgres"))] for name, found in figures["rest"].items()]
    beside = [
        [
            name,
            *(f"{found[one]['median_ms']:.2f}; {found[one]['cpu_us']:,.0f}" for one in ("with", "without")),
            *(f"{found['with'][one] / found['without'][one]:.2f}" for one in ("median_ms", "p99_ms", "cpu_us")),
        ]
        for name, found in figures["beside"].items()
    ]
    told = [
        [
            f"{name}: {case}",
            str(found["streams"]),
            *(f"{f(found['last']) * 1e3:,.0f}" for f in (min, median, max)),
            f"{median(last - first for first, last in zip(found['first'], found['last'], strict=True)) * 1e3:,.0f}",
        ]
        for name, cases in figures["told"].items()
        for case, found in cases.items()
    ]
    return "\n\n".join(
        [
            table(["streams", "kB of each, median", "lowest and highest"], memory),
            table(["streams at rest", "worker, of a core", "PostgreSQL, of a core"], rest),
            table(
                ["a get beside", "with, median ms; CPU, µs", "without", "ratio of median", "of 99 %", "of CPU"], beside
            ),
            table(
                ["streams: changed by", "told", "the last, least ms", "median", "most", "from the first to the last"],
                told,
            ),
        ]
    )
