"""The operations as requests, ready to be sent."""
# [Task]: T083 [From]: specs/performance.md

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from random import Random
from typing import Any

import jwt

from benchmarks.peers import SECRET
from tests.server import head

TOKEN_SECONDS = 24 * 60 * 60
NO_TASK = 999_999_999_999


@dataclass(frozen=True)
class Operation:
    """`path` goes on behind the user's tasks. With `fields` it has a body, and a title in it."""

    method: str = "GET"
    path: str = ""
    fields: dict[str, Any] | None = None
    status: int = 200


MEASURED = {
    "get": Operation(path="/{task_id}"),
    "list of 10": Operation(path="?limit=10"),
    "list of 100": Operation(path="?limit=100"),
    "create": Operation("POST", fields={"description": "Two litres"}, status=201),
    "put": Operation("PUT", "/{task_id}", fields={"completed": True}),
    "toggle": Operation("PATCH", "/{task_id}/complete"),
}
MEAN = "geometric mean of the six"
# The service remembers tokens that were good, which the others don't. Sent with one that it has not
# seen, a request shows what there is to it besides; it stands beside the mean.
FRESH = "get, fresh token"
DELETE = Operation("DELETE", "/{task_id}", status=204)
NOT_FOUND = Operation(path=f"/{NO_TASK}", status=404)

# Who creates: every other user's list keeps its length.
CREATORS = [f"creator-{number}" for number in range(10)]

serial_numbers = count()


def sign(user_id: str, **claims: Any) -> str:
    payload = {"sub": user_id, "exp": int(time.time()) + TOKEN_SECONDS, **claims}
    return jwt.encode(payload, SECRET, "HS256")


# A frontend sends the same token until it is about to expire.
token_of = cache(sign)


def fresh_token(user_id: str) -> str:
    """One that nobody has seen before."""
    return sign(user_id, jti=str(next(serial_numbers)))


def request(method: str, target: str, token: str, body: str | None = None, *more: str) -> str:
    headers = [f"Authorization: Bearer {token}", *more]
    if body is not None:
        headers += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return head(method, target, *headers).decode() + (body or "")


def request_for(
    operation: Operation,
    user_id: str,
    task_id: int,
    number: int = 0,
    token: str | None = None,
    headers: Sequence[str] = (),
) -> str:
    """The operation on a task. Without a token it is sent with the user's usual one."""
    path = operation.path.format(task_id=task_id)
    target = f"/api/{user_id}/tasks{path}"
    body = None
    if operation.fields is not None:
        body = json.dumps({"title": f"Buy milk {number}"} | operation.fields)
    return request(operation.method, target, token or token_of(user_id), body, *headers)


def pick_requests(
    operation: Operation,
    tasks: Mapping[str, Sequence[int]],
    times: int,
    chance: Random,
    *,
    has_fresh_tokens: bool = False,
) -> list[str]:
    """The operation so many times, on tasks that chance picks."""
    users = CREATORS if operation.method == "POST" else list(tasks)
    requests = []
    for _ in range(times):
        user_id = chance.choice(users)
        task_id = chance.choice(tasks.get(user_id, [NO_TASK]))
        token = fresh_token(user_id) if has_fresh_tokens else None
        number = chance.randrange(1000)
        requests.append(request_for(operation, user_id, task_id, number, token))
    return requests
