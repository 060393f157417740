"""The six task endpoints. Each is one SQL statement, and each statement carries its owner."""
# [Task]: T001, T002, T003, T004, T005, T006, T013, T090 [From]: specs/features/task-crud.md, specs/reliability.md

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response, status

import statements
from auth.access import CurrentUser
from db import Row, fetch_all, fetch_one
from routes.idempotency import PARAMETER, digest_of, read_key, refused
from routes.openapi import json_body, operation_id
from routes.task_route import parse_body
from schemas import (
    TASK,
    TASKS,
    Completed,
    InvalidRequest,
    Limit,
    Offset,
    Problem,
    TaskCreate,
    TaskId,
    TaskPublic,
    TaskUpdate,
)

TaskIdPath = Annotated[TaskId, Path(description="The task's id.")]

TEXT_HEADER: dict[str, Any] = {"schema": {"type": "string"}}

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such task of this user"}}
BAD_BODY: dict[int | str, dict[str, Any]] = {
    408: {"model": Problem, "description": "The body did not arrive in time"},
    413: {"model": Problem, "description": "The body is over 64 KiB"},
    415: {"model": Problem, "description": "The body is not `application/json`"},
}

router = APIRouter(
    prefix="/api/{user_id}/tasks",
    tags=["tasks"],
    generate_unique_id_function=operation_id,
    responses={
        401: {"model": Problem, "description": "No good token", "headers": {"WWW-Authenticate": TEXT_HEADER}},
        403: {"model": Problem, "description": "A good token, but another user's"},
        422: {"model": InvalidRequest, "description": "Wrong in form"},
        500: {"model": Problem, "description": "Unforeseen"},
        503: {
            "model": Problem,
            "description": "The database or the key server is away",
            "headers": {"Retry-After": {"schema": {"type": "integer"}}},
        },
    },
)


def found(row: Row | None) -> Row:
    """The task, or 404: one answer for a task that isn't there and for another user's."""
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "Task not found")
    return row


def answer_task(row: Row, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(TASK.dump_json(row), status_code, media_type="application/json")


@router.get("", response_model=list[TaskPublic])
async def list_tasks(
    request: Request,
    user_id: CurrentUser,
    limit: Annotated[Limit, Query(description="How many tasks at most.")] = 100,
    offset: Annotated[Offset, Query(description="How many tasks to pass over.")] = 0,
    skip: Annotated[Offset, Query(description="Another name for `offset`.")] = 0,
    completed: Annotated[Completed, Query(description="Only these, or only those.")] = None,
) -> Response:
    """The user's tasks, oldest first."""
    page = {"owner": user_id, "limit": limit, "offset": offset or skip}
    if completed is None:
        rows = await fetch_all(request, statements.LIST_TASKS, **page)
    else:
        statement = statements.LIST_TASKS_BY_COMPLETED
        rows = await fetch_all(request, statement, **page, is_completed=completed)
    return Response(TASKS.dump_json(rows), media_type="application/json")


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=TaskPublic,
    responses=BAD_BODY | {201: {"headers": {"Location": TEXT_HEADER, "Idempotency-Replayed": TEXT_HEADER}}},
    openapi_extra=json_body(TaskCreate) | {"parameters": [PARAMETER]},
)
async def create_task(request: Request, user_id: CurrentUser) -> Response:
    """A new task of the user, not completed. `Location` names it. With an `Idempotency-Key` it can
    be sent again, with the same body, until it is answered: it makes one task.
    """
    key = read_key(request)
    body = await parse_body(request, TaskCreate)
    row = await fetch_one(
        request,
        statements.CREATE_TASK,
        owner=user_id,
        new_title=body.title,
        new_description=body.description,
        now=datetime.now(UTC),
        key=key,
        digest=digest_of(body) if key else None,
    )
    if row is None:
        raise refused("The key was used with another body", "idempotency_key_reused")
    response = answer_task(row, status.HTTP_201_CREATED)
    # `--root-path /v1/` stands before the path as it is.
    prefix, path = request.scope.get("root_path", ""), request.scope["path"]
    path = prefix.rstrip("/") + path.removeprefix(prefix)
    response.headers["Location"] = f"{quote(path)}/{row['id']}"
    if row["idempotency_replayed"]:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@router.get("/{task_id}", response_model=TaskPublic, responses=NOT_FOUND)
async def get_task(request: Request, user_id: CurrentUser, task_id: TaskIdPath) -> Response:
    """One task of the user."""
    row = await fetch_one(request, statements.GET_TASK, owner=user_id, task_id=task_id)
    return answer_task(found(row))


@router.put(
    "/{task_id}", response_model=TaskPublic, responses=NOT_FOUND | BAD_BODY, openapi_extra=json_body(TaskUpdate)
)
async def update_task(request: Request, user_id: CurrentUser, task_id: TaskIdPath) -> Response:
    """Changes the fields that are sent; what is absent stays."""
    body = await parse_body(request, TaskUpdate)
    sent = body.model_fields_set
    if sent:
        row = await fetch_one(
            request,
            statements.UPDATE_TASK,
            owner=user_id,
            task_id=task_id,
            new_title=body.title if "title" in sent else None,
            sets_description="description" in sent,
            new_description=body.description,
            new_completed=body.completed if "completed" in sent else None,
            now=datetime.now(UTC),
        )
    else:
        row = await fetch_one(request, statements.GET_TASK, owner=user_id, task_id=task_id)
    return answer_task(found(row))


@router.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
async def delete_task(request: Request, user_id: CurrentUser, task_id: TaskIdPath) -> Response:
    """Deletes one task of the user."""
    found(await fetch_one(request, statements.DELETE_TASK, owner=user_id, task_id=task_id))
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.patch("/{task_id}/complete", response_model=TaskPublic, responses=NOT_FOUND)
async def toggle_task(request: Request, user_id: CurrentUser, task_id: TaskIdPath) -> Response:
    """Flips `completed`. Takes no body."""
    now = datetime.now(UTC)
    row = await fetch_one(request, statements.TOGGLE_TASK, owner=user_id, task_id=task_id, now=now)
    return answer_task(found(row))
