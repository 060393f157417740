"""The pages of a list: cursors, and the `Link` to the next page."""
# [Task]: T132 [From]: specs/features/task-crud.md

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Request
from pydantic import MISSING, AfterValidator, StringConstraints, TypeAdapter

from db import Row
from errors import invalid_request
from models import TITLE_LENGTH
from routes.conditional import IF_NONE_MATCH, READ, Time
from routes.openapi import TEXT_HEADER, query_parameters
from schemas import ExactId, ListQuery, Order, Sort, no_nul

DOCUMENTED: dict[str, Any] = {
    "responses": READ["responses"] | {200: {"headers": dict.fromkeys(("ETag", "Link", "X-Total-Count"), TEXT_HEADER)}},
    "openapi_extra": {"parameters": [*query_parameters(ListQuery), IF_NONE_MATCH]},
}
# Some letters take three in lower case.
LowerTitle = Annotated[str, StringConstraints(min_length=1, max_length=3 * TITLE_LENGTH), AfterValidator(no_nul)]
# The place after a task: the order, the task's key in it, and its id.
CURSORS: dict[Sort, TypeAdapter[Any]] = {
    "created": TypeAdapter(tuple[Sort, Order, ExactId, ExactId]),
    "updated": TypeAdapter(tuple[Sort, Order, Time, ExactId]),
    "title": TypeAdapter(tuple[Sort, Order, LowerTitle, ExactId]),
}
PLACES = {"cursor", "offset", "skip"}


def path_of(request: Request) -> str:
    """The path as the client sent it, without a trailing slash."""
    # It already begins with the root path, which may end in a slash (`--root-path /v1/`).
    prefix, path = request.scope.get("root_path", ""), request.scope["path"]
    return quote(prefix.rstrip("/") + path.removeprefix(prefix))


def next_link(request: Request, query: ListQuery, last: Row) -> str:
    """The `Link` to the page after this row (RFC 8288)."""
    others = [(name, value) for name, value in request.query_params.multi_items() if name not in PLACES]
    cursor = encode(query, last["sort_key"], last["id"])
    return f'<{path_of(request)}?{urlencode([*others, ("cursor", cursor)])}>; rel="next"'


def encode(query: ListQuery, key: object, task_id: int) -> str:
    place = CURSORS[query.sort].dump_json((query.sort, query.order, key, task_id))
    return urlsafe_b64encode(place).decode().rstrip("=")


def read_cursor(query: ListQuery) -> dict[str, Any]:
    """Reads where the page before ended, as parameters of the statement. Raises `RequestValidationError` unless the
    cursor is one of ours, for this order. It isn't signed: a forged one is another place in the user's own list.
    """
    if query.cursor is MISSING:
        return {"after_id": None, "after_key": None}
    try:
        sort, order, key, task_id = CURSORS[query.sort].validate_json(urlsafe_b64decode(query.cursor + "=="))
        is_ours = (sort, order) == (query.sort, query.order) and encode(query, key, task_id) == query.cursor
    except ValueError:
        is_ours = False
    if not is_ours or (sort == "created" and key != task_id):
        raise invalid_request(("query", "cursor"), "Not a cursor of this list in this order", "cursor")
    return {"after_id": task_id, "after_key": key}
