"""The task endpoints. Each runs one SQL statement with the user as its owner."""
# [Task]: T001, T002, T003, T004, T005, T006, T013, T090, T129, T130, T131, T132, T133, T135, T136, T137, T138, T139, T140, T141, T142 [From]: specs/features/task-crud.md, specs/reliability.md

import json
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response, status
from fastapi.responses import JSONResponse
from pydantic import MISSING

import statements
from auth.access import CurrentUser
from backends.faults import NullRefused
from db import Row
from errors import invalid_request
from routes import conditional, paging
from routes.conditional import (
    ANY,
    check_tag,
    list_tag,
    or_404,
    read_if_match,
    read_tags,
    run_if_match,
    seen_versions,
    tag_of,
)
from routes.idempotency import digest_of, documented, item_keys, item_number, reused
from routes.openapi import query_parameters
from routes.paging import next_link, path_of, read_cursor
from routes.query import read_query
from routes.task_route import TaskRoute, VerifiedRequest
from schemas import (
    TASK,
    TASKS,
    DeletedTasks,
    DeleteQuery,
    ListQuery,
    TaskComplete,
    TaskCreate,
    TaskId,
    TaskPublic,
    TasksComplete,
    TasksCreate,
    TaskUpdate,
)

PathId = Annotated[TaskId, Path(description="The task's id.")]

router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"], route_class=TaskRoute)

FLIP = TaskComplete()


def task_response(row: Row, status_code: int = status.HTTP_200_OK) -> Response:
    headers = {"ETag": tag_of(row["updated_at"])}
    return Response(TASK.dump_json(row), status_code, headers, media_type="application/json")


