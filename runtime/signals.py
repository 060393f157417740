"""A stop that takes its time, but not for ever, and none at all during a start."""
# [Task]: T092, T113 [From]: specs/reliability.md

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def bounded_stop(seconds: float) -> Iterator[None]:
    """Within it, a SIGTERM that the server takes ends the process after so many seconds at the
    latest, and by that signal. A server waits for its last client, which may never take its answer.

    Without a server that handles SIGTERM there is nothing to bound: the process ends at once.
    """
    stop_server = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    if not (callable(stop_server) and is_main):
        yield
        return

    loop = asyncio.get_running_loop()

    def end() -> None:
        logger.error("The service took longer than SHUTDOWN_TIMEOUT to stop")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        stop_server(number, frame)
        loop.call_soon_threadsafe(loop.call_later, seconds, end)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop_server)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within it, SIGTERM and SIGINT end the process at once, and by that signal. A server only
    takes note of them until the start is over, which may never be.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {n: handler for n in numbers if callable(handler := signal.getsignal(n))}

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    for number in handlers:
        signal.signal(number, end)
    # uvicorn takes note of one while it imports the application, too.
    server = getattr(handlers.get(signal.SIGINT), "__self__", None)
    if getattr(server, "should_exit", False):
        end(signal.SIGTERM, None)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
