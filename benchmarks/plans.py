"""What PostgreSQL's plan of each statement costs, when it is planned for its values and when one plan is for all."""
# [Task]: T187 [From]: specs/performance.md

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

import asyncpg

from backends.postgres import compile_sql, create_engine
from benchmarks.rows import connect
from tests.service import TASK_STATEMENTS, make_settings

TIMES = 5
# After five plans for the values, PostgreSQL compares their cost with that of one plan for all.
UNTIL_DECIDED = 12
MODES = {"for its values": "force_custom_plan", "for all": "force_generic_plan"}

VALUES: dict[str, Any] = {
    "limit": 100,
    "offset": 0,
    "is_completed": None,
    "search": None,
    "after_id": None,
    "after_key": None,
    "seen": "[]",
    "times": "[]",
    "new_title": "x",
    "new_description": None,
    "new_completed": False,
    "sets_description": False,
    "now": datetime.now(UTC),
    "key": "k",
    "digest": b"d",
    "items": json.dumps([{"number": n, "title": "x", "completed": False, "key": f"k {n}"} for n in range(100)]),
    "keys": json.dumps([{"key": f"k {n}"} for n in range(100)]),
}


def literal(value: object) -> str:
    if value is None:
        return "NULL"
    text = rf"\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return "'" + text.replace("'", "''") + "'"


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


async def explain(url: str, tasks: dict[str, list[int]], collector: str, after: int) -> dict[str, Any]:
    """What each statement costs for a user of these, and a page behind the task `after` of the
    user with the most tasks."""
    owner, ids = next(iter(tasks.items()))
    values = VALUES | {
        "owner": owner,
        "task_id": ids[0],
        "ids": json.dumps(ids),
        "users": json.dumps([{"id": user} for user in tasks]),
    }
    found = {}
    dialect = create_engine(make_settings(database_url=url)).dialect
    async with connect(url) as connection:
        for name, statement in TASK_STATEMENTS.items():
            sql, names, own = compile_sql(statement, dialect)
            found[name] = await explain_one(connection, sql, [(own | values)[one] for one in names])
            if name == "LIST_TASKS 0":
                deep = own | values | {"owner": collector, "after_id": after}
                found["LIST_TASKS 0, deep"] = await explain_one(connection, sql, [deep[one] for one in names])
    return found


async def explain_one(connection: asyncpg.Connection, sql: str, values: list[Any]) -> dict[str, Any]:
    """Medians of the milliseconds to plan and to execute, the pages and the tables of tasks that are read, and whether
    PostgreSQL comes to keep one plan. Nothing is written.
    """
    run = f"EXECUTE explained ({', '.join(map(literal, values))})" if values else "EXECUTE explained"
    found: dict[str, Any] = {}
    for name, mode in MODES.items():
        await connection.execute(f"SET plan_cache_mode = {mode}; PREPARE explained AS {sql}")
        plans: list[dict[str, Any]] = []
        for number in range(TIMES + 1):
            transaction = connection.transaction()
            await transaction.start()
            text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {run}")
            await transaction.rollback()
            # The first one makes the plan that is for all.
            plans += json.loads(text) if number else []
        root = plans[-1]["Plan"]
        found[name] = {
            "planning_ms": median(plan["Planning Time"] for plan in plans),
            "execution_ms": median(plan["Execution Time"] for plan in plans),
            "pages": root["Shared Hit Blocks"] + root["Shared Read Blocks"],
            "tables": len({node["Relation Name"] for node in nodes_of(root) if is_read_of_tasks(node)}),
        }
        await connection.execute("DEALLOCATE explained")
    await connection.execute(f"SET plan_cache_mode = auto; PREPARE explained AS {sql}")
    for _ in range(UNTIL_DECIDED):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(run)
        await transaction.rollback()
    kept = await connection.fetchval("SELECT generic_plans FROM pg_prepared_statements WHERE name = 'explained'")
    await connection.execute("DEALLOCATE explained")
    return found | {"is kept": kept > 0}


def is_read_of_tasks(node: dict[str, Any]) -> bool:
    name: str = node.get("Relation Name", "")
    return "Scan" in node["Node Type"] and re.fullmatch(r"task(_\d\d)?", name) is not None
