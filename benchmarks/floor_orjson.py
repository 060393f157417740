"""The floor with orjson in place of Python's own JSON, which makes up most of a long list there."""
# [Task]: T083 [From]: specs/performance.md

from typing import Any

import asyncpg
import orjson
from starlette.responses import Response

from benchmarks import floor


def answer(content: Any, status: int = 200) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
    return Response(body, status, media_type="application/json")


def as_json(row: asyncpg.Record) -> dict[str, Any]:
    return dict(row)


floor.answer, floor.as_json = answer, as_json
app = floor.app
