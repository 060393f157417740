"""What a client can queue on a connection of uvicorn's, or leave unread there.

uvicorn has no bound for either, and no place to set one: it has chosen the classes that speak HTTP
before it imports the application. So their methods are replaced; other servers are left alone.
"""
# [Task]: T098, T099 [From]: specs/api/rest-endpoints.md

import asyncio
import logging
import time
from asyncio import Transport
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

with suppress(ImportError):  # on Windows
    from fcntl import ioctl
    from struct import unpack
    from termios import TIOCOUTQ

logger = logging.getLogger(__name__)

# httptools parses all that it is given, and the shortest request has 18 bytes.
PIECE_BYTES = 4 * 1024
# Of the head of one request, which httptools collects: a header of a few bytes takes a hundred of
# memory. h11 has a bound of its own, 64 KiB.
MAX_HEAD_BYTES = 4 * 1024 * 1024
MAX_HEADERS = 200_000
LOOKS_PER_TIMEOUT = 10

protocols: WeakSet[Any] = WeakSet()


def replaces(owner: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replaces the method of a function's name by the function, which gets the method as well."""

    def replace(function: Callable[..., None]) -> Callable[..., None]:
        method = getattr(owner, function.__name__)
        setattr(owner, function.__name__, lambda *arguments: function(method, *arguments))
        return function

    return replace


class PatientFlow(FlowControl):
    """Reads on only when nobody's request waits for its turn. uvicorn's own reads on after each
    answer, and collects whatever a client sends that reads none.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        super().__init__(protocol.transport)
        self.waiting = protocol.pipeline
        # The requests that have no whole answer yet. uvicorn knows the last one only.
        self.unanswered: deque[RequestResponseCycle] = deque()
        # What was read after a request that waits, and how much of a head was parsed, since when.
        self.unparsed = b""
        self.head_bytes = 0
        self.head_since = 0.0

    def resume_reading(self) -> None:
        if not self.waiting:
            super().resume_reading()


@replaces(H11Protocol)
@replaces(HttpToolsProtocol)
def connection_made(method: Any, protocol: Any, transport: Transport) -> None:
    method(protocol, transport)
    protocols.add(protocol)
    if isinstance(protocol, HttpToolsProtocol):
        protocol.flow = PatientFlow(protocol)


@replaces(H11Protocol)
@replaces(HttpToolsProtocol)
def connection_lost(method: Any, protocol: Any, error: Exception | None) -> None:
    protocols.discard(protocol)
    # Else each of them would go on to write, and fail.
    for cycle in getattr(protocol.flow, "unanswered", ()):
        cycle.disconnected = True
    method(protocol, error)


@replaces(HttpToolsProtocol)
def data_received(method: Any, protocol: Any, data: bytes) -> None:
    """Parses piece by piece, until a request has to wait for the answer to the one before."""
    flow: PatientFlow = protocol.flow
    data, start = flow.unparsed + data, 0
    while start < len(data) and not (protocol.pipeline or protocol.transport.is_closing()):
        piece = data[start : start + PIECE_BYTES]
        start += PIECE_BYTES
        if not flow.head_bytes:
            flow.head_since = time.monotonic()
        flow.head_bytes += len(piece)
        method(protocol, piece)
        if flow.head_bytes > MAX_HEAD_BYTES or len(protocol.headers or ()) > MAX_HEADERS:
            protocol.send_400_response("Invalid HTTP request received.")
    flow.unparsed = data[start:]


@replaces(HttpToolsProtocol)
def on_headers_complete(method: Any, protocol: Any) -> None:
    protocol.flow.head_bytes = 0
    method(protocol)
    protocol.flow.unanswered.append(protocol.cycle)


@replaces(HttpToolsProtocol)
def on_body(method: Any, protocol: Any, body: bytes) -> None:
    # What may still come behind it, trailers, is collected like a head.
    protocol.flow.head_bytes = 0
    method(protocol, body)


@replaces(HttpToolsProtocol)
def on_message_complete(method: Any, protocol: Any) -> None:
    protocol.flow.head_bytes = 0
    method(protocol)


@replaces(HttpToolsProtocol)
def on_response_complete(method: Any, protocol: Any) -> None:
    protocol.flow.unanswered.popleft()
    method(protocol)
    if protocol.flow.unparsed and not protocol.pipeline:
        protocol.data_received(b"")


def untaken(transport: Transport) -> int:
    """How many bytes of its answers the client has yet to take: uvicorn's, and the system's, which
    may be millions, and is told of the client's progress first.
    """
    queued = 0
    with suppress(NameError, OSError, TypeError, ValueError):  # no such call, a closed socket
        (queued,) = unpack("i", ioctl(transport.get_extra_info("socket"), TIOCOUTQ, b"\0" * 4))
    return transport.get_write_buffer_size() + queued


async def end_unread(seconds: float) -> None:
    """Ends each connection whose client has taken nothing for so long of what there is for it, or
    hasn't come to the end of a head that it began (with httptools, which keeps all of that).

    Closing would not do: a connection closes when all that is buffered for it is sent.
    """
    loop = asyncio.get_running_loop()
    # How much was left at the last look, and when the client was last seen to take something.
    seen: WeakKeyDictionary[Any, tuple[int, float]] = WeakKeyDictionary()
    while True:
        await asyncio.sleep(seconds / LOOKS_PER_TIMEOUT)
        now = time.monotonic()
        for protocol in [one for one in protocols if one.loop is loop]:
            left = untaken(protocol.transport)
            before, since = seen.get(protocol, (0, now))
            if before == 0 or left < before:
                since = now
            seen[protocol] = (left, since)
            flow = protocol.flow
            if left and now - since >= seconds:
                end(protocol, "read nothing")
            elif getattr(flow, "head_bytes", 0) and now - flow.head_since >= seconds:
                end(protocol, "has not sent the whole head of its request")


def end(protocol: Any, what: str) -> None:
    logger.warning("Ended a connection whose client %s for SEND_TIMEOUT", what)
    protocols.discard(protocol)
    protocol.transport.abort()
