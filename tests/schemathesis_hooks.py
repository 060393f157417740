"""What a schema can't say, for schemathesis: it mends what is wrong only in these ways."""
# [Task]: T090, T134, T137 [From]: specs/reliability.md, specs/features/task-crud.md

import re
from typing import Any
from uuid import uuid4

import schemathesis

from routes.idempotency import HEADER, KEY
from tests.corpus import cursor_of

BIGGEST_ID = 2**63 - 1
# A parameter and those that it can't be beside.
CONFLICTS = {"completed": {"status"}, "ids": {"status", "completed"}, "cursor": {"offset", "skip"}}
# A key of a task in each order.
SORT_KEYS = {"created": 1, "updated": "2026-01-01T00:00:00Z", "title": "x"}
TAGS = re.compile(r'\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*"){0,15}')


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    mend_headers(case.headers or {})
    if case.operation.path.endswith("/tasks"):
        mend_query(case.query, is_deletion=case.method == "DELETE")
    if case.operation.path.endswith("/bulk") and isinstance(case.body, dict):
        mend_ids(case.body)


def mend_headers(headers: Any) -> None:
    """Makes a good key a new one: an old one with another body is refused, and rightly so. What is no list of tags is
    refused, too.
    """
    if KEY.fullmatch(headers.get(HEADER) or ""):
        headers[HEADER] = uuid4().hex
    if not TAGS.fullmatch(headers.get("If-Match", "*")):
        headers["If-Match"] = "*"


def mend_query(query: dict[str, Any], *, is_deletion: bool) -> None:
    """Leaves out what can't be beside another, selects something to delete, and makes a cursor one of this order."""
    for name, others in CONFLICTS.items():
        if others & query.keys():
            query.pop(name, None)
    if is_deletion and not query.keys() & {"status", "completed", "ids"}:
        query["status"] = "completed"
    if re.fullmatch("[0-9,]+", str(query.get("ids"))):
        query["ids"] = "1,2,3"
    sort, order = query.get("sort", "created"), query.get("order", "asc")
    if "cursor" in query and sort in SORT_KEYS:
        query["cursor"] = cursor_of([sort, order, SORT_KEYS[sort], 1])


def mend_ids(body: dict[str, Any]) -> None:
    """Writes integers as such: to JSON Schema 1.0 is one, and the bound in the document is rounded to 2**63."""

    def mended(one: Any) -> Any:
        is_integer = type(one) is int or (type(one) is float and one.is_integer())
        return min(int(one), BIGGEST_ID) if is_integer and float(one) <= 2**63 else one

    if isinstance(body.get("ids"), list):
        body["ids"] = list(map(mended, body["ids"]))
