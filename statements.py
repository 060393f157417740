"""All SQL on tasks. Each statement is built once, at import, and names its owner in every WHERE and VALUES, which a
test checks.
"""
# [Task]: T001, T002, T003, T004, T005, T006, T011, T014, T091, T129, T130, T131, T132, T133, T135, T137, T138, T140, T141, T142, T143, T148 [From]: specs/features/task-crud.md, specs/reliability.md, specs/features/live-changes.md

from itertools import product
from typing import Any, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    CompoundSelect,
    Delete,
    LargeBinary,
    Select,
    String,
    Update,
    asc,
    bindparam,
    case,
    cast,
    column,
    delete,
    desc,
    exists,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert  # SQLite's compiler takes it, too
from sqlmodel import UTCDateTime

import models
from backends.functions import is_among, is_read_only, json_each, next_update, sort_title
from schemas import BIGGEST_INTEGER, Order, Sort, TaskPublic

task = models.Task.metadata.tables["task"]
task_list_version = models.Task.metadata.tables["task_list_version"]

owner = bindparam("owner", type_=String)
now = bindparam("now", type_=UTCDateTime())
new_title = bindparam("new_title", type_=String)
new_description = bindparam("new_description", type_=String)
new_completed = bindparam("new_completed", type_=Boolean)
digest = bindparam("digest", type_=LargeBinary)

is_owned = task.c.user_id == owner
is_the_task = is_owned & (task.c.id == bindparam("task_id", type_=BigInteger))

# The columns of a task that clients see.
public = [task.c[name] for name in TaskPublic.__annotations__]

# The version of the owner's list; 0 before its first task.
version = func.coalesce(
    select(task_list_version.c.version).where(task_list_version.c.user_id == owner).scalar_subquery(), 0
).label("version")


def element(name: str) -> ColumnElement[Any]:
    """Each element of a parameter that is a JSON array."""
    return json_each(bindparam(name, type_=String)).table_valued(column("value", JSON)).c.value


# The one statement for several users: exactly those who have a stream open in this worker.
LIST_VERSIONS = select(task_list_version.c.user_id, task_list_version.c.version).where(
    is_among(task_list_version.c.user_id, select(element("users")["id"].as_string()).scalar_subquery())
)

# Filters; one that is absent is null, and costs the plan nothing.
is_completed = bindparam("is_completed", type_=Boolean)
search = bindparam("search", type_=String)
has_status = is_completed.is_(None) | (task.c.completed == is_completed)
is_found = search.is_(None) | or_(
    *(func.strpos(func.lower(text), func.lower(search)) > 0 for text in (task.c.title, task.c.description))
)


def integers(name: str) -> Select[int]:
    """Selects the integers of a parameter that is a JSON array."""
    return select(cast(element(name), BigInteger))


GET_TASK = select(*public).where(is_the_task)

# For `/ready`: reads the columns that requests read, and always returns one row.
LOOK = select(is_read_only().label("is_read_only"), version, *(func.count(one) for one in public)).where(is_the_task)

SORT_KEYS = {"created": task.c.id, "updated": task.c.updated_at, "title": sort_title(task.c.title)}


def list_tasks(sort: Sort, order: Order, *, is_counted: bool) -> Select[Any]:
    """Builds the statement of a page of tasks. It always returns a row, for the version of the list: one without a task
    if there is none, or if the version is one of the `seen`, for which no task is read.
    """
    is_descending = order == "desc"
    directed = desc if is_descending else asc
    key, after_id = SORT_KEYS[sort], bindparam("after_id", type_=BigInteger)
    if sort == "created":
        # Neutral bounds rather than an absent filter, since these make a range of the index.
        above, below = func.coalesce(after_id, 0), func.coalesce(after_id - 1, BIGGEST_INTEGER)
        is_after = task.c.id <= below if is_descending else task.c.id > above
    else:
        place, after = tuple_(key, task.c.id), tuple_(bindparam("after_key", type_=key.type), after_id)
        is_after = after_id.is_(None) | (place < after if is_descending else place > after)
    current = select(version).subquery()
    seen = select(current.c.version, current.c.version.in_(integers("seen")).label("is_seen")).cte("list")
    page = (
        select(*public, key.label("sort_key"))
        .where(is_owned, has_status, is_found, is_after)
        .order_by(directed(key), directed(task.c.id))
        .limit(case((select(seen.c.is_seen).scalar_subquery(), 0), else_=bindparam("limit", type_=BigInteger)))
        .offset(bindparam("offset", type_=BigInteger))
        .subquery("page")
    )
    statement = (
        select(*seen.c, *page.c)
        .select_from(seen.outerjoin(page, true()))
        .order_by(directed(page.c.sort_key), directed(page.c.id))
    )
    if not is_counted:
        return statement
    count = select(func.count()).select_from(task).where(is_owned, has_status, is_found).scalar_subquery()
    return statement.add_columns(case((not_(seen.c.is_seen), count)).label("total"))


# A count that isn't asked for would cost nothing, but Postgres would plan anew each time for fear of it.
LIST_TASKS = {
    (sort, order, is_counted): list_tasks(sort, order, is_counted=is_counted)
    for sort, order, is_counted in product(get_args(Sort), get_args(Order), (False, True))
}

