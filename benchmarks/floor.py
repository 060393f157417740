"""The floor: the six operations on Starlette and asyncpg, with one check of the JWT and nothing
else. No ORM, no validation, no pool health, no request ids, no log, no answers to what goes wrong.
"""
# [Task]: T083 [From]: specs/performance.md
# ruff: noqa: S608 - every statement is of fixed parts.

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
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
CREATE = f"""
    INSERT INTO task (user_id, title, description, completed, created_at, updated_at)
    VALUES ($1, $2, $3, false, $4, $4) RETURNING {COLUMNS}"""
PUT = f"""
    UPDATE task SET title = coalesce($3, title), description = coalesce($4, description),
    completed = coalesce($5, completed),
    updated_at = greatest($6, updated_at + interval '1 microsecond')
    WHERE user_id = $1 AND id = $2 RETURNING {COLUMNS}"""
TOGGLE = f"""
    UPDATE task SET completed = NOT completed,
    updated_at = greatest($3, updated_at + interval '1 microsecond')
    WHERE user_id = $1 AND id = $2 RETURNING {COLUMNS}"""
DELETE = "DELETE FROM task WHERE user_id = $1 AND id = $2 RETURNING id"


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


async def list_tasks(request: Request) -> Response:
    query = request.query_params
    page = int(query.get("limit", "100")), int(query.get("offset", "0"))
    return answer([as_json(row) for row in await fetch(request, LIST, *page)])


async def create_task(request: Request) -> Response:
    body = await request.json()
    values = body["title"], body.get("description"), datetime.now(UTC)
    return answer_one(await fetch(request, CREATE, *values), 201)


async def get_task(request: Request) -> Response:
    return answer_one(await fetch(request, GET, task_id(request)))


async def put_task(request: Request) -> Response:
    body = await request.json()
    values = body.get("title"), body.get("description"), body.get("completed"), datetime.now(UTC)
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
        Route(TASK, get_task),
        Route(TASK, put_task, methods=["PUT"]),
        Route(TASK, delete_task, methods=["DELETE"]),
        Route(TASK + "/complete", toggle_task, methods=["PATCH"]),
    ],
)
