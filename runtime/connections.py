"""Bounds what a client can queue on a connection of uvicorn, or leave unread there.

uvicorn has no bound for either, and chooses its protocol classes before it imports the application. So this module
replaces `__new__` of those classes. Other servers are left alone.
"""
# [Task]: T098, T099 [From]: specs/api/rest-endpoints.md

import asyncio
import logging
import socket
import time
from asyncio import Transport
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from struct import unpack, unpack_from
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

with suppress(ImportError):  # on Windows
    from fcntl import ioctl
    from termios import TIOCOUTQ

logger = logging.getLogger(__name__)

# httptools parses all that it is given at once, and the shortest request has 18 bytes.
PIECE_BYTES = 4 * 1024
# The bounds of a request's head, which httptools collects: a header of a few bytes takes a hundred of memory. h11 has
# its own bound, 64 KiB.
MAX_HEAD_BYTES = 4 * 1024 * 1024
MAX_HEADERS = 200_000
LOOKS_PER_TIMEOUT = 5

servers: WeakSet[ServerState] = WeakSet()
# What to call when uvicorn closes the connections of a loop, whatever made it stop (`--limit-max-requests` also does).
at_stop: WeakKeyDictionary[asyncio.AbstractEventLoop, Callable[[], None]] = WeakKeyDictionary()


class NotedStop(asyncio.Protocol):
    """Tells the application when uvicorn asks a connection to end."""

    __slots__ = ()

    loop: asyncio.AbstractEventLoop

    def shutdown(self) -> None:
        super().shutdown()  # type: ignore[misc] # uvicorn's, whose classes come next
        with suppress(KeyError):  # nothing lives there, or no longer
            at_stop[self.loop]()


class StoppableH11(NotedStop, H11Protocol):
    pass


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


class BoundedProtocol(NotedStop, HttpToolsProtocol):
    """Parses piece by piece, until a request has to wait for the answer to the one before, and bounds each head."""

    # With these among its attributes, uvicorn's 28 would be too many for Python to share their names between
    # connections, each of which would take 1.3 kB more.
    __slots__ = ("head_bytes", "head_since", "unanswered", "unparsed")

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self.flow = PatientFlow(transport, self.pipeline)
        # Received after a request that waits.
        self.unparsed = b""
        # How much of an unfinished head was parsed, and when it began.
        self.head_bytes = 0
        self.head_since = 0.0
        # uvicorn itself knows only the last request. No deque, which takes 760 bytes and would gain nothing.
        self.unanswered: list[RequestResponseCycle] = []

    def connection_lost(self, exc: Exception | None) -> None:
        # Otherwise each of them would go on to write, and fail, or wait for ever for the end of its client.
        for cycle in self.unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
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
        self.unanswered.pop(0)
        super().on_response_complete()
        if self.unparsed and not self.pipeline:
            self.data_received(b"")


OURS: dict[type, type] = {HttpToolsProtocol: BoundedProtocol, H11Protocol: StoppableH11}


def make_protocol(cls: type, /, *_: Any, server_state: ServerState, **__: Any) -> Any:
    """Replaces `__new__` of uvicorn's classes: notes the server, and makes one of ours in their place."""
    servers.add(server_state)
    return object.__new__(OURS.get(cls, cls))


H11Protocol.__new__ = HttpToolsProtocol.__new__ = make_protocol  # type: ignore[method-assign,assignment] # uvicorn offers no hook


def count_bytes(transport: Transport) -> tuple[int, int]:
    """Counts the bytes that the client has yet to take, in uvicorn's buffer and in the system's (which may hold
    millions), and those that it has taken: since it came, or where the system doesn't tell, fewer than none.
    """
    left, connection = transport.get_write_buffer_size(), transport.get_extra_info("socket")
    with suppress(NameError, OSError, TypeError, ValueError):  # the system has no such call, or the socket is closed
        left += unpack("i", ioctl(connection, TIOCOUTQ, b"\0" * 4))[0]
    taken = -left
    with suppress(AttributeError, OSError):  # likewise, or it is no TCP
        # `tcpi_bytes_acked` of Linux. What is left says too little: of a stream, there may always be as much.
        (taken,) = unpack_from("Q", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128), 120)
    return left, taken


async def end_unread(seconds: float) -> None:
    """Ends each connection whose client has for so long taken nothing of what is sent to it, or left the head of a
    request unfinished (with httptools, which keeps all of a head).
    """
    loop = asyncio.get_running_loop()
    # Where bytes were left at the last look: how many were taken, and at how many looks it was no more. By the clock, a
    # service that was held up would blame its clients.
    seen: dict[Any, tuple[int, int]] = {}
    while True:
        await asyncio.sleep(seconds / LOOKS_PER_TIMEOUT)
        before, seen = seen, {}
        connections: list[Any] = [one for server in list(servers) for one in list(server.connections)]
        for protocol in [one for one in connections if one.loop is loop]:
            left, taken = count_bytes(protocol.transport)
            if left:
                most, looks = before.get(protocol, (taken, -1))
                seen[protocol] = (taken, 0 if taken > most else looks + 1)
                if seen[protocol][1] >= LOOKS_PER_TIMEOUT:
                    end(protocol, "read nothing")
            elif getattr(protocol, "head_bytes", 0) and time.monotonic() - protocol.head_since >= seconds:
                end(protocol, "has not sent the whole head of its request")


def end(protocol: Any, what: str) -> None:
    logger.warning("Ended a connection whose client %s for SEND_TIMEOUT", what)
    # `close` would wait until all that is buffered is sent.
    protocol.transport.abort()
