"""Entity tags, and requests that depend on them (RFC 9110, sections 8.8.3 and 13.1)."""
# [Task]: T136, T137 [From]: specs/features/task-crud.md

import json
import re
from datetime import datetime, timedelta
from typing import Annotated, Any
from zlib import crc32

from fastapi import HTTPException, Request, status
from pydantic import AfterValidator, TypeAdapter
from sqlalchemy import Delete, Update

import statements
from auth.access import UserDatabase
from db import Row
from errors import invalid_request
from routes.openapi import TEXT_HEADER, header_parameter, problem

ETAG = {"headers": {"ETag": TEXT_HEADER}}


IF_NONE_MATCH = header_parameter("If-None-Match", "Entity tags: with one that is still current, the answer is 304.")
IF_MATCH = header_parameter(
    "If-Match", "Entity tags, at most 16: the request is done only if one of them is the task's."
)
READ: dict[str, Any] = {
    "responses": {200: ETAG, 304: {"description": "Unchanged", **ETAG}},
    "openapi_extra": {"parameters": [IF_NONE_MATCH]},
}
REFUSAL = {412: problem("The task has changed; `ETag` is its current tag", **ETAG)}
CHANGE: dict[str, Any] = {"responses": {200: ETAG, **REFUSAL}, "openapi_extra": {"parameters": [IF_MATCH]}}
DELETION: dict[str, Any] = CHANGE | {"responses": REFUSAL}
TAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')
VERSION = re.compile("0|[1-9][0-9]{,17}")
MOST_TAGS = 16
ANY = ["*"]


def in_utc(time: datetime) -> datetime:
    if time.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return time


Time = Annotated[datetime, AfterValidator(in_utc)]
TIME: TypeAdapter[datetime] = TypeAdapter(Time)


def tag_of(updated_at: datetime) -> str:
    """The entity tag of a task: its `updated_at`, as it is in the JSON."""
    return TIME.dump_json(updated_at).decode()


def read_tags(request: Request, header: str) -> list[str]:
    """Reads a list of tags, each without its `W/`, or `ANY`. Anything but such a list has none."""
    text = ",".join(request.headers.getlist(header)).strip(" \t")
    if text in {"", "*"}:
        return ANY if text else []
    separators = TAG.split(text)
    is_list = not any(one.strip(" \t,") for one in separators) and all("," in one for one in separators[1:-1])
    return [tag.removeprefix("W/") for tag in TAG.findall(text)] if is_list else []


def list_tag(user: UserDatabase, version: int) -> str:
    """The entity tag of a user's list, which differs from all other users': a browser may have kept the answer that
    another user got at the same `/api/tasks`.
    """
    return f'W/"{mark_of(user)}{version}"'


def mark_of(user: UserDatabase) -> str:
    return f"{crc32(user.user_id.encode()):08x}-"


def seen_versions(user: UserDatabase, tags: list[str]) -> list[int]:
    """Returns the versions of the list that these tags name."""
    marks = [tag.strip('"').partition(mark_of(user)) for tag in tags]
    return [int(version) for before, mark, version in marks if mark and not before and VERSION.fullmatch(version)]


def read_if_match(request: Request) -> list[datetime] | None:
    """Reads which `updated_at` the task may have, or None for any. Raises `RequestValidationError` for anything but a
    list of 1 to 16 tags.
    """
    if "if-match" not in request.headers:
        return None
    tags = read_tags(request, "if-match")
    if not 1 <= len(tags) <= MOST_TAGS:
        raise invalid_request(("header", "If-Match"), f"Should be * or 1 to {MOST_TAGS} entity tags", "entity_tags")
    return None if tags == ANY else [time for tag in tags if (time := read_time(tag))]


def read_time(tag: str) -> datetime | None:
    """Reads a tag of ours. Any other is None, and matches no task."""
    try:
        time = TIME.validate_json(tag)
    except ValueError:
        return None
    return time if tag_of(time) == tag else None


async def run_if_match(user: UserDatabase, write: Update | Delete, request: Request, **parameters: Any) -> Row:
    """Runs a write on a task, if `If-Match` allows it. Answers 404 if there is no such task, and 412 with its current
    tag if it has another.
    """
    times = read_if_match(request)
    if times is None:
        return or_404(await user.one(write, **parameters))
    if user.is_postgres:
        named = json.dumps([{"time": time.isoformat()} for time in times])
        row = or_404(await user.one(statements.IF_MATCH[write], times=named, **parameters))
        if not row["is_done"]:
            raise changed(row)
        return row
    async with user.transaction() as transaction:
        check_tag(await transaction.one(statements.GET_TASK, task_id=parameters["task_id"]), times)
        return or_404(await transaction.one(write, **parameters))


def check_tag(row: Row | None, times: list[datetime] | None) -> Row:
    """Returns the row if it may have this `updated_at`. Answers 404 or 412 otherwise."""
    row = or_404(row)
    if times is not None and row["updated_at"] not in times:
        raise changed(row)
    return row


def changed(row: Row) -> HTTPException:
    headers = {"ETag": tag_of(row["updated_at"])}
    return HTTPException(status.HTTP_412_PRECONDITION_FAILED, "The task has changed", headers)


def or_404(row: Row | None) -> Row:
    """Returns the row, or answers 404, whether the task doesn't exist or is another user's."""
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "Task not found")
    return row
