"""Each statement has its owner, and time never goes back."""
# [Task]: T011, T014, T084, T148 [From]: specs/features/task-crud.md, specs/performance.md, specs/features/live-changes.md

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import asyncpg
import pytest
from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Delete,
    FromClause,
    Insert,
    Join,
    Select,
    Table,
    Update,
    not_,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnElement

import statements
from backends.functions import is_among
from backends.postgres import compile_sql, reads_only
from db import Database, create_engine
from logs import request_id
from migrations import upgrade_schema
from schemas import Order, Sort
from statements import owner, task, task_list_version
from tests.databases import MakeDatabase
from tests.service import TASK_STATEMENTS, Service, User, check_statement, make_settings


def conjuncts(clause: ColumnElement[bool] | None) -> Iterator[ColumnElement[bool]]:
    """The conditions that must all hold."""
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from conjuncts(part)
    elif clause is not None:
        yield clause


def tables_of(source: FromClause) -> Iterator[Table]:
    """The tables that a part of a statement reads itself, not by a part of its own."""
    if isinstance(source, Join):
        yield from tables_of(source.left)
        yield from tables_of(source.right)
    elif isinstance(source, Table):
        yield source


def asks_for_owner(table: Table, condition: ColumnElement[bool]) -> bool:
    return (
        isinstance(condition, BinaryExpression)
        and condition.operator is operators.eq
        and condition.left is table.c.user_id
        and condition.right is owner
    )


def part_names_owner(part: Any) -> bool:
    values: dict[Any, Any] = dict(getattr(part, "_values", None) or {})
    if isinstance(part, Insert):
        if part.select is not None:
            values = dict(zip(part._select_names or (), part.select.selected_columns, strict=True))
        # An existing row is returned, too.
        conflict = getattr(part, "_post_values_clause", None)
        is_own = conflict is None or task.c.user_id in (conflict.inferred_target_elements or ())
        return values.get("user_id") is owner and is_own
    sources = part.get_final_froms() if isinstance(part, Select) else [part.table]
    # No task changes its owner.
    return "user_id" not in {getattr(column, "name", column) for column in values} and all(
        any(asks_for_owner(table, condition) for condition in conjuncts(part.whereclause))
        for source in sources
        for table in tables_of(source)
    )


def names_its_owner(statement: Any) -> bool:
    """Whether each part of a statement that reads or writes a table is for the owner alone."""
    parts = [one for one in visitors.iterate(statement) if isinstance(one, Select | Insert | Update | Delete)]
    return bool(parts) and all(map(part_names_owner, parts))


@pytest.mark.requirement("T014")
@pytest.mark.parametrize("name", [name for name in TASK_STATEMENTS if name != "LIST_VERSIONS"])
def test_each_statement_carries_its_owner(name: str) -> None:
    statement = TASK_STATEMENTS[name]
    assert names_its_owner(statement)
    # SQLAlchemy compiles it once.
    assert statement._generate_cache_key() is not None
    tables = {node for node in visitors.iterate(statement) if node.__visit_name__ == "table"}
    assert {task} <= tables <= {task, task_list_version}


def names_its_users(statement: Any) -> bool:
    """Whether a statement reads versions of lists alone, and only those of the parameter `users`."""
    tables = {node for node in visitors.iterate(statement) if node.__visit_name__ == "table"}
    match list(conjuncts(statement.whereclause)):
        case [is_among(clauses=clauses)]:
            column, users = clauses
            is_of_users = column is task_list_version.c.user_id and users.element.whereclause is None
            return is_of_users and tables == {task_list_version} and parameters_of(users) == {"users"}
    return False


def parameters_of(clause: ClauseElement) -> set[str]:
    """The names of the parameters, without values that are part of the statement."""
    return {node.key for node in visitors.iterate(clause) if isinstance(node, BindParameter) and node.required}