# With a key that the owner has used, this creates nothing and returns that key's task, now marked as replayed, or no
# row if the content differs. Without a key nothing can conflict.
new_task: dict[str, ColumnElement[Any]] = {
    "user_id": owner,
    "title": new_title,
    "description": new_description,
    "completed": new_completed,
    "created_at": now,
    "updated_at": now,
    "idempotency_key": bindparam("key", type_=String),
    "idempotency_digest": digest,
    "idempotency_replayed": false(),
}
# DO NOTHING would return no row; an update waits for a concurrent twin and returns its row.
on_key: dict[str, Any] = {"index_elements": [task.c.user_id, task.c.idempotency_key], "index_where": models.HAS_KEY}
replayed = {"idempotency_replayed": true()}
is_same = task.c.idempotency_digest == literal_column("excluded.idempotency_digest")
CREATE_TASK = (
    insert(task)
    .values(new_task)
    .on_conflict_do_update(**on_key, set_=replayed, where=is_same)
    .returning(*public, task.c.idempotency_replayed)
)


def is_locked(*conditions: ColumnElement[bool], limit: int | None = None) -> ColumnElement[bool]:
    """Selects the owner's tasks, locked in the order of their ids: statements that lock in different orders would wait
    for each other.
    """
    tasks = select(task.c.id).where(is_owned, *conditions).order_by(task.c.id).limit(limit).with_for_update()
    return is_owned & is_among(task.c.id, select(tasks.cte("locked").c.id).scalar_subquery())


# Creates a list of tasks, all or none: if the key came with another list, `completed` is null, which its column
# refuses. The tasks that the key has made are locked first, in the order of their ids, those of a longer list included.
known = (
    select(task.c.idempotency_digest)
    .where(is_owned, task.c.idempotency_key.in_(select(element("keys")["key"].as_string())))
    .order_by(task.c.id)
    .with_for_update()
    .cte("known")
)
fits_key = not_(exists(select(known).where(known.c.idempotency_digest != digest)))
item = element("items")
new_item: dict[str, ColumnElement[Any]] = new_task | {
    "title": item["title"].as_string(),
    "description": item["description"].as_string(),
    "completed": case((fits_key, item["completed"].as_boolean())),
    "idempotency_key": item["key"].as_string(),
}
CREATE_TASKS = (
    insert(task)
    .from_select(list(new_item), select(*new_item.values()).order_by(item["number"].as_integer()))
    .on_conflict_do_update(**on_key, set_=replayed | {"completed": case((is_same, task.c.completed))})
    .returning(*public, task.c.idempotency_key, task.c.idempotency_replayed)
)

later = next_update(now, task.c.updated_at)

# One statement for every subset of fields. A null title or completed means that it wasn't sent; a description, which
# may be set to null, has a flag for that.
UPDATE_TASK = (
    update(task)
    .where(is_the_task)
    .values(
        title=func.coalesce(new_title, task.c.title),
        description=case((bindparam("sets_description", type_=Boolean), new_description), else_=task.c.description),
        completed=func.coalesce(new_completed, task.c.completed),
        updated_at=later,
    )
    .returning(*public)
)

completion: dict[str, Any] = {
    # A null flips it.
    "completed": func.coalesce(new_completed, not_(task.c.completed)),
    "updated_at": case((task.c.completed == new_completed, task.c.updated_at), else_=later),
}
COMPLETE_TASK = update(task).where(is_the_task).values(completion).returning(*public)
is_named = is_among(task.c.id, integers("ids").scalar_subquery())
COMPLETE_TASKS = update(task).where(is_locked(is_named)).values(completion).returning(*public)

DELETE_TASK = delete(task).where(is_the_task).returning(task.c.id, task.c.updated_at)
DELETE_TASKS = delete(task).where(is_locked(is_named)).returning(task.c.id)
CLEAR_TASKS = delete(task).where(is_locked(has_status, limit=1000)).returning(task.c.id)


def if_match(write: Update | Delete) -> CompoundSelect[Any]:
    """Makes a write conditional: done only if the task's `updated_at` is one of the `times`. Its row says whether it
    `is_done`, and is the task's current state if not.

    The row is locked first and the tag is compared with what the lock gave: the statement's own snapshot would show the
    loser of a race what was there before the winner. For Postgres; SQLite has no such CTE, and needs none.
    """
    seen = select(*public).where(is_the_task).with_for_update().cte("seen")
    # JSON, since asyncpg asks the server for the type of an array, once for each connection.
    times = select(cast(element("times")["time"].as_string(), UTCDateTime()))
    done = write.where(select(seen.c.updated_at).scalar_subquery().in_(times)).cte("done")
    return union_all(
        select(*done.c, true().label("is_done")),
        select(*(seen.c[one.name] for one in done.c), false()).where(not_(exists(select(done.c.id)))),
    ).execution_options(is_write=True)


IF_MATCH: dict[Update | Delete, CompoundSelect[Any]] = {
    write: if_match(write) for write in (UPDATE_TASK, COMPLETE_TASK, DELETE_TASK)
}
