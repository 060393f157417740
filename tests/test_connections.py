"""The memory that a client can cost by sending much at once, and by not reading its answers."""
# [Task]: T098, T099 [From]: specs/api/rest-endpoints.md

import asyncio
import json
import select
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from main import create_app
from runtime.connections import MAX_HEAD_BYTES, end_unread
from tests.corpus import AUTHORIZED, JSON, TASKS
from tests.leaks import SECRET
from tests.server import connect, head, read_answer, serving, uvicorn_process
from tests.service import make_settings

MEBIBYTE = 1024 * 1024
HEALTH = head("GET", "/health")
HEALTHY = b'{"status":"healthy"}'


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def server(parser: str, tmp_path: Path) -> AsyncIterator[tuple[psutil.Process, int]]:
    """Runs the service. Gives its process and its port."""
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/todo.db", "BETTER_AUTH_SECRET": SECRET}
    async with uvicorn_process(tmp_path, "--http", parser, **settings) as running:
        port = httpx.URL(await running.url()).port
        assert port is not None
        yield psutil.Process(running.process.pid), port


def send_what_is_taken(connection: socket.socket, content: bytes, most: int) -> int:
    """Sends the same bytes again and again, until the other side takes no more or has taken `most`."""
    sent = 0
    while sent < most and select.select([], [connection], [], 2)[1]:
        start = sent % len(content)
        sent += connection.send(content[start : start + 65536])
    return sent


@pytest.mark.requirement("T098")
async def test_unread_pipelined_requests_do_not_pile_up(server: tuple[psutil.Process, int]) -> None:
    process, port = server
    before = process.memory_info().rss
    batch = HEALTH * 10_000

    with connect(port) as connection:
        connection.setblocking(False)  # noqa: FBT003 - the name of the flag is the method's
        sent = await asyncio.to_thread(send_what_is_taken, connection, batch, 60 * MEBIBYTE)
        # The two sockets' buffers, and answers of many times the size of their requests.
        assert sent < 30 * MEBIBYTE
        assert process.memory_info().rss - before < 40 * MEBIBYTE

        # It goes on when the client reads.
        connection.setblocking(True)  # noqa: FBT003 - likewise
        received = 0
        while received < 3 * MEBIBYTE:
            received += len(await asyncio.to_thread(connection.recv, MEBIBYTE))
    assert process.memory_info().rss - before < 40 * MEBIBYTE


@pytest.mark.requirement("T098")
@pytest.mark.parametrize("size", [1, 7, 4096, 5000, 100_000])
def test_pipelined_requests_are_answered_in_order(parser: str, tmp_path: Path, size: int) -> None:
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/todo.db")
    requests = []
    for number in range(100 if size > 1 else 30):
        body = b'{"title":"%d"}' % number
        length = f"Content-Length: {len(body)}"
        requests.append(head("POST", TASKS, AUTHORIZED, JSON, length) + body)
    sent = b"".join(requests)

    with serving(create_app(settings), parser) as port, connect(port) as connection:
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
        # In one piece: what came after the end of the connection would reset it.
        connection.sendall(head("GET", "/health", "Connection: close") + b"GET /beyond")
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    answers = received.split(b"HTTP/1.1 ")[1:]
    titles = [answer.partition(b'"title":"')[2].partition(b'"')[0] for answer in answers]
    assert titles == [b"%d" % number for number in range(len(requests))] + [b""]
    assert answers[-1].endswith(HEALTHY)


