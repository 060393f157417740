"""The life of a stream: when it ends, how many there are, and when the worker stops asking for them."""
# [Task]: T148, T151, T152, T153 [From]: specs/features/live-changes.md

import asyncio
import math
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Executable
from starlette.types import Message, Receive, Scope, Send

import statements
from db import Database, Row
from main import create_app
from tests.databases import MakeDatabase
from tests.outside import run_sql
from tests.proxy import proxy_to
from tests.server import connect, head, serving
from tests.service import Service, User, bearer, counted, make_settings, make_token, running
from tests.streams import (
    INSERT,
    NEVER,
    OFTEN,
    ORIGIN,
    asking_often,
    assert_refused,
    list_id,
    note_questions,
    open_stream,
    open_streams,
    ready,
    until_none_is_open,
    watching,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("without_pause")

MakeApp = Callable[..., FastAPI]


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """Makes an application for a server of its own."""
    return lambda **values: create_app(make_settings(database_url=f"sqlite:///{tmp_path}/todo.db", **values))


@pytest.mark.requirement("T151")
async def test_a_stream_ends_when_its_token_expires(plain_service: Service) -> None:
    user, expires_at = plain_service.user(), math.ceil(time.time() + 0.3)
    async with watching(plain_service.app, user, exp=expires_at) as stream:
        await stream.end()

        # Two clocks are at work.
        assert time.time() > expires_at - 0.2
        # The token is still good for a request, since clocks differ.
        assert (await user.get(headers=bearer(make_token(user.id, exp=expires_at)))).status_code == 200
    async with watching(plain_service.app, user, exp=time.time() - 5) as stream:
        await ready(stream)
        await stream.end()
    # Beyond any float.
    async with watching(plain_service.app, user, exp=10**400) as stream:
        await ready(stream)
    await until_none_is_open()


@pytest.mark.requirement("T151")
@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_the_end_of_a_stream_is_that_of_its_answer(make_app: MakeApp, parser: str) -> None:
    authorization = f"Authorization: Bearer {make_token('ada', exp=time.time() - 5)}"
    with serving(make_app(), parser) as port, connect(port) as connection:
        connection.sendall(head("GET", "/api/ada/tasks/events", authorization) + head("GET", "/health"))
        received = b""
        while not received.endswith(b'{"status":"healthy"}'):
            received += connection.recv(65536)

    stream, _, answer = received.partition(b"\r\n0\r\n\r\n")
    assert stream.endswith(b"data: {}\n\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.requirement("T151")
@pytest.mark.parametrize("parser", ["httptools", "h11"])
async def test_a_client_may_leave_with_a_request_that_waits(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, parser: str
) -> None:
    # Reading is paused then, so that a comment that can't be sent tells that the client has left.
    monkeypatch.setattr("routes.events.HEARTBEAT_SECONDS", 0.1)
    authorization = f"Authorization: Bearer {make_token('ada')}"
    with serving(make_app(), parser) as port:
        with connect(port) as connection:
            connection.sendall(head("GET", "/api/ada/tasks/events", authorization) + head("GET", "/health"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            assert open_streams() == 1
        await until_none_is_open()


@pytest.mark.requirement("T151")
@pytest.mark.parametrize("parser", ["httptools", "h11"])
async def test_an_open_stream_outlives_the_time_limits(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, parser: str
) -> None:
    monkeypatch.setattr("routes.events.HEARTBEAT_SECONDS", 0.1)
    app = make_app(request_timeout=0.3, body_timeout=0.1, send_timeout=0.3)
    with serving(app, parser) as port:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
            open_stream(client, "ada") as stream,
        ):
            started = time.monotonic()
            while time.monotonic() < started + 0.6:
                await stream.comment()
            await User(client, "ada").new_task()
            await ready(stream)
            assert (await stream.next()).event == "changed"
        await until_none_is_open()


@pytest.mark.requirement("T151")
async def test_a_stop_ends_all_streams(often: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    # A comment would end them, too.
    monkeypatch.setattr("routes.events.HEARTBEAT_SECONDS", NEVER)
    async with watching(often.app, "ada") as adas, watching(often.app, "bob") as bobs:
        often.app.state.live.stop()
        await adas.end()
        await bobs.end()
    # Also those that open meanwhile, such as one whose token waited for the published keys.
    for _ in range(2):
        async with watching(often.app, "ada") as stream:
            await ready(stream)
            await stream.end()


@pytest.mark.requirement("T151")
async def test_a_client_that_reads_nothing_is_dropped(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    with serving(make_app(send_timeout=0.5)) as port, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(("127.0.0.1", port))
        connection.sendall(head("GET", "/api/ada/tasks/events", f"Authorization: Bearer {make_token('ada')}"))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            user = User(client, "ada")

            async def is_open() -> bool:
                return open_streams() == 1

            async def is_dropped() -> bool:
                await user.new_task()
                return open_streams() == 0

            await until(is_open)
            await until(is_dropped)
    assert "read nothing" in caplog.text


@pytest.mark.requirement("T148", "T151")
async def test_a_slow_client_is_told_of_all_by_one_event(often: Service) -> None:
    user, reads_on, has_stopped = often.user(), asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_slowly(message: Message) -> None:
            await send(message)
            if b"changed" in message.get("body", b""):
                has_stopped.set()
                await reads_on.wait()

        await often.app(scope, receive, send_slowly)

    async with watching(slow, user) as stream, watching(often.app, user) as other:
        for one in (stream, other):
            await ready(one)
        await user.new_task()
        await has_stopped.wait()
        for _ in range(20):
            await user.new_task()
        last = await list_id(user)
        await other.told(last)
        reads_on.set()

        # The one that it stopped at, and the last.
        assert len(await stream.told(last)) == 2


@pytest.mark.requirement("T151")
async def test_a_client_may_leave_during_a_query(often: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch, begun, goes_on = Database.fetch, asyncio.Event(), asyncio.Event()

    async def held_back(self: Database, statement: Executable, parameters: dict[str, Any]) -> list[Row]:
        if statement is statements.LIST_VERSIONS:
            begun.set()
            await goes_on.wait()
        return await fetch(self, statement, parameters)

    async with watching(often.app, "ada") as stream:
        await ready(stream)
        monkeypatch.setattr(Database, "fetch", held_back)
        await begun.wait()
    assert open_streams() == 0
    goes_on.set()
    async with watching(often.app, "bob") as stream:
        await ready(stream)
        await often.user("bob").new_task()
        assert (await stream.next()).id == await list_id(often.user("bob"))


@pytest.mark.requirement("T151")
async def test_a_stream_waits_for_the_database(make_database: MakeDatabase, caplog: pytest.LogCaptureFixture) -> None:
    url = await make_database("postgresql")
    async with proxy_to(url) as proxy, asking_often(database_url=proxy.url) as service:
        user = service.user()
        await user.new_task()
        async with watching(service.app, user) as stream:
            await ready(stream)
            proxy.refuse()
            proxy.cut()

            async def is_noticed() -> bool:
                return "told later what changed" in caplog.text

            await until(is_noticed)
            async with watching(service.app, user, headers={"Origin": ORIGIN}) as refused:
                assert_refused(refused, 503)
                assert int(refused.response.headers["Retry-After"]) > 0
            async with asking_often(database_url=url) as other:
                await other.user(user.id).new_task()
            assert len(stream.events) == 1
            await proxy.listen()

            event = await stream.next()
            assert (event.event, event.id) == ("changed", await list_id(user))
    assert caplog.text.count("told later what changed") == 1
    await until_none_is_open()


@pytest.mark.requirement("T152")
async def test_a_user_has_at_most_20_streams(often: Service) -> None:
    app, ada = often.app, often.user("ada")
    before = counted("limits_reached", limit="user_streams")
    async with AsyncExitStack() as stack:
        paths = [f"{ada.tasks_path}/events", "/api/tasks/events"] * 10
        streams = [await stack.enter_async_context(watching(app, ada, path=path)) for path in paths[1:]]
        async with watching(app, ada) as last:
            await ready(last)
            for path in paths[:2]:
                async with watching(app, ada, path=path, headers={"Origin": ORIGIN}) as refused:
                    assert_refused(refused, 429)
                    assert int(refused.response.headers["Retry-After"]) > 0
            async with watching(app, "bob") as bobs:
                await ready(bobs)
            assert open_streams() == 20
        async with watching(app, ada) as stream:
            await ready(stream)
        await ada.new_task()
        for stream in streams:
            await ready(stream)
            assert (await stream.next()).id == await list_id(ada)
    assert counted("limits_reached", limit="user_streams") == before + 2
    await until_none_is_open()


@pytest.mark.requirement("T152")
async def test_a_worker_has_a_limited_number_of_streams(often: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live.MOST_STREAMS", 2)
    before = counted("limits_reached", limit="worker_streams")
    async with watching(often.app, "ada"):
        async with watching(often.app, "bob"), watching(often.app, "cyd", headers={"Origin": ORIGIN}) as refused:
            assert_refused(refused, 503)
            assert int(refused.response.headers["Retry-After"]) > 0
        async with watching(often.app, "cyd") as stream:
            await ready(stream)
    assert counted("limits_reached", limit="worker_streams") == before + 1
    await until_none_is_open()


@pytest.mark.requirement("T153")
@pytest.mark.parametrize("interval", [OFTEN, NEVER])
async def test_the_database_may_sleep_until_it_is_used(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, interval: float
) -> None:
    asked = note_questions(monkeypatch)
    settings = make_settings(database_url=await make_database("sqlite"), live_idle=0.2)
    async with running(settings.model_copy(update={"live_interval": interval})) as service:
        ada = service.user("ada")

        async def sleep() -> None:
            while asked:
                asked.clear()
                await asyncio.sleep(0.3)
            await run_sql(service, INSERT, user="ada")
            await asyncio.sleep(0.2)
            assert asked == []

        async with watching(service.app, "ada") as stream:
            await ready(stream)
            await sleep()
            await service.user("bob").get()
            await stream.told(await list_id(ada))

            await sleep()
            async with watching(service.app, "cyd"):
                assert (await stream.next()).id == await list_id(ada)
