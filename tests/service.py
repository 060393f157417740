"""The service under test, reached over HTTP by users with real signed tokens."""
# [Task]: T020 [From]: specs/features/authentication.md

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import jwt
from fastapi import FastAPI
from prometheus_client import REGISTRY
from sqlalchemy import Delete, Insert, SelectBase, Update
from sqlalchemy.sql import visitors

import statements
from auth.tokens import encode_segment
from config import Settings
from logs import request_id
from main import create_app
from tests.leaks import SECRET, watch


def make_settings(**values: Any) -> Settings:
    """Settings from these values alone, with the tests' secret."""
    return Settings(_env_file=None, **({"better_auth_secret": SECRET} | values))


def make_token(
    subject: object = None,
    *,
    key: Any = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    """A signed token, valid for longer than any run, without the claims that are None."""
    content = {"sub": subject, "exp": time.time() + 86_400} | claims
    content = {name: value for name, value in content.items() if value is not None}
    return watch.issue(jwt.encode(content, key, algorithm, headers))


def sign_raw(header: bytes | str, claims: bytes | str, key: str = SECRET) -> str:
    """A token of exactly these bytes with a valid HS256 signature, which no library would make."""
    parts = [part if isinstance(part, bytes) else part.encode() for part in (header, claims)]
    signed = ".".join(map(encode_segment, parts))
    mac = hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest()
    return watch.issue(f"{signed}.{encode_segment(mac)}")


def counted(metric: str, **labels: object) -> float:
    """The value of a counter of this process."""
    return REGISTRY.get_sample_value(f"todo_{metric}_total", {name: str(labels[name]) for name in labels}) or 0


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class User:
    """A user with a valid token."""

    def __init__(self, client: httpx.AsyncClient, user_id: str | None = None) -> None:
        self.id = user_id or uuid4().hex
        self.tasks_path = f"/api/{self.id}/tasks"
        self._client = client
        self._headers = bearer(make_token(self.id))

    async def request(self, method: str, path: str = "", **kwargs: Any) -> httpx.Response:
        """Sends a request as this user; `path` goes on from the user's tasks unless it begins
        with `/api/`.
        """
        url = path if path.startswith("/api/") else self.tasks_path + path
        headers = self._headers | kwargs.pop("headers", {})
        return await self._client.request(method, url, headers=headers, **kwargs)

    async def get(self, path: str = "", **kwargs: Any) -> httpx.Response:
        return await self.request("GET", path, **kwargs)

    async def post(self, content: Any, **kwargs: Any) -> httpx.Response:
        return await self.request("POST", json=content, **kwargs)

    async def put(self, task_id: int, content: Any, **kwargs: Any) -> httpx.Response:
        return await self.request("PUT", f"/{task_id}", json=content, **kwargs)

    async def toggle(self, task_id: int, **kwargs: Any) -> httpx.Response:
        return await self.request("PATCH", f"/{task_id}/complete", **kwargs)

    async def delete(self, task_id: int) -> httpx.Response:
        return await self.request("DELETE", f"/{task_id}")

    async def new_task(self, title: str = "A task", **fields: Any) -> dict[str, Any]:
        response = await self.post({"title": title, **fields})
        assert response.status_code == 201, response.text
        task: dict[str, Any] = response.json()
        return task


STATEMENTS = SelectBase, Insert, Update, Delete


def all_statements() -> Iterator[tuple[str, Any]]:
    """Yields each statement of `statements.py` with its name, also those that a builder made."""
    for name, value in vars(statements).items():
        if isinstance(value, STATEMENTS):
            yield name, value
        elif isinstance(value, dict) and name.isupper():
            made = [one for one in value.values() if isinstance(one, STATEMENTS)]
            yield from ((f"{name} {number}", one) for number, one in enumerate(made))


TASK_STATEMENTS = dict(all_statements())


def check_statement(_connection: Any, statement: Any, *_: Any) -> None:
    """Fails a request that reads or writes a table by a statement outside of `statements.py`."""
    if request_id.get() is None or any(statement is ours for ours in TASK_STATEMENTS.values()):
        return
    kinds = {node.__visit_name__ for node in visitors.iterate(statement)}
    assert not kinds & {"table", "textclause"}, "a statement that isn't in statements.py"


@dataclass
class Service:
    app: FastAPI
    client: httpx.AsyncClient

    @property
    def backend(self) -> str:
        name: str = self.app.state.database.engine.dialect.name
        return name

    def user(self, user_id: str | None = None) -> User:
        return User(self.client, user_id)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Service]:
    """Starts and stops the service as a server would."""
    app = create_app(settings)
    # An error that reaches the server fails the test.
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://testserver", event_hooks={"response": [watch_answer]}
        ) as client,
    ):
        yield Service(app, client)


StartService = Callable[..., Awaitable[Service]]


async def watch_answer(response: httpx.Response) -> None:
    await response.aread()
    watch.read_answer(response)
