"""All SQL on tasks. Each statement is built once, at import, and names its owner in every WHERE and VALUES, which a
test checks.
"""
# [Task]: T001, T002, T003, T004, T005, T006, T011, T014, T091 [From]: specs/features/task-crud.md, specs/reliability.md

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Interval,
    LargeBinary,
    String,
    bindparam,
    case,
    cast,
    delete,
    false,
    func,
    literal_column,
    not_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert  # SQLite's compiler takes it, too
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlmodel import UTCDateTime

import models
from schemas import TaskPublic

task = models.Task.metadata.tables["task"]


class next_update(GenericFunction[Any]):  # noqa: N801 - the name it has in SQL
    """The time of a change: now, but always later than the previous change, even if two run at once or the clock goes
    back.

    SQLite can't count in microseconds, so `backends/sqlite.py` registers a function of this name.
    """

    type = UTCDateTime()
    inherit_cache = True


@compiles(next_update, "postgresql")
def compile_next_update(element: next_update, compiler: SQLCompiler, **kwargs: Any) -> str:
    now, updated_at = element.clauses
    tick = literal_column("INTERVAL '1 microsecond'", Interval)
    return compiler.process(func.greatest(now, updated_at + tick), **kwargs)


class is_read_only(GenericFunction[Any]):  # noqa: N801 - the name it has in SQL
    """Whether the database takes no writes now. On SQLite, `backends/sqlite.py` registers a function of this name."""

    type = Boolean()
    inherit_cache = True


@compiles(is_read_only, "postgresql")
def compile_is_read_only(_element: is_read_only, compiler: SQLCompiler, **kwargs: Any) -> str:
    setting = func.current_setting("transaction_read_only")
    return compiler.process(cast(setting, Boolean), **kwargs)


owner = bindparam("owner", type_=String)
now = bindparam("now", type_=UTCDateTime())
is_owned = task.c.user_id == owner
is_the_task = is_owned & (task.c.id == bindparam("task_id", type_=BigInteger))

# The columns of a task that clients see.
public = [task.c[name] for name in TaskPublic.__annotations__]

GET_TASK = select(*public).where(is_the_task)

# For `/ready`: reads the columns that requests read, and always returns one row.
LOOK = select(is_read_only().label("is_read_only"), *(func.count(column) for column in public)).where(is_the_task)

is_completed = bindparam("is_completed", type_=Boolean)

LIST_TASKS = (
    select(*public)
    # An absent filter costs the plan nothing.
    .where(is_owned, is_completed.is_(None) | (task.c.completed == is_completed))
    .order_by(task.c.id)
    .limit(bindparam("limit", type_=BigInteger))
    .offset(bindparam("offset", type_=BigInteger))
)

# With a key that the owner has used, this creates nothing and returns that key's task, now marked as replayed, or no
# row if the content differs. Without a key nothing can conflict.
CREATE_TASK = (
    insert(task)
    .values(
        user_id=owner,
        title=bindparam("new_title", type_=String),
        description=bindparam("new_description", type_=String),
        completed=False,
        created_at=now,
        updated_at=now,
        idempotency_key=bindparam("key", type_=String),
        idempotency_digest=bindparam("digest", type_=LargeBinary),
        idempotency_replayed=false(),
    )
    .on_conflict_do_update(
        index_elements=[task.c.user_id, task.c.idempotency_key],
        index_where=models.HAS_KEY,
        # DO NOTHING would return no row; an update waits for a concurrent twin and returns its row.
        set_={"idempotency_replayed": true()},
        where=task.c.idempotency_digest == literal_column("excluded.idempotency_digest"),
    )
    .returning(*public, task.c.idempotency_replayed)
)

# One statement for every subset of fields. A null title or completed means that it wasn't sent; a description, which
# may be set to null, has a flag for that.
UPDATE_TASK = (
    update(task)
    .where(is_the_task)
    .values(
        title=func.coalesce(bindparam("new_title", type_=String), task.c.title),
        description=case(
            (bindparam("sets_description", type_=Boolean), bindparam("new_description", type_=String)),
            else_=task.c.description,
        ),
        completed=func.coalesce(bindparam("new_completed", type_=Boolean), task.c.completed),
        updated_at=next_update(now, task.c.updated_at),
    )
    .returning(*public)
)

TOGGLE_TASK = (
    update(task)
    .where(is_the_task)
    .values(completed=not_(task.c.completed), updated_at=next_update(now, task.c.updated_at))
    .returning(*public)
)

DELETE_TASK = delete(task).where(is_the_task).returning(task.c.id)
