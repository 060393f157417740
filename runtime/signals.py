"""Signals: limits the time of a stop, and lets a signal end a start at once."""
# [Task]: T092, T113 [From]: specs/reliability.md

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


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
    server = uvicorn_server()
    # Only the main thread may set a handler. An ignored signal stays ignored.
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
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