@pytest.mark.requirement("T148")
def test_the_one_statement_for_several_users_names_them() -> None:
    statement, versions = statements.LIST_VERSIONS, select(task_list_version)
    condition = statement.whereclause
    assert condition is not None

    assert names_its_users(statement)
    assert statement._generate_cache_key() is not None
    user_id, others = task_list_version.c.user_id, select(statements.element("others")).scalar_subquery()
    for other in (
        versions,
        select(task.c.title).where(condition),
        statement.add_columns(task.c.title),
        versions.where(or_(true(), condition)),
        versions.where(not_(condition)),
        versions.where(is_among(task_list_version.c.version, condition.clauses.clauses[1])),
        versions.where(is_among(user_id, select(task.c.user_id).scalar_subquery())),
        versions.where(is_among(user_id, others)),
    ):
        assert not names_its_users(other)


@pytest.mark.requirement("T088", "T137")
@pytest.mark.parametrize("name", TASK_STATEMENTS)
def test_a_statement_that_writes_is_not_taken_for_a_read(name: str) -> None:
    statement = TASK_STATEMENTS[name]
    writes = any(isinstance(node, Insert | Update | Delete) for node in visitors.iterate(statement))

    assert reads_only(statement) == (not writes)


@pytest.mark.requirement("T014")
def test_the_check_of_owners_can_fail() -> None:
    any_task = task.c.id == 1

    assert not names_its_owner(task.select().where(any_task))
    assert not names_its_owner(task.select().where(any_task | (task.c.user_id == owner)))
    assert not names_its_owner(task.select().where(task.c.user_id == "somebody"))
    assert not names_its_owner(task.update().values(user_id=owner))
    assert not names_its_owner(statements.COMPLETE_TASK.values(user_id="somebody"))
    assert not names_its_owner(task.insert().values(title="x"))
    upsert = insert(task).values(user_id=owner)
    of_anyone = upsert.on_conflict_do_nothing(index_elements=[task.c.idempotency_key])
    assert not names_its_owner(of_anyone)
    assert not names_its_owner(upsert.on_conflict_do_nothing())
    assert not names_its_owner(task.delete())
    anyones = select(task.c.id).where(any_task)
    mine = task.c.user_id == owner
    assert not names_its_owner(select(task.c.id).where(mine, task.c.id.in_(anyones)))
    assert not names_its_owner(task.update().where(mine, task.c.id.in_(select(anyones.cte().c.id))))
    assert not names_its_owner(select(anyones.subquery()))
    assert not names_its_owner(select(task.c.id).where(mine).limit(anyones.scalar_subquery()))
    assert not names_its_owner(union_all(select(task.c.id).where(mine), anyones))
    assert not names_its_owner(insert(task).from_select(["user_id"], select(task.c.user_id).where(mine)))
    assert not names_its_owner(select(task_list_version.c.version, task.c.id).where(mine))


@pytest.mark.requirement("T014")
def test_all_statements_are_walked() -> None:
    assert set(TASK_STATEMENTS) == {
        *("GET_TASK", "CREATE_TASK", "UPDATE_TASK", "COMPLETE_TASK", "DELETE_TASK", "LOOK"),
        *("CREATE_TASKS", "COMPLETE_TASKS", "DELETE_TASKS", "CLEAR_TASKS", "LIST_VERSIONS"),
        *(f"LIST_TASKS {number}" for number in range(2 * len(get_args(Sort)) * len(get_args(Order)))),
        *(f"IF_MATCH {number}" for number in range(3)),
    }


@pytest.mark.requirement("T014")
def test_the_check_of_what_runs_can_fail() -> None:
    check_statement(None, task.select())  # of a test, in no request
    reset = request_id.set("mine")
    try:
        for statement in (*TASK_STATEMENTS.values(), select(1)):
            check_statement(None, statement)
        for other in (task.select(), select(task.c.title).where(task.c.id == 1), text("x")):
            with pytest.raises(AssertionError):
                check_statement(None, other)
    finally:
        request_id.reset(reset)


def nodes_of(plan: dict[str, Any]) -> Iterator[str]:
    table = {"task": " of tasks", "task_list_version": " of versions"}.get(plan.get("Relation Name", ""), "")
    yield plan["Node Type"] + table
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


