"""The floor: the six operations, and lists, conditions and bulk writes, on Starlette and asyncpg, with one check of the
JWT and nothing else. No ORM, no validation, no pool health, no request ids, no log, no answers to what goes wrong.
"""
# [Task]: T083, T146 [From]: specs/performance.md
# ruff: noqa: S608 - every statement is of fixed parts.

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import asyncpg
import jwt
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SECRET = os.environ["BETTER_AUTH_SECRET"]

COLUMNS = "id, user_id, title, description, completed, created_at, updated_at"
GET = f"SELECT {COLUMNS} FROM task WHERE user_id = $1 AND id = $2"
LIST = f"SELECT {COLUMNS} FROM task WHERE user_id = $1 ORDER BY id LIMIT $2 OFFSET $3"
SORTS = {"created": "id", "updated": "updated_at, id", "title": 'lower(title) COLLATE "C", id'}
LISTS = {sort: LIST.replace("ORDER BY id", f"ORDER BY {keys}") for sort, keys in SORTS.items()}
FOUND = "(strpos(lower(title), lower($4)) > 0 OR strpos(lower(description), lower($4)) > 0)"
SEARCHES = {sort: statement.replace("ORDER BY", f"AND {FOUND} ORDER BY") for sort, statement in LISTS.items()}
VERSION = "SELECT version FROM task_list_version WHERE user_id = $1"
CREATE = f"""
    INSERT INTO task (user_id, title, description, completed, created_at, updated_at)
    VALUES ($1, $2, $3, false, $4, $4) RETURNING {COLUMNS}"""
PUT = f"""
    UPDATE task SET title = coalesce($3, title), description = coalesce($4, description),
    completed = coalesce($5, completed),
    updated_at = greatest($6, updated_at + interval '1 microsecond')
    WHERE user_id = $1 AND id = $2 RETURNING {COLUMNS}"""
PUT_IF = PUT.replace("RETURNING", "AND updated_at = $7 RETURNING")
TOGGLE = f"""
    UPDATE task SET completed = NOT completed,
    updated_at = greatest($3, updated_at + interval '1 microsecond')
    WHERE user_id = $1 AND id = $2 RETURNING {COLUMNS}"""
DELETE = "DELETE FROM task WHERE user_id = $1 AND id = $2 RETURNING id"
CREATE_MANY = f"""
    INSERT INTO task (user_id, title, description, completed, created_at, updated_at)
    SELECT $1, *, $5, $5 FROM unnest($2::text[], $3::text[], $4::bool[]) RETURNING {COLUMNS}"""
COMPLETE_MANY = f"""
    UPDATE task SET completed = $3, updated_at = greatest($4, updated_at + interval '1 microsecond')
    WHERE user_id = $1 AND id = ANY($2) RETURNING {COLUMNS}"""
CLEAR = "DELETE FROM task WHERE user_id = $1 AND completed = $2 RETURNING id"


async def keep(_connection: asyncpg.Connection) -> None:
    """asyncpg's own way to reset a connection costs a round trip."""


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    url = os.environ["DATABASE_URL"]
    async with asyncpg.create_pool(url, min_size=10, max_size=10, reset=keep) as pool:
        app.state.pool = pool
        yield


def owner_of(request: Request) -> str:
    token = request.headers["authorization"].removeprefix("Bearer ")
    user_id: str = jwt.decode(token, SECRET, ["HS256"])["sub"]
    if user_id != request.path_params["user_id"]:
        raise HTTPException(403)
    return user_id


async def fetch(request: Request, statement: str, *values: Any) -> list[Any]:
    pool: asyncpg.Pool = request.app.state.pool
    rows: list[Any] = await pool.fetch(statement, owner_of(request), *values)
    return rows


def answer(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status)


def as_json(row: asyncpg.Record) -> dict[str, Any]:
    times = ("created_at", "updated_at")
    return dict(row) | {name: row[name].isoformat().replace("+00:00", "Z") for name in times}


