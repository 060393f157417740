"""Measures what the service costs, next to two others that do the same."""
# [Task]: T083, T146, T164, T187 [From]: specs/performance.md

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from anyio.from_thread import start_blocking_portal

from benchmarks import cost, crowd, distance, footprint, growth, lists, partitions, report, rows, streams
from benchmarks.bench import CONNECTIONS, Bench, Figures, say
from benchmarks.load import run_driver
from benchmarks.peers import ROOT
from tests.databases import postgres_server


class Section(NamedTuple):
    title: str
    measure: Callable[[Bench], Figures]
    tables: Callable[[Figures], str]
    settings: Callable[[Bench], Figures]


SECTIONS = {
    "cost": Section(
        "Cost",
        cost.measure,
        cost.tables,
        lambda bench: {
            "rounds": bench.rounds,
            "requests in a batch": cost.REQUESTS,
            "connections": CONNECTIONS,
            "users": rows.USERS,
            "tasks of each": rows.TASKS_EACH,
        },
    ),
    "lists": Section(
        "Lists and bulk writes",
        lists.measure,
        lists.tables,
        lambda bench: {
            "rounds": bench.rounds,
            "requests in a batch": {name: case.times for name, case in (lists.CASES | lists.AT_ONCE).items()},
            "users": lists.USERS,
            "tasks of each": rows.TASKS_EACH,
            "tasks of another": lists.COLLECTED,
        },
    ),
    "streams": Section(
        "Live changes",
        streams.measure,
        streams.tables,
        lambda bench: {
            "rounds": bench.rounds,
            "users, and streams of each": streams.CROWDS,
            "seconds at rest": streams.REST_SECONDS,
            "requests in a batch": streams.REQUESTS,
            "connections": streams.CONNECTIONS,
        },
    ),
    "distance": Section(
        "Round trips and distance",
        distance.measure,
        distance.tables,
        lambda _: {"requests": distance.REQUESTS, "seconds each way": distance.ONE_WAY_SECONDS},
    ),
    "load": Section(
        "Load",
        crowd.measure,
        crowd.tables,
        lambda bench: {"rounds": bench.rounds, "requests in a batch": crowd.REQUESTS},
    ),
    "memory": Section(
        "Memory",
        footprint.measure_memory,
        footprint.memory_tables,
        lambda _: {"connections": CONNECTIONS, "mix of a thousand": footprint.MIX},
    ),
    "start": Section(
        "Cold start",
        footprint.measure_start,
        footprint.start_tables,
        lambda _: {"starts of each kind": footprint.STARTS},
    ),
    "growth": Section(
        "Growth",
        growth.measure,
        growth.tables,
        lambda bench: {
            "rounds": bench.rounds,
            "rows": bench.rows,
            "requests in a batch": {name: lists.CASES[name].times for name in growth.OPERATIONS},
            "tasks of each user": rows.TASKS_EACH,
            "active users": growth.ACTIVE_USERS,
        },
    ),
    "partitions": Section(
        "Partitions",
        partitions.measure,
        partitions.tables,
        lambda bench: {
            "rounds": bench.rounds,
            "rows": bench.rows,
            "requests in a batch": {name: lists.CASES[name].times for name in partitions.ALL},
            "tasks of each user": rows.TASKS_EACH,
            "active users": growth.ACTIVE_USERS,
        },
    ),
}


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--sections", type=sections_of, default=list(SECTIONS), metavar="A,B", help=f"of {', '.join(SECTIONS)}"
    )
    parser.add_argument("--rounds", type=within(1, 1000), default=10, metavar="N")
    parser.add_argument(
        "--rows",
        type=within(growth.SMALLEST, growth.LARGEST),
        default=100_000,
        metavar="N",
        help="the largest table of the section growth, and the one of partitions",
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="FOLDER",
        help="another checkout of the service, for the sections load and lists to measure too",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    return parser.parse_args(words)


def sections_of(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - SECTIONS.keys():
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}, only {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]


def within(lowest: int, highest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"is not within {lowest} and {highest}")
        return value

    return number


async def version_of(server_url: str) -> str:
    async with rows.connect(server_url) as connection:
        version: str = await connection.fetchval("SHOW server_version")
        return version


def main() -> None:
    # However it is ended, all that it started ends too.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit("ended before it was done"))
    arguments = read_arguments()
    results = report.load(arguments.output)
    with (
        tempfile.TemporaryDirectory(prefix="todo-api-benchmarks-") as folder,
        postgres_server() as server_url,
        start_blocking_portal() as portal,
        run_driver() as driver,
    ):
        bench = Bench(
            server_url,
            Path(folder),
            portal,
            driver,
            arguments.rounds,
            arguments.rows,
            arguments.before and arguments.before.resolve(),
        )
        versions = report.versions(portal.call(version_of, server_url))
        for name in arguments.sections:
            section = SECTIONS[name]
            say(section.title)
            figures = section.measure(bench)
            results[name] = {
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "versions": versions,
                "settings": section.settings(bench),
                "figures": figures,
            }
            report.save(arguments.output, results)
            print(f"## {section.title}\n\n{section.tables(figures)}\n", flush=True)  # noqa: T201 - the tables


if __name__ == "__main__":
    main()
