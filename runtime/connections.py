"""Bounds what a client can queue on a connection of uvicorn, or leave unread there.

uvicorn has no bound for either, and chooses its protocol classes before it imports the application. So this module
replaces `__new__` of those classes. Other servers are left alone.
"""
# [Task]: T098, T099 [From]: specs/api/rest-endpoints.md

import asyncio
import logging
import time
from asyncio import Transport
from collections import deque
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

with suppress(ImportError):  # on Windows
    from fcntl import ioctl
    from struct import unpack
    from termios import TIOCOUTQ

logger = logging.getLogger(__name__)

# httptools parses all that it is given at once, and the shortest request has 18 bytes.
PIECE_BYTES = 4 * 1024
# The bounds of a request's head, which httptools collects: a header of a few bytes takes a hundred of memory. h11 has
# its own bound, 64 KiB.
MAX_HEAD_BYTES = 4 * 1024 * 1024
MAX_HEADERS = 200_000
LOOKS_PER_TIMEOUT = 10

servers: WeakSet[ServerState] = WeakSet()


class PatientFlow(FlowControl):
    """Resumes reading only when no request waits for its turn. uvicorn resumes it after each answer, and so collects
    all that a client sends without reading.
    """

    def __init__(self, transport: Transport, waiting: deque[Any]) -> None:
        super().__init__(transport)
        self.waiting = waiting

    def resume_reading(self) -> None:
        if not self.waiting:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """Parses piece by piece, until a request has to wait for the answer to the one before, and bounds each head."""

    # Received after a request that waits.
    unparsed = b""
    # How much of an unfinished head was parsed, and when it began.
    head_bytes = 0
    head_since = 0.0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self.flow = PatientFlow(transport, self.pipeline)
        # uvicorn itself knows only the last request.
        self.unanswered: deque[RequestResponseCycle] = deque()

    def connection_lost(self, exc: Exception | None) -> None:
        # Otherwise each of them would go on to write, and fail.
        for cycle in self.unanswered:
            cycle.disconnected = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        data, start = self.unparsed + data, 0
        while start < len(data) and not (self.pipeline or self.transport.is_closing()):
            piece = data[start : start + PIECE_BYTES]
            start += PIECE_BYTES
            if not self.head_bytes:
                self.head_since = time.monotonic()
            self.head_bytes += len(piece)
            super().data_received(piece)
            if self.head_bytes > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_HEADERS:
                self.send_400_response("Invalid HTTP request received.")
        self.unparsed = data[start:]

    def on_headers_complete(self) -> None:
        self.head_bytes = 0
        super().on_headers_complete()
        self.unanswered.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        # Trailers may follow, which httptools collects like a head.
        self.head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.unanswered.popleft()
        super().on_response_complete()
        if self.unparsed and not self.pipeline:
            self.data_received(b"")


def make_protocol(cls: type, /, *_: Any, server_state: ServerState, **__: Any) -> Any:
    """Replaces `__new__` of uvicorn's classes: notes the server, and makes a `BoundedProtocol` for httptools."""
    servers.add(server_state)
    return object.__new__(BoundedProtocol if cls is HttpToolsProtocol else cls)


H11Protocol.__new__ = HttpToolsProtocol.__new__ = make_protocol  # type: ignore[method-assign,assignment] # uvicorn offers no hook


def untaken(transport: Transport) -> int:
    """Counts the bytes that the client has yet to take: those in uvicorn's buffer, and those in the system's, which
    may be millions and is the first to shrink.
    """
    queued = 0
    with suppress(NameError, OSError, TypeError, ValueError):  # the system has no such call, or the socket is closed
        (queued,) = unpack("i", ioctl(transport.get_extra_info("socket"), TIOCOUTQ, b"\0" * 4))
    return transport.get_write_buffer_size() + queued


async def end_unread(seconds: float) -> None:
    """Ends each connection whose client has for so long taken nothing of what is sent to it, or left the head of a
    request unfinished (with httptools, which keeps all of a head).
    """
    loop = asyncio.get_running_loop()
    # How many bytes were left at the last look, and when the client was last seen to take some.
    seen: WeakKeyDictionary[Any, tuple[int, float]] = WeakKeyDictionary()
    while True:
        await asyncio.sleep(seconds / LOOKS_PER_TIMEOUT)
        now = time.monotonic()
        connections: list[Any] = [one for server in list(servers) for one in list(server.connections)]
        for protocol in [one for one in connections if one.loop is loop]:
            left = untaken(protocol.transport)
            before, since = seen.get(protocol, (0, now))
            if not before or left < before:
                since = now
            seen[protocol] = (left, since)
            if left and now - since >= seconds:
                end(protocol, "read nothing")
            elif getattr(protocol, "head_bytes", 0) and now - protocol.head_since >= seconds:
                end(protocol, "has not sent the whole head of its request")


def end(protocol: Any, what: str) -> None:
    logger.warning("Ended a connection whose client %s for SEND_TIMEOUT", what)
    # `close` would wait until all that is buffered is sent.
    protocol.transport.abort()
