"""The time that reading a request takes grows with its size, and not with its square."""
# [Task]: T100 [From]: specs/api/rest-endpoints.md

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from routes.task_route import parse_json
from tests.databases import MakeDatabase
from tests.service import Service, make_settings, running

# A tenfold size takes ten times as long where it is linear, and a hundred where it is square.
TENFOLD_AT_MOST = 40
SMALL = 10_000

PATH = "/api/somebody/tasks"


@pytest.fixture(scope="module")
async def service(make_database: MakeDatabase) -> AsyncIterator[Service]:
    async with running(make_settings(database_url=await make_database("sqlite"))) as service:
        yield service


def header(name: str, value: Callable[[int], bytes]) -> Callable[[int], dict[str, Any]]:
    return lambda size: {"headers": [(name.encode(), value(size))]}


def repeated(text: bytes) -> Callable[[int], bytes]:
    return lambda size: text * (size // len(text))


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "a cookie of backslashes": header("cookie", lambda size: b'a="' + b"\\" * size + b'"'),
    "cookies": header("cookie", repeated(b"a=b; ")),
    "a token": header("authorization", lambda size: b"Bearer " + b"a" * size),
    "a token of dots": header("authorization", lambda size: b"Bearer " + b"." * size),
    "a token that begins well": header("authorization", lambda size: b"Bearer " + b"eyJ" * size),
    "a scheme": header("authorization", repeated(b"a")),
    "blanks before a token": header("authorization", lambda size: b"Bearer" + b" " * size + b"a"),
    "blanks in a header": header("x-request-id", lambda size: b"a" + b" \t" * size + b"a"),
    "an id": header("x-request-id", repeated(b"a.")),
    "an origin": header("origin", lambda size: b"http://" + b"a-." * size),
    "an upgrade": header("upgrade", repeated(b"a, ")),
    "a media type": header("content-type", repeated(b"a/b;")),
    "a length": header("content-length", repeated(b"0")),
    "what is accepted": header("accept", repeated(b"a/b;q=0.1,")),
    "a key": header("idempotency-key", repeated(b"a")),
    "headers": lambda size: {"headers": [(b"x-%d" % n, b"a") for n in range(size // 10)]},
    "a header again and again": lambda size: {"headers": [(b"cookie", b"a=b")] * (size // 10)},
    "a path": lambda size: {"path": "/" + "a" * size},
    "slashes": lambda size: {"path": "/" * size},
    "a user": lambda size: {"path": f"/api/{'a' * size}/tasks"},
    "a path of a token": lambda size: {"path": "/" + "eyJ" * size},
    "a path that is nearly one": lambda size: {"path": PATH + "/1/complete" * (size // 10)},
    "a path of line breaks": lambda size: {"path": PATH + "\n" * size},
    "a query": lambda size: {"query_string": b"a=b&" * (size // 4)},
    "a query of ampersands": lambda size: {"query_string": b"&" * size},
    "a query of percents": lambda size: {"query_string": b"limit=" + b"%" * size},
}


async def best_time(run: Callable[[], Any]) -> float:
    """The least of several, in seconds of this thread's CPU: others disturb, and never help."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        await run()
        times.append(time.thread_time() - started)
    return min(times)


@pytest.mark.requirement("T100")
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "BREW"])
@pytest.mark.parametrize("name", PARTS)
async def test_each_part_of_a_request_costs_linear_time(service: Service, name: str, method: str) -> None:
    statuses = set()

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing of the body is awaited")

    async def send(message: Any) -> None:
        statuses.add(message.get("status", 0))

    def request(size: int) -> Callable[[], Any]:
        scope = {"type": "http", "method": method, "path": PATH, "query_string": b"", "headers": []}
        grown = scope | PARTS[name](size)
        return lambda: service.app(grown, receive, send)

    logging.disable()  # the tests look through every record
    try:
        small, large = [await best_time(request(size)) for size in (SMALL, 10 * SMALL)]
    finally:
        logging.disable(logging.NOTSET)

    assert statuses <= {0, 204, 401, 404, 405}
    assert large < TENFOLD_AT_MOST * small


BODIES: dict[str, Callable[[int], bytes]] = {
    "digits": repeated(b"1"),
    "digits in text": lambda size: b'"' + b"1" * size + b'"',
    "text without an end": lambda size: b"1" * 1000 + b'"' + b'\\"' * size,
    "quotes": lambda size: b"1" * 1000 + b'"' * size,
    "backslashes": lambda size: b"1" * 1000 + b'"' + b"\\" * size,
    "brackets": repeated(b"["),
    "digits in the longest number": lambda size: b"[" + (b"9" * 999 + b",") * (size // 1000) + b"1]",
    "numbers": lambda size: b"[" + b"9" * 300 + (b"," + b"9" * 300) * (size // 300) + b"]",
    "fields": lambda size: json.dumps({str(n): n for n in range(size // 10)}).encode(),
    "the same field": lambda size: b'{"a":1' + b',"a":1' * (size // 6) + b"}",
}


@pytest.mark.requirement("T100")
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_costs_linear_time(name: str) -> None:
    def parse(size: int) -> Callable[[], Any]:
        body = BODIES[name](size)

        async def run() -> None:
            with suppress(RequestValidationError):
                parse_json(body)

        return run

    small, large = [await best_time(parse(size)) for size in (SMALL, 10 * SMALL)]

    assert large < TENFOLD_AT_MOST * small