def new_values(fields: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a statement for the fields of a task; what is absent is null."""
    return {f"new_{name}": fields.get(name) for name in TaskUpdate.model_fields}


@router.get("", response_model=list[TaskPublic], **paging.DOCUMENTED)
async def list_tasks(request: Request, user: CurrentUser) -> Response:
    """The user's tasks, page by page: `Link` names the next page as long as there is one."""
    query = read_query(request, ListQuery)
    tags = read_tags(request, "if-none-match")
    rows = await user.all(
        statements.LIST_TASKS[query.sort, query.order, query.count and tags != ANY],
        is_completed=query.is_completed,
        search=query.search or None,
        limit=0 if tags == ANY else query.limit + 1,
        offset=query.first,
        seen=json.dumps(seen_versions(user, tags)),
        **read_cursor(query),
    )
    headers = {"ETag": list_tag(user, rows[0]["version"])}
    if tags == ANY or rows[0]["is_seen"]:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    if query.count:
        headers["X-Total-Count"] = str(rows[0]["total"])
    if len(rows) > query.limit:
        headers["Link"] = next_link(request, query, rows[query.limit - 1])
    # The only row may be there for the version alone.
    tasks = rows[: query.limit] if rows[0]["id"] else []
    return Response(TASKS.dump_json(tasks), headers=headers, media_type="application/json")


@router.post("", status_code=status.HTTP_201_CREATED, response_model=TaskPublic, **documented("Location", "ETag"))
async def create_task(request: VerifiedRequest, user: CurrentUser, task: TaskCreate) -> Response:
    """A new task of the user, whose path is `Location`. With an `Idempotency-Key`, the request can be repeated with the
    same body until it is answered, and creates one task.
    """
    key = request.idempotency_key
    new = new_values(dict(task)) | {"key": key, "digest": digest_of(task) if key else None}
    row = await user.one(statements.CREATE_TASK, **new, now=datetime.now(UTC))
    if row is None:
        raise reused()
    response = task_response(row, status.HTTP_201_CREATED)
    response.headers["Location"] = f"{path_of(request)}/{row['id']}"
    if row["idempotency_replayed"]:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@router.get("/{task_id}", response_model=TaskPublic, **conditional.READ)
async def get_task(request: Request, user: CurrentUser, task_id: PathId) -> Response:
    """One task of the user."""
    row = or_404(await user.one(statements.GET_TASK, task_id=task_id))
    tag, tags = tag_of(row["updated_at"]), read_tags(request, "if-none-match")
    if tags == ANY or tag in tags:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": tag})
    return task_response(row)


@router.put("/{task_id}", response_model=TaskPublic, **conditional.CHANGE)
@router.patch("/{task_id}", name="patch_task", response_model=TaskPublic, **conditional.CHANGE)
async def update_task(request: Request, user: CurrentUser, task_id: PathId, task: TaskUpdate) -> Response:
    """Changes the fields that are sent; what is absent stays."""
    sent = task.model_dump()
    if not sent:
        times = read_if_match(request)
        return task_response(check_tag(await user.one(statements.GET_TASK, task_id=task_id), times))
    new = new_values(sent) | {"sets_description": "description" in sent, "now": datetime.now(UTC)}
    return task_response(await run_if_match(user, statements.UPDATE_TASK, request, task_id=task_id, **new))


@router.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT, **conditional.DELETION)
async def delete_task(request: Request, user: CurrentUser, task_id: PathId) -> Response:
    """Deletes one task of the user."""
    await run_if_match(user, statements.DELETE_TASK, request, task_id=task_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.patch("/{task_id}/complete", response_model=TaskPublic, **conditional.CHANGE)
async def complete_task(request: Request, user: CurrentUser, task_id: PathId, content: TaskComplete = FLIP) -> Response:
    """Sets `completed`, which can be sent again, or flips it if it isn't sent."""
    new = {"new_completed": content.model_dump().get("completed"), "now": datetime.now(UTC)}
    return task_response(await run_if_match(user, statements.COMPLETE_TASK, request, task_id=task_id, **new))


@router.delete("", response_model=DeletedTasks, openapi_extra={"parameters": query_parameters(DeleteQuery)})
async def delete_tasks(request: Request, user: CurrentUser) -> Response:
    """Deletes the tasks of a `status`, oldest first and at most 1000, or those of some `ids`. Fewer than 1000 in the
    answer means that none are left.
    """
    query = read_query(request, DeleteQuery)
    if query.ids is not MISSING:
        rows = await user.all(statements.DELETE_TASKS, ids=json.dumps(query.ids))
    elif query.model_fields_set:
        rows = await user.all(statements.CLEAR_TASKS, is_completed=query.is_completed)
    else:
        raise invalid_request(("query", "status"), "One of status, completed and ids is needed", "missing")
    return JSONResponse({"ids": sorted(row["id"] for row in rows)})


@router.post("/bulk", status_code=status.HTTP_201_CREATED, response_model=list[TaskPublic], **documented())
async def create_tasks(request: VerifiedRequest, user: CurrentUser, content: TasksCreate) -> Response:
    """New tasks of the user, all or none, answered in the order sent. With an `Idempotency-Key` the list can be sent
    again, like a single task.
    """
    key = request.idempotency_key
    keys = item_keys(key) if key else []
    tasks = enumerate(content.tasks)
    items = [dict(task) | {"number": number, "key": keys[number] if key else None} for number, task in tasks]
    lists = {"items": json.dumps(items), "keys": json.dumps([{"key": one} for one in keys])}
    digest = digest_of(content) if key else None
    try:
        rows = await user.all(statements.CREATE_TASKS, **lists, digest=digest, now=datetime.now(UTC))
    except NullRefused:
        raise reused() from None
    # The id of an item that was made anew is out of order.
    rows.sort(key=lambda row: item_number(row["idempotency_key"]) if key else row["id"])
    headers = {"Idempotency-Replayed": "true"} if any(row["idempotency_replayed"] for row in rows) else None
    return Response(TASKS.dump_json(rows), status.HTTP_201_CREATED, headers, media_type="application/json")


@router.patch("/bulk", response_model=list[TaskPublic])
async def complete_tasks(user: CurrentUser, content: TasksComplete) -> Response:
    """Sets `completed` of those `ids` that are the user's tasks, and returns them in ascending order of id."""
    new = {"new_completed": content.completed, "now": datetime.now(UTC)}
    rows = await user.all(statements.COMPLETE_TASKS, ids=json.dumps(content.ids), **new)
    rows.sort(key=itemgetter("id"))
    return Response(TASKS.dump_json(rows), media_type="application/json")
