# [Task]: T073, T081 [From]: specs/api/rest-endpoints.md
"""One format for every line: `YYYY-MM-DD HH:MM:SS - module - LEVEL - [request id] message`."""

import logging
import re
import time
from contextvars import ContextVar
from functools import lru_cache
from typing import Final

TIME: Final = "%Y-%m-%d %H:%M:%S"

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# A JWT, also one without its end: its header begins with `{"` in base64url.
TOKEN: Final = re.compile(r"eyJ[\w-]{8,}[\w.-]*")


@lru_cache(maxsize=1)
def format_second(second: int) -> str:
    return time.strftime(TIME, time.localtime(second))


class LineFormatter(logging.Formatter):
    """Puts the id of the request that a line belongs to before its message, and leaves out tokens:
    a client may send one in a path or an id, where it has no place.
    """

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if (current := request_id.get()) is not None:
            message = f"[{current}] {message}"
        second = format_second(int(record.created))
        line = f"{second} - {record.name} - {record.levelname} - {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            line += "\n" + self.formatStack(record.stack_info)
        return TOKEN.sub("[token]", line)


def configure_logging(level: str, *, sql: bool = False) -> None:
    """Sends all logs, uvicorn's own included, to standard error in the one format; with `sql`,
    every statement too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What no line shows needn't be found out for each ("Optimization" in Python's logging HOWTO).
    logging.logThreads = logging.logMultiprocessing = False
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    quiet_libraries()
    if sql:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)


def quiet_libraries() -> None:
    """Silences what libraries say of each call: it may hold what nobody should read."""
    # With the query. `middleware/request_context.py` writes a line of its own for each request.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    # The URLs of fetches, and the values of statements.
    for name in ("httpx", "httpcore", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)
