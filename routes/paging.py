"""The pages of a list: cursors, and the `Link` to the next page."""
# [Task]: T132 [From]: specs/features/task-crud.md

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from pydantic import MISSING

from db import Row
from errors import invalid_request
from routes.conditional import IF_NONE_MATCH, READ, read_time, tag_of
from routes.query import parameters_of
from routes.task_route import TEXT_HEADER
from schemas import BIGGEST_INTEGER, ListQuery

EXPOSED_HEADERS = ("Link", "X-Total-Count")
DOCUMENTED: dict[str, Any] = {
    "responses": READ["responses"] | {200: {"headers": dict.fromkeys(("ETag", *EXPOSED_HEADERS), TEXT_HEADER)}},
    "openapi_extra": {"parameters": [*parameters_of(ListQuery), *IF_NONE_MATCH["parameters"]]},
}
PLACES = {"cursor", "offset", "skip"}


def path_of(request: Request) -> str:
    """The path as the client sent it, without a trailing slash."""
    # It already begins with the root path, which may end in a slash (`--root-path /v1/`).
    prefix, path = request.scope.get("root_path", ""), request.scope["path"]
    return quote(prefix.rstrip("/") + path.removeprefix(prefix))


def next_link(request: Request, query: ListQuery, last: Row) -> str:
    """The `Link` to the page behind this row (RFC 8288)."""
    key = last["sort_key"]
    place = [query.sort, query.order, tag_of(key) if isinstance(key, datetime) else key, last["id"]]
    others = [(name, value) for name, value in request.query_params.multi_items() if name not in PLACES]
    return f'<{path_of(request)}?{urlencode([*others, ("cursor", encode(place))])}>; rel="next"'


def encode(place: list[Any]) -> str:
    content = json.dumps(place, ensure_ascii=False, separators=(",", ":")).encode()
    return urlsafe_b64encode(content).decode().rstrip("=")


def read_cursor(query: ListQuery) -> dict[str, Any]:
    """Reads where the page before ended, as parameters of the statement. Raises `RequestValidationError` unless the
    cursor is one of ours, for this order. It isn't signed: a forged one is another place in the user's own list.
    """
    if query.cursor is MISSING:
        return {"after_id": None, "after_key": None}
    try:
        sort, order, key, after_id = place = json.loads(urlsafe_b64decode(query.cursor + "=="))
        # One form alone is ours, and its text is what Postgres can store.
        is_ours = (sort, order) == (query.sort, query.order) and encode(place) == query.cursor
        if query.sort == "updated":
            key = read_time(key)
        is_place = type(after_id) is int and 1 <= after_id <= BIGGEST_INTEGER
        is_key = (
            key == after_id if sort == "created" else isinstance(key, str | datetime) and key and "\0" not in str(key)
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        is_ours = False
    if not (is_ours and is_place and is_key):
        raise invalid_request(("query", "cursor"), "Not a cursor of this list in this order", "cursor")
    return {"after_id": after_id, "after_key": key}