@pytest.mark.requirement("T084")
async def test_each_statement_finds_its_rows_by_an_index(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    settings = make_settings(database_url=url)
    await upgrade_schema(settings)
    values = {"owner": "user 5", "task_id": 5, "limit": 100, "offset": 0, "is_completed": True}
    values |= {"new_title": "x", "new_description": None, "new_completed": None}
    values |= {"sets_description": False, "now": datetime.now(UTC), "key": "k", "digest": b"d"}
    values |= {"search": None, "after_id": None, "after_key": None, "seen": "[]", "times": "[]"}
    values |= {
        "ids": "[5, 105]",
        "items": '[{"number": 0, "title": "x", "completed": false, "key": "k 0"}]',
        "keys": '[{"key": "k 0"}]',
        "users": '[{"id": "user 5"}]',
    }
    dialect = create_engine(settings).dialect
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO task (user_id, title, completed, created_at, updated_at)"
            " SELECT 'user ' || i % 100, 'x', i % 2 = 0, now(), now()"
            " FROM generate_series(1, 50000) AS i"
        )
        await connection.execute(
            "INSERT INTO task_list_version SELECT 'nobody ' || i, i FROM generate_series(1, 20000) AS i"
        )
        await connection.execute("ANALYZE task, task_list_version")
        for mode in ("force_custom_plan", "force_generic_plan"):
            await connection.execute(f"SET plan_cache_mode = {mode}")
            for name, statement in TASK_STATEMENTS.items():
                sql, names, own = compile_sql(statement, dialect)
                arguments = own | values
                plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *(arguments[one] for one in names))
                nodes = set(nodes_of(json.loads(plan)[0]["Plan"]))
                assert not nodes & {"Seq Scan of tasks", "Seq Scan of versions"}, (name, mode)
                table = "versions" if name == "LIST_VERSIONS" else "tasks"
                found = {f"Index Scan of {table}", f"Bitmap Heap Scan of {table}"}
                assert name.startswith("CREATE_TASK") or nodes & found, (name, mode)
    finally:
        await connection.close()


@pytest.mark.requirement("T137", "T146")
async def test_no_statement_makes_the_driver_ask_for_a_type(make_database: MakeDatabase) -> None:
    """The driver asks for any but the simple types by statements of its own, and between preparing and running one of
    ours, where a pooler may change the connection.
    """
    url = await make_database("postgresql")
    settings = make_settings(database_url=url)
    await upgrade_schema(settings)
    dialect = create_engine(settings).dialect
    connection = await asyncpg.connect(url)
    try:
        for name, statement in TASK_STATEMENTS.items():
            prepared = await connection.prepare(compile_sql(statement, dialect)[0])
            types = (*prepared.get_parameters(), *(column.type for column in prepared.get_attributes()))
            assert {type_.kind for type_ in types} == {"scalar"}, name
    finally:
        await connection.close()


@pytest.mark.requirement("T011")
async def test_time_moves_even_where_the_clock_goes_back(service: Service, alice: User) -> None:
    database: Database = service.app.state.database
    created = await alice.new_task()
    before = datetime.fromisoformat(created["updated_at"])

    for clock in (before - timedelta(days=1), before, before):
        (row,) = await database.fetch(
            statements.COMPLETE_TASK, {"owner": alice.id, "task_id": created["id"], "new_completed": None, "now": clock}
        )
        assert row["updated_at"] == before + timedelta(microseconds=1)
        before = row["updated_at"]

    later = datetime(2300, 1, 1, tzinfo=UTC)
    (row,) = await database.fetch(
        statements.COMPLETE_TASK, {"owner": alice.id, "task_id": created["id"], "new_completed": None, "now": later}
    )
    assert row["updated_at"] == later
    assert row["created_at"] == datetime.fromisoformat(created["created_at"])


@pytest.mark.requirement("T011")
async def test_time_moves_with_each_of_concurrent_changes(alice: User) -> None:
    task_id = (await alice.new_task())["id"]

    answers = await asyncio.gather(*(alice.put(task_id, {"title": f"Title {number}"}) for number in range(20)))

    times = sorted(answer.json()["updated_at"] for answer in answers)
    assert len(set(times)) == 20
    assert (await alice.get(f"/{task_id}")).json()["updated_at"] == times[-1]
