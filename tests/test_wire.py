"""What a client can do to a connection of a real uvicorn while others are served."""
# [Task]: T021, T022, T062, T080 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

import pytest

from main import create_app
from tests.corpus import AUTHORIZED, JSON, TASKS
from tests.server import connect, exchange, head, read_answer, serving
from tests.service import make_settings, make_token

STRANGER = f"Authorization: Bearer {make_token('eve')}"
BODY = b'{"title":"x"}'
HEALTH = head("GET", "/health", "Connection: close")
BODY_TIMEOUT = 0.3


@pytest.fixture(scope="module", params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def port(parser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The service on its own database, with little patience for a body."""
    folder = tmp_path_factory.mktemp("wire")
    settings = make_settings(database_url=f"sqlite:///{folder}/todo.db", body_timeout=BODY_TIMEOUT)
    with serving(create_app(settings), parser) as port:
        yield port


def post(*headers: str, body: bytes = BODY) -> bytes:
    return head("POST", TASKS, AUTHORIZED, JSON, *headers) + body


def chunked(content: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=content)


def get(*headers: str) -> bytes:
    return head("GET", TASKS, AUTHORIZED, *headers)


# What each parser, httptools and h11, makes of it: a 400 of the server's own, or a request.
BYTES: dict[str, tuple[bytes, int, int]] = {
    "no HTTP": (b"\x00\xff garbage\r\n\r\n", 400, 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500 + b"\r\n\r\n", 400, 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 404),
    "no version": (b"GET /health\r\nHost: x\r\n\r\n", 200, 400),
    "version 9.9": (HEALTH.replace(b"HTTP/1.1", b"HTTP/9.9"), 400, 200),
    "version 1.0": (HEALTH.replace(b"HTTP/1.1", b"HTTP/1.0"), 200, 200),
    "no target": (HEALTH.replace(b"/health", b""), 400, 400),
    "NUL in the target": (HEALTH.replace(b"/health", b"/\0"), 400, 400),
    "bytes in the target": (HEALTH.replace(b"/health", b"/\xff\xfe"), 400, 400),
    "an absolute target": (HEALTH.replace(b"/health", b"http://x/health"), 200, 404),
    "another host's target": (HEALTH.replace(b"/health", b"http://evil.example"), 400, 404),
    "a tunnel": (HEALTH.replace(b"GET /health", b"CONNECT x:80"), 400, 404),
    "a method in lower case": (HEALTH.replace(b"GET", b"get"), 400, 405),
    "an unknown method": (HEALTH.replace(b"GET", b"BREW"), 400, 405),
    "no Host": (f"GET {TASKS} HTTP/1.1\r\n{AUTHORIZED}\r\n\r\n".encode(), 200, 400),
    "two Hosts": (get("Host: evil.example"), 200, 400),
    "NUL in a header": (get("X: a\0b"), 400, 400),
    "CR in a header": (get("X: a\rb"), 400, 400),
    "a header on two lines": (get("X: a\r\n b"), 400, 200),
    "white space behind a token": (head("GET", TASKS, f"{AUTHORIZED} \t "), 200, 200),
    "white space before a scheme": (head("GET", TASKS, AUTHORIZED.replace(" ", "\t  ", 1)), 200, 200),
    "no white space before a scheme": (head("GET", TASKS, AUTHORIZED.replace(" ", "", 1)), 200, 200),
    "a vertical tab behind a token": (head("GET", TASKS, f"{AUTHORIZED}\v"), 400, 400),
    "a blank of another kind behind a token": (head("GET", TASKS, f"{AUTHORIZED}\xa0".encode("latin-1")), 401, 401),
    "white space behind a key": (post("Content-Length: 13", "Idempotency-Key: key \t "), 201, 201),
    "a header without a colon": (get("X"), 400, 400),
    "a space before the colon": (get("Authorization : Bearer x"), 400, 400),
    "a header without a name": (get(": x"), 400, 400),
    "two lengths": (post("Content-Length: 5", "Content-Length: 13"), 400, 400),
    "a length twice": (post("Content-Length: 13", "Content-Length: 13"), 400, 201),
    "a list of lengths": (post("Content-Length: 13, 13"), 400, 201),
    "a list of two lengths": (post("Content-Length: 13, 5"), 400, 400),
    "a negative length": (post("Content-Length: -13"), 400, 400),
    "a signed length": (post("Content-Length: +13"), 400, 400),
    "a length in hex": (post("Content-Length: 0x0d"), 400, 400),
    "an empty length": (post("Content-Length:"), 400, 400),
    "a length beyond 64 bits": (post(f"Content-Length: {2**64 + 13}"), 400, 413),
    "a length of 30 digits": (post("Content-Length: " + "9" * 30), 400, 400),
    "a length of 5000 digits": (post("Content-Length: " + "9" * 5000), 400, 400),
    "a length and chunks": (
        head("POST", TASKS, JSON, "Content-Length: 13", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
        401,
    ),
    "an unknown coding": (post("Transfer-Encoding: gzip"), 400, 400),
    "chunks twice": (post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400, 400),
    "chunks": (chunked(b"d\r\n" + BODY + b"\r\n0\r\n\r\n"), 201, 201),
    "chunks with extensions": (chunked(b"d;a=b\r\n" + BODY + b"\r\n0\r\n\r\n"), 201, 201),
    "a chunk's size no number": (chunked(b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"), 400, 400),
    "a chunk's size negative": (chunked(b"-d\r\n" + BODY + b"\r\n0\r\n\r\n"), 400, 400),
    "a chunk's size beyond 64 bits": (chunked(b"1" + b"0" * 16 + b"\r\n" + BODY), 400, 408),
    "a chunk longer than its size": (chunked(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"), 400, 400),
    "a chunk shorter than its size": (chunked(b"f\r\n" + BODY + b"\r\n0\r\n\r\n"), 400, 400),
    "chunks without an end": (chunked(b"d\r\n" + BODY + b"\r\n"), 408, 408),
    "a body shorter than its length": (post("Content-Length: 14"), 408, 408),
    "an Authorization for a trailer": (
        head("POST", TASKS, JSON, "Transfer-Encoding: chunked")
        + b"d\r\n"
        + BODY
        + f"\r\n0\r\n{AUTHORIZED}x\r\n\r\n".encode(),
        401,
        401,
    ),
    "a header of 2 MB": (get("X: " + "a" * 2_000_000), 200, 400),
    "headers of 2 MB": (get(*["X: aaaaaaaa"] * 160_000), 200, 400),
    "a token of 2 MB": (head("GET", TASKS, "Authorization: Bearer " + "a" * 2_000_000), 401, 400),
    "a path of 2 MB": (head("GET", "/api/" + "a" * 2_000_000), 400, 400),
    "a query of 2 MB": (head("GET", f"{TASKS}?{'a' * 2_000_000}", AUTHORIZED), 400, 400),
}


@pytest.mark.requirement("T021", "T063", "T065", "T080")
@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_barely_http_get_an_answer(port: int, parser: str, name: str) -> None:
    request, *statuses = BYTES[name]

    status = statuses[parser == "h11"]
    # What is long may be refused, and the connection gone, before it was all sent.
    is_cut = suppress(ConnectionError) if status == 400 and len(request) > 10**6 else nullcontext()

    with connect(port) as connection, is_cut:
        connection.sendall(request)
        answer = read_answer(connection)
        assert answer.status_code == status
        if status == 400:
            assert answer.content == b"Invalid HTTP request received."
        elif status > 400:
            assert list(answer.json()) == ["detail"]

    assert exchange(port, HEALTH).status_code == 200


def stalled(port: int, *headers: str, body: bytes = b"") -> socket.socket:
    """A connection whose request never ends."""
    connection = connect(port)
    connection.sendall(head("POST", TASKS, JSON, *headers) + body)
    return connection


STALLS = [
    (("Content-Length: 100",), b""),
    (("Content-Length: 100",), b'{"title": "x"}'),
    (("Content-Length: 100", "Expect: 100-continue"), b""),
    (("Transfer-Encoding: chunked",), b""),
    (("Transfer-Encoding: chunked",), b"d\r\n" + BODY + b"\r\n"),
]


@pytest.mark.requirement("T080")
@pytest.mark.parametrize(("headers", "body"), STALLS)
def test_a_stalled_body_is_given_up(port: int, headers: tuple[str, ...], body: bytes) -> None:
    with stalled(port, AUTHORIZED, *headers, body=body) as connection:
        answer = read_answer(connection)
        assert answer.status_code == 408
        assert answer.json() == {"detail": "The body did not arrive in time"}
        assert answer.headers["connection"] == "close"
        # What comes now is no next request.
        assert connection.recv(1) == b""


@pytest.mark.requirement("T080")
def test_a_stalled_body_delays_nobody_else(parser: str, tmp_path: Path) -> None:
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/todo.db", body_timeout=3600)
    with serving(create_app(settings), parser) as port, ExitStack() as stack:
        connections = [
            stack.enter_context(stalled(port, AUTHORIZED, *headers, body=body))
            for headers, body in STALLS
            for _ in range(10)
        ]

        for _ in range(20):
            task = exchange(port, post("Content-Length: 13", "Connection: close")).json()
            read = head("GET", f"{TASKS}/{task['id']}", AUTHORIZED, "Connection: close")
            assert exchange(port, read).status_code == 200

        answered, _, _ = select.select(connections, [], [], 0)
        assert all(one.recv(65536).startswith(b"HTTP/1.1 100 ") for one in answered)


@pytest.mark.requirement("T080")
def test_a_byte_now_and_then_buys_no_time(port: int) -> None:
    with stalled(port, AUTHORIZED, "Content-Length: 60000") as connection:
        connection.settimeout(BODY_TIMEOUT / 10)
        received = b""
        # Sixty thousand of these would take more than an hour.
        while not received:
            try:
                received = connection.recv(65536)
            except TimeoutError:
                connection.sendall(b" ")

    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.requirement("T021")
@pytest.mark.parametrize(
    ("line", "status"), [("Authorization:", 401), ("Authorization: Bearer x", 401), (STRANGER, 403)]
)
def test_a_stranger_is_answered_before_the_body_comes(port: int, line: str, status: int) -> None:
    for length in ("Content-Length: 10000000", "Transfer-Encoding: chunked"):
        with stalled(port, line, length) as connection:
            assert read_answer(connection).status_code == status


@pytest.mark.requirement("T065")
def test_chunks_are_cut_off_while_they_arrive(port: int) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"

    # Only just too much is sent, so an answer means that the end was not waited for.
    with stalled(port, AUTHORIZED, "Transfer-Encoding: chunked", body=chunk * 17) as connection:
        assert read_answer(connection).status_code == 413


@pytest.mark.requirement("T065")
def test_the_request_after_a_refused_body_is_served(port: int) -> None:
    with connect(port) as connection:
        large = b" " * 70_000
        connection.sendall(post("Content-Length: 70000", body=large) + HEALTH)
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    _, refused, served = received.split(b"HTTP/1.1 ")
    assert (refused[:3], served[:3]) == (b"413", b"200")
    assert served.endswith(b'{"status":"healthy"}')


@pytest.mark.requirement("T062")
@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("POST", TASKS), ("PUT", "/x")])
def test_nothing_follows_a_request_for_an_upgrade(port: int, method: str, path: str) -> None:
    """httptools takes what is behind it for the next request, though it is a body."""
    body = head("GET", "/health")
    upgrade = ("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(body)}")

    with connect(port) as connection:
        connection.sendall(head(method, path, *upgrade))
        answer = read_answer(connection)
        with suppress(ConnectionError):
            connection.sendall(body)
            assert connection.recv(65536) == b""

    assert answer.headers["connection"] == "close"