def answer_one(rows: list[Any], status: int = 200) -> Response:
    if not rows:
        return answer({"detail": "Task not found"}, 404)
    return answer(as_json(rows[0]), status)


def task_id(request: Request) -> int:
    return int(request.path_params["task_id"])


def tag_of(task: asyncpg.Record) -> str:
    return f'"{task["updated_at"].isoformat().replace("+00:00", "Z")}"'


async def list_tasks(request: Request) -> Response:
    headers = {}
    if known := request.headers.get("if-none-match"):
        (row,) = await fetch(request, VERSION)
        headers["ETag"] = f'W/"{row["version"]}"'
        if known == headers["ETag"]:
            return Response(status_code=304, headers=headers)
    query = request.query_params
    sort, search = query.get("sort", "created"), query.get("search")
    page = int(query.get("limit", "100")), int(query.get("offset", "0"))
    if search:
        rows = await fetch(request, SEARCHES[sort], *page, search)
    else:
        rows = await fetch(request, LISTS[sort], *page)
    response = answer([as_json(row) for row in rows])
    response.headers.update(headers)
    return response


async def create_task(request: Request) -> Response:
    body = await request.json()
    values = body["title"], body.get("description"), datetime.now(UTC)
    return answer_one(await fetch(request, CREATE, *values), 201)


async def create_tasks(request: Request) -> Response:
    tasks = (await request.json())["tasks"]
    columns = [[task.get(name) for task in tasks] for name in ("title", "description", "completed")]
    return answer([as_json(row) for row in await fetch(request, CREATE_MANY, *columns, datetime.now(UTC))], 201)


async def complete_tasks(request: Request) -> Response:
    body = await request.json()
    rows = await fetch(request, COMPLETE_MANY, body["ids"], body["completed"], datetime.now(UTC))
    return answer([as_json(row) for row in sorted(rows, key=itemgetter("id"))])


async def clear_tasks(request: Request) -> Response:
    rows = await fetch(request, CLEAR, request.query_params["status"] == "completed")
    return answer({"ids": sorted(row["id"] for row in rows)})


async def get_task(request: Request) -> Response:
    rows = await fetch(request, GET, task_id(request))
    if (known := request.headers.get("if-none-match")) and rows and known == tag_of(rows[0]):
        return Response(status_code=304, headers={"ETag": known})
    return answer_one(rows)


async def put_task(request: Request) -> Response:
    body = await request.json()
    values = body.get("title"), body.get("description"), body.get("completed"), datetime.now(UTC)
    if tag := request.headers.get("if-match"):
        return answer_one(
            await fetch(request, PUT_IF, task_id(request), *values, datetime.fromisoformat(tag.strip('"')))
        )
    return answer_one(await fetch(request, PUT, task_id(request), *values))


async def toggle_task(request: Request) -> Response:
    return answer_one(await fetch(request, TOGGLE, task_id(request), datetime.now(UTC)))


async def delete_task(request: Request) -> Response:
    deleted = await fetch(request, DELETE, task_id(request))
    return Response(status_code=204) if deleted else answer_one(deleted)


TASKS = "/api/{user_id}/tasks"
TASK = TASKS + "/{task_id}"
app = Starlette(
    lifespan=lifespan,
    routes=[
        Route(TASKS, list_tasks),
        Route(TASKS, create_task, methods=["POST"]),
        Route(TASKS, clear_tasks, methods=["DELETE"]),
        Route(TASKS + "/bulk", create_tasks, methods=["POST"]),
        Route(TASKS + "/bulk", complete_tasks, methods=["PATCH"]),
        Route(TASK, get_task),
        Route(TASK, put_task, methods=["PUT"]),
        Route(TASK, delete_task, methods=["DELETE"]),
        Route(TASK + "/complete", toggle_task, methods=["PATCH"]),
    ],
)
