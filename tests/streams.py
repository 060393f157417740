"""Opens streams of live changes, and reads their events as they come."""
# [Task]: T147 [From]: specs/features/live-changes.md

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Executable
from starlette.types import ASGIApp

import statements
from db import Database, Row
from tests.leaks import watch
from tests.service import Service, User, bearer, make_settings, make_token, running
from tests.waiting import until

# Longer than the slowest machine takes to tell a change, and less than NEVER.
BOUND_SECONDS = 40
# For LIVE_INTERVAL: longer than a test waits, and shorter than the setting may be, so that tests are quick.
NEVER = 60
OFTEN = 0.1

ORIGIN = "http://localhost:3000"
INSERT = (
    "INSERT INTO task (user_id, title, completed, created_at, updated_at)"
    " VALUES (:user, 'x', false, '2026-11-01 00:00:00', '2026-11-01 00:00:00')"
)


@dataclass
class Event:
    """One event, with each of its fields as text."""

    event: str = ""
    id: str = ""
    data: str = ""
    retry: str = ""


@dataclass
class Stream:
    """An open stream, or the refusal to open one. It is read in the background, as a browser does."""

    response: httpx.Response
    # All that came so far.
    events: list[Event] = field(default_factory=list)
    comments: int = 0
    # Whether the answer has ended as a whole, and how it broke off otherwise.
    is_over: bool = False
    error: httpx.HTTPError | AssertionError | None = None
    _read: int = 0
    _has_more: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        try:
            event = Event()
            async for line in self.response.aiter_lines():
                name, _, value = line.partition(": ")
                if name in vars(event):
                    setattr(event, name, value)
                elif line.startswith(":"):
                    self.comments += 1
                elif event != Event():
                    assert line == "", f"no field of an event: {line!r}"
                    self.events.append(event)
                    event = Event()
                self._has_more.set()
            self.is_over = True
        except (httpx.HTTPError, AssertionError) as error:
            self.error = error
        finally:
            self._has_more.set()

    async def _wait(self, is_there: Callable[[], object]) -> None:
        """Waits for what is to come. Fails if the stream ends before, as httpx does if it breaks off."""
        async with asyncio.timeout(BOUND_SECONDS):
            while not is_there():
                if self.error:
                    raise self.error
                assert not self.is_over, "the stream has ended"
                self._has_more.clear()
                await self._has_more.wait()

    async def next(self) -> Event:
        """The next event."""
        await self._wait(lambda: len(self.events) > self._read)
        self._read += 1
        return self.events[self._read - 1]

    async def told(self, event_id: str) -> list[Event]:
        """The next events until the one with this id."""
        events = [await self.next()]
        while events[-1].id != event_id:
            events.append(await self.next())
        return events

    async def comment(self) -> None:
        """Waits for one more comment."""
        before = self.comments
        await self._wait(lambda: self.comments > before)

    async def end(self) -> None:
        """Waits for the end of the whole answer."""
        await self._wait(lambda: self.is_over)


@asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient,
    user: User | str,
    *last_ids: str,
    path: str | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    **claims: Any,
) -> AsyncIterator[Stream]:
    """Opens a user's stream, with these claims in its token. The client is that of `streaming_client`, or any of a
    server that listens.
    """
    user_id = user if isinstance(user, str) else user.id
    sent = [*(bearer(make_token(user_id, **claims)) | (headers or {})).items()]
    sent += [("Last-Event-ID", one) for one in last_ids]
    # As bytes, since httpx sends no text beyond ASCII.
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in sent]
    url = path or f"/api/{user_id}/tasks/events"
    async with client.stream(method, url, headers=encoded, timeout=BOUND_SECONDS) as response:
        if response.headers.get("Content-Type") != "text/event-stream":
            await response.aread()
            watch.read_answer(response)
        stream = Stream(response)
        reading = asyncio.create_task(stream.read())
        try:
            yield stream
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


class StreamingTransport(httpx.AsyncBaseTransport):
    """Serves requests in process, as httpx's `ASGITransport` does, but gives each part of an answer as it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(key.lower(), value) for key, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": ("127.0.0.1", 123),
            "root_path": "",
        }
        messages: asyncio.Queue[Any] = asyncio.Queue()
        received: asyncio.Queue[Any] = asyncio.Queue()
        received.put_nowait({"type": "http.request", "body": await request.aread()})
        serving = asyncio.ensure_future(self.app(scope, received.get, messages.put))
        serving.add_done_callback(lambda _: messages.put_nowait(None))

        async def body() -> AsyncGenerator[bytes]:
            try:
                while (message := await messages.get()) is not None:
                    yield message["body"]
                    if not message.get("more_body"):
                        break
            finally:
                # Whether the answer is over, or its reader has left.
                received.put_nowait({"type": "http.disconnect"})
                await serving

        start = await messages.get()
        if start is None:
            await serving
        headers = start["headers"]
        return httpx.Response(start["status"], headers=headers, stream=Body(body()))


class Body(httpx.AsyncByteStream):
    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        self.chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks

    async def aclose(self) -> None:
        await self.chunks.aclose()


@asynccontextmanager
async def streaming_client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of this application, which runs in this process and loop."""
    transport = StreamingTransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


@asynccontextmanager
async def watching(app: ASGIApp, user: User | str, *last_ids: str, **options: Any) -> AsyncIterator[Stream]:
    """Opens a stream of an application that runs in this process and loop."""
    async with streaming_client(app) as client, open_stream(client, user, *last_ids, **options) as stream:
        yield stream


async def ready(stream: Stream) -> str:
    """The id with which a stream begins."""
    event = await stream.next()
    assert event.event == "ready"
    return event.id


async def list_id(user: User) -> str:
    """The tag of a user's list, as events have it."""
    tag = (await user.get("?limit=1")).headers["ETag"]
    assert tag.startswith('W/"')
    return str(tag[3:-1])


def open_streams() -> float:
    """How many streams are open in this process."""
    return REGISTRY.get_sample_value("todo_open_streams") or 0


async def until_none_is_open() -> None:
    async def is_none_open() -> bool:
        return open_streams() == 0

    await until(is_none_open)


def assert_refused(stream: Stream, status: int) -> None:
    """Checks that a stream, which a page of `ORIGIN` opened, was refused before it began."""
    assert stream.response.status_code == status
    assert stream.response.headers["Content-Type"] == "application/json"
    assert stream.response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "detail" in stream.response.json()


def asking_often(**values: Any) -> AbstractAsyncContextManager[Service]:
    return running(make_settings(**values).model_copy(update={"live_interval": OFTEN}))


def note_questions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Returns a list that collects for which users each query asks."""
    fetch, asked = Database.fetch, list[list[str]]()

    async def noting(self: Database, statement: Executable, parameters: dict[str, Any]) -> list[Row]:
        rows = await fetch(self, statement, parameters)
        if statement is statements.LIST_VERSIONS:
            asked.append([user["id"] for user in json.loads(parameters["users"])])
        return rows

    monkeypatch.setattr(Database, "fetch", noting)
    return asked
