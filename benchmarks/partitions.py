"""What it costs and gains to partition the tasks by their users."""
# [Task]: T187 [From]: specs/performance.md

import time
from contextlib import ExitStack
from random import Random
from typing import Any

from benchmarks.bench import Bench, Figures, say
from benchmarks.database import SERVICE, Account, Database, serve
from benchmarks.growth import ACTIVE_USERS, MOST_COLLECTED, OPERATIONS, measure_depth
from benchmarks.lists import BULK, CASES, CLEARED, SOME
from benchmarks.peers import ROOT
from benchmarks.plans import MODES, explain
from benchmarks.report import table
from benchmarks.rows import COLLECTOR, TASKS_EACH, connect, execute, user_id

PLAIN, PARTITIONED = "plain", "partitioned"
SCHEMAS = {PLAIN: "", PARTITIONED: (ROOT / "benchmarks" / "partition.sql").read_text()}
CREATES = ("create", f"create {BULK}", f"clear {CLEARED:,}")
ALL = (*OPERATIONS, f"with count, {SOME}", "put, If-Match", *CREATES)
# The statements in the tables; results.json has all.
SHOWN = {
    "GET_TASK": "get",
    "LIST_TASKS 0": "list of 100, by created",
    "LIST_TASKS 0, deep": "the same, behind nine tenths of many",
    "LIST_TASKS 1": "with count",
    "LIST_TASKS 4": "by updated",
    "LIST_TASKS 8": "by title",
    "CREATE_TASK": "create",
    "UPDATE_TASK": "put",
    "IF_MATCH 0": "put, If-Match that fails",
    "COMPLETE_TASK": "toggle",
    "DELETE_TASK": "delete",
    "CREATE_TASKS": "create 100",
    "COMPLETE_TASKS": "complete 100",
    "CLEAR_TASKS": "clear 100",
    "LIST_VERSIONS": "versions of 100 lists",
}

SIZES = """
    WITH tables AS (
      SELECT CAST('task' AS regclass) AS oid
      UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = CAST('task' AS regclass)
    )
    SELECT sum(pg_table_size(oid)) AS rows, sum(pg_indexes_size(oid)) AS indexes,
      (SELECT max(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid IN (SELECT oid FROM tables))
        AS largest_index,
      max(CAST(CAST(oid AS regclass) AS text)) AS leaf
    FROM tables"""


def measure(bench: Bench) -> Figures:
    chance = Random(174)  # noqa: S311 - the same requests in every run
    users = bench.rows // TASKS_EACH
    active = [user_id(number * users // ACTIVE_USERS) for number in range(ACTIVE_USERS)]
    collected = min(MOST_COLLECTED, bench.rows // 10)
    accounts = {(name, kind): Account() for name in ALL for kind in SCHEMAS}
    figures: Figures = {"rows": bench.rows, "collected": collected}
    with ExitStack() as stack:
        databases: dict[str, Database] = {}
        for kind, change in SCHEMAS.items():
            say(f"  {kind}: {bench.rows:,} rows")
            databases[kind] = stack.enter_context(
                serve(bench, SERVICE, bench.rows, users, active, collected, change=change)
            )
        say("  plans")
        figures["plans"] = {
            kind: bench.portal.call(explain, one.url, one.tasks, COLLECTOR, one.collected[collected * 9 // 10])
            for kind, one in databases.items()
        }
        for number in range(bench.rounds + 1):
            say(f"  round {number} of {bench.rounds}" if number else "  warm-up")
            for name in ALL:
                case = CASES[name]
                for kind in chance.sample(list(SCHEMAS), len(SCHEMAS)):
                    requests = case.pick(databases[kind], case.times, chance)
                    account = accounts[name, kind] if number else Account()
                    account.drive(bench, databases[kind], requests, case.status)
        say("  deep pages")
        figures["depth"] = {kind: measure_depth(bench, one, collected) for kind, one in databases.items()}
        say("  sizes and vacuum")
        figures["tables"] = {kind: bench.portal.call(weigh, one.url) for kind, one in databases.items()}
    figures["cases"] = {name: {kind: accounts[name, kind].figures() for kind in SCHEMAS} for name in ALL}
    return figures


async def weigh(url: str) -> dict[str, float]:
    """Sizes in bytes, and the seconds of a VACUUM that skips no page: of all rows, and of one of the tables."""
    async with connect(url) as connection:
        sizes = dict(await connection.fetchrow(SIZES))
    leaf = sizes.pop("leaf")
    seconds = {}
    for name, target in {"vacuum_s": "task", "vacuum_one_s": leaf}.items():
        began = time.perf_counter()
        await execute(url, f"VACUUM (DISABLE_PAGE_SKIPPING) {target}")
        seconds[name] = time.perf_counter() - began
    return {name: int(size) for name, size in sizes.items()} | seconds


def tables(figures: Figures) -> str:
    return "\n\n".join([case_table(figures), plan_table(figures), depth_table(figures), size_table(figures)])


def case_table(figures: Figures) -> str:
    lines = []
    for name, by_kind in figures["cases"].items():
        shown = [
            f"{one['median_ms']:.2f}; {one['cpu_us']:,.0f} + {one['postgres_cpu_us']:,.0f}" for one in by_kind.values()
        ]
        plain, partitioned = by_kind[PLAIN], by_kind[PARTITIONED]
        postgres = partitioned["postgres_cpu_us"] - plain["postgres_cpu_us"]
        lines.append([name, *shown, f"{partitioned['median_ms'] / plain['median_ms']:.2f}", f"{postgres:+,.0f}"])
    return table(["median ms; CPU + PostgreSQL's, µs", *SCHEMAS, "ratio of ms", "PostgreSQL's µs more"], lines)


def plan_table(figures: Figures) -> str:
    header = ["planning + execution, ms; pages", *(f"{kind}, {mode}" for kind in SCHEMAS for mode in MODES)]
    header += [f"{kind}: one plan is kept" for kind in SCHEMAS]
    lines = []
    for name, words in SHOWN.items():
        costs = {kind: figures["plans"][kind][name] for kind in SCHEMAS}
        cells = [show_plan(costs[kind][mode]) for kind in SCHEMAS for mode in MODES]
        lines.append([words, *cells, *("yes" if costs[kind]["is kept"] else "no" for kind in SCHEMAS)])
    return table(header, lines)


def show_plan(cost: dict[str, Any]) -> str:
    return f"{cost['planning_ms']:.2f} + {cost['execution_ms']:.2f}; {cost['pages']:,}"


def depth_table(figures: Figures) -> str:
    lines = [
        [f"{kind}, by {sort}", *(f"{ms:.2f}" for ms in by_place.values())]
        for kind, by_sort in figures["depth"].items()
        for sort, by_place in by_sort.items()
    ]
    places = next(iter(figures["depth"][PLAIN].values()))
    return table([f"page of {figures['collected']:,} tasks, median ms", *places], lines)


def size_table(figures: Figures) -> str:
    header = ["", "rows, MB", "all indexes, MB", "the largest index, MB"]
    header += ["VACUUM of all, s", "VACUUM of one table, s"]
    lines = []
    for kind, one in figures["tables"].items():
        sizes = [f"{one[name] / 1e6:,.0f}" for name in ("rows", "indexes", "largest_index")]
        lines.append([kind, *sizes, f"{one['vacuum_s']:.1f}", f"{one['vacuum_one_s']:.2f}"])
    return table(header, lines)
