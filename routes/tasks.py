"""The task endpoints. Each runs one SQL statement with the user as its owner."""
# [Task]: T001, T002, T003, T004, T005, T006, T013, T090 [From]: specs/features/task-crud.md, specs/reliability.md

from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Query, Response, status
from pydantic import MISSING

import statements
from auth.access import CurrentUser
from db import Row
from routes.idempotency import PARAMETER, digest_of, refused
from routes.task_route import TEXT_HEADER, TaskRoute, VerifiedRequest
from schemas import TASK, TASKS, Completed, Limit, Offset, TaskCreate, TaskId, TaskPublic, TaskUpdate

EXPOSED_HEADERS = ("Location", "Idempotency-Replayed")

TaskIdPath = Annotated[TaskId, Path(description="The task's id.")]

router = APIRouter(
    prefix="/api/{user_id}/tasks", tags=["tasks"], route_class=TaskRoute, generate_unique_id_function=attrgetter("name")
)


def or_404(row: Row | None) -> Row:
    """Returns the row, or answers 404, whether the task doesn't exist or is another user's."""
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "Task not found")
    return row


def task_response(row: Row | None, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(TASK.dump_json(or_404(row)), status_code, media_type="application/json")


@router.get("", response_model=list[TaskPublic])
async def list_tasks(
    user: CurrentUser,
    limit: Annotated[Limit, Query(description="How many tasks at most.")] = 100,
    offset: Annotated[Offset, Query(description="How many tasks to pass over.")] = 0,
    skip: Annotated[Offset, Query(description="Another name for `offset`.")] = 0,
    completed: Annotated[Completed, Query(description="Only these, or only those.")] = None,
) -> Response:
    """The user's tasks, oldest first."""
    rows = await user.all(statements.LIST_TASKS, is_completed=completed, limit=limit, offset=offset or skip)
    return Response(TASKS.dump_json(rows), media_type="application/json")


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=TaskPublic,
    responses={201: {"headers": dict.fromkeys(EXPOSED_HEADERS, TEXT_HEADER)}},
    openapi_extra={"parameters": [PARAMETER]},
)
async def create_task(request: VerifiedRequest, user: CurrentUser, task: TaskCreate) -> Response:
    """A new task of the user, not completed. `Location` names it. With an `Idempotency-Key` it can be sent again, with
    the same body, until it is answered: it makes one task.
    """
    key = request.idempotency_key
    row = await user.one(
        statements.CREATE_TASK,
        new_title=task.title,
        new_description=task.description,
        now=datetime.now(UTC),
        key=key,
        digest=digest_of(task) if key else None,
    )
    if row is None:
        raise refused("The key was used with another body", "idempotency_key_reused")
    response = task_response(row, status.HTTP_201_CREATED)
    # The path already begins with the root path, which may end in a slash (`--root-path /v1/`).
    prefix, path = request.scope.get("root_path", ""), request.scope["path"]
    response.headers["Location"] = f"{quote(prefix.rstrip('/') + path.removeprefix(prefix))}/{row['id']}"
    if row["idempotency_replayed"]:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@router.get("/{task_id}", response_model=TaskPublic)
async def get_task(user: CurrentUser, task_id: TaskIdPath) -> Response:
    """One task of the user."""
    return task_response(await user.one(statements.GET_TASK, task_id=task_id))


@router.put("/{task_id}", response_model=TaskPublic)
async def update_task(user: CurrentUser, task_id: TaskIdPath, task: TaskUpdate) -> Response:
    """Changes the fields that are sent; what is absent stays."""
    if not task.model_fields_set:
        return task_response(await user.one(statements.GET_TASK, task_id=task_id))
    row = await user.one(
        statements.UPDATE_TASK,
        task_id=task_id,
        new_title=None if task.title is MISSING else task.title,
        sets_description=task.description is not MISSING,
        new_description=None if task.description is MISSING else task.description,
        new_completed=None if task.completed is MISSING else task.completed,
        now=datetime.now(UTC),
    )
    return task_response(row)


@router.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_task(user: CurrentUser, task_id: TaskIdPath) -> Response:
    """Deletes one task of the user."""
    or_404(await user.one(statements.DELETE_TASK, task_id=task_id))
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.patch("/{task_id}/complete", response_model=TaskPublic)
async def toggle_task(user: CurrentUser, task_id: TaskIdPath) -> Response:
    """Flips `completed`. Takes no body."""
    return task_response(await user.one(statements.TOGGLE_TASK, task_id=task_id, now=datetime.now(UTC)))