ENDLESS = {
    "a header": (b"GET /health HTTP/1.1\r\nX: ", b"a" * 65536),
    "tiny headers": (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a:\r\n" * 16_384),
    "headers": (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X: aaaaaaaa\r\n" * 5000),
    "trailers": (
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n",
        b"X: aaaaaaaa\r\n" * 5000,
    ),
}


@pytest.mark.requirement("T098")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_head_without_end_is_refused(parser: str, tmp_path: Path, name: str) -> None:
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/todo.db")
    begin, more = ENDLESS[name]

    with serving(create_app(settings), parser) as port, connect(port) as connection:
        connection.sendall(begin)
        sent, most = 0, 30 * MAX_HEAD_BYTES
        with suppress(ConnectionError):
            while sent < most:
                connection.sendall(more)
                sent += len(more)
        assert sent < most


@pytest.mark.requirement("T098")
async def test_endless_heads_leave_no_memory_behind(server: tuple[psutil.Process, int]) -> None:
    process, port = server
    tiny = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 190_000

    async def send_and_leave() -> int:
        with connect(port) as connection, suppress(ConnectionError):
            await asyncio.to_thread(connection.sendall, tiny)
        assert HEALTHY in await asyncio.to_thread(ask_for_health, port)
        return process.memory_info().rss

    first = await send_and_leave()
    last = [await send_and_leave() for _ in range(10)][-1]

    assert last - first < 60 * MEBIBYTE


def ask_for_health(port: int) -> bytes:
    with connect(port) as connection:
        connection.sendall(head("GET", "/health", "Connection: close"))
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.requirement("T098")
def test_an_unfinished_head_ends_the_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/todo.db"
    settings = make_settings(database_url=url, send_timeout=0.3)
    with serving(create_app(settings), "httptools") as port, connect(port) as connection:
        for end in (b"", b"0\r\n\r\n"):
            # A finished one is answered, however long its connection then idles.
            chunk = b"1\r\n1\r\n" if end else b""
            coding = ("Transfer-Encoding: chunked",) if end else ()
            connection.sendall(head("GET", "/health", *coding) + chunk)
            connection.sendall(end)
            assert read_answer(connection).content == HEALTHY
            time.sleep(0.5)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost:")

        assert connection.recv(1) == b""
    assert "has not sent the whole head" in caplog.text


LIST = head("GET", "/api/mallory/tasks?limit=1000", AUTHORIZED, "Connection: close")
# The list has at least so many bytes.
LENGTH = 4_000_000


@contextmanager
def serving_a_long_list(folder: Path, parser: str, **limits: float) -> Iterator[int]:
    """Runs the service with a long list, of which a client has to take something twice a second."""
    url = f"sqlite:///{folder}/todo.db"
    settings = make_settings(database_url=url, send_timeout=0.5, **limits)
    with serving(create_app(settings), parser) as port:
        with closing(sqlite3.connect(folder / "todo.db")) as database, database:
            text = "\N{GRINNING FACE}" * 1000
            row = ("mallory", "a" * 200, text, False, *["2026-01-01 00:00:00"] * 2)
            database.executemany(
                "INSERT INTO task (user_id, title, description, completed, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [row] * 1000,
            )
        yield port


def connect_with_a_small_window(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    return connection


def receive_all(connection: socket.socket) -> int:
    """Counts the bytes received until the connection ends, in whichever way."""
    received = 0
    with suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += len(chunk)
    return received


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for up to a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def servers_connections(port: int) -> int:
    return sum(one.laddr.port == port and bool(one.raddr) for one in psutil.Process().net_connections("tcp"))


@pytest.mark.requirement("T099")
def test_a_client_that_takes_nothing_loses_its_connection(
    parser: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving_a_long_list(tmp_path, parser) as port, ExitStack() as stack:
        clients = [stack.enter_context(connect_with_a_small_window(port)) for _ in range(5)]
        keeping = LIST.replace(b"Connection: close\r\n", b"")
        for client in clients:
            client.sendall(keeping * 5)

        wait_until(lambda: caplog.text.count("SEND_TIMEOUT") == len(clients))
        wait_until(lambda: not servers_connections(port))
        assert [receive_all(client) < LENGTH for client in clients] == [True] * len(clients)
    # The end of such a connection is no error of the service.
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


@pytest.mark.requirement("T099")
def test_a_client_that_takes_its_time_gets_all(parser: str, tmp_path: Path) -> None:
    received = 0
    with serving_a_long_list(tmp_path, parser, request_timeout=1) as port, connect_with_a_small_window(port) as client:
        client.sendall(LIST)
        # It reads for longer than both limits together.
        while chunk := client.recv(LENGTH // 20):
            received += len(chunk)
            time.sleep(0.01)

    assert received > LENGTH


@pytest.mark.requirement("T099")
@pytest.mark.usefixtures("tls")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_connections_over_tls_are_watched_too(parser: str, loop: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/todo.db", "BETTER_AUTH_SECRET": SECRET}
    tls = ("--ssl-certfile", "cert.pem", "--ssl-keyfile", "key.pem")
    arguments = ("--http", parser, "--loop", loop, *tls)
    async with uvicorn_process(tmp_path, *arguments, SEND_TIMEOUT="0.2", **settings) as running:
        url = (await running.wait_for(r"running on (https://[\d.:]+)"))[1]
        for _ in range(2):
            async with httpx.AsyncClient(verify=False) as client:
                assert (await client.get(f"{url}/health")).status_code == 200
            # Long enough for the service to look at a closed connection.
            await asyncio.sleep(0.1)
    assert "CRITICAL" not in running.output


@pytest.mark.requirement("T099")
def test_a_client_that_reads_all_the_time_is_left_alone(parser: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is slower than what is sent to it, so that ever more is left."""

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        left = asyncio.ensure_future(receive())
        while not left.done():
            await send({"type": "http.response.body", "body": bytes(16_384), "more_body": True})
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(end_unread(0.5))
        yield
        assert not watching.done()
        watching.cancel()

    app = FastAPI(lifespan=lifespan)
    app.mount("/", stream)
    with serving(app, parser) as port, connect_with_a_small_window(port) as client:
        client.sendall(head("GET", "/"))
        for _ in range(100):
            assert client.recv(8192)
            time.sleep(0.02)
    assert "SEND_TIMEOUT" not in caplog.text


@pytest.mark.requirement("T099")
def test_answers_are_not_mixed_up_by_their_pieces(parser: str, tmp_path: Path) -> None:
    keeping = LIST.replace(b"Connection: close\r\n", b"")
    with serving_a_long_list(tmp_path, parser) as port, connect(port) as client:
        client.sendall(keeping + LIST)
        received = b"".join(iter(lambda: client.recv(1 << 20), b""))

    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in received.split(b"HTTP/1.1 ")[1:]]
    assert [len(json.loads(body)) for body in bodies] == [1000, 1000]
