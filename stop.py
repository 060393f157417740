# [Task]: T092 [From]: specs/reliability.md
"""A stop that takes its time, but not for ever."""

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
