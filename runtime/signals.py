"""Signals: limits the time of a stop, and lets a signal end a start at once."""
# [Task]: T092, T113, T151 [From]: specs/reliability.md, specs/features/live-changes.md

import asyncio
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from runtime.connections import at_stop


def uvicorn_server() -> uvicorn.Server | None:
    """Finds the uvicorn that runs this process by its signal handler, the only trace that an application has of it."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def limit_stop(seconds: float) -> None:
    """Makes uvicorn cancel what still runs so long after a SIGTERM, unless it was started with a limit of its
    own. Without one it waits for its last client, which may never take its answer.
    """
    if (server := uvicorn_server()) and server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = math.ceil(seconds)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Lets SIGTERM and SIGINT end the process at once. A server only notes them until the start is over,
    which may never be.
    """
    server, handlers = uvicorn_server(), stop_handlers()
    for number in handlers:
        signal.signal(number, signal.SIG_DFL)
    # uvicorn also notes a signal while it imports the application.
    if server and server.should_exit:
        signal.raise_signal(signal.SIGTERM)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def calling_at_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Calls back in the event loop when the server begins to stop, before it waits for its open connections: at SIGTERM
    or SIGINT, and with uvicorn for any other reason, too.
    """
    loop, handlers = asyncio.get_running_loop(), stop_handlers()
    at_stop[loop] = stop

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(stop)
        handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        at_stop.pop(loop, None)
        for number, handler in handlers.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)


def stop_handlers() -> dict[int, Callable[[int, Any], Any]]:
    """The server's handlers of what stops it, as far as they can be replaced: by the main thread alone, and none of an
    ignored signal.
    """
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    return {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
