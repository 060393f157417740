"""One format for every line: `YYYY-MM-DD HH:MM:SS - module - LEVEL - [request id] message`."""
# [Task]: T073, T081, T127 [From]: specs/api/rest-endpoints.md

import logging
import re
import time
from contextvars import ContextVar
from functools import lru_cache

TIME = "%Y-%m-%d %H:%M:%S"

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# More of a line isn't looked at. A token is at most 8 KiB, so that one that begins in what is shown
# is seen whole.
READ_CHARACTERS = 10_000
SHOWN_BYTES = 2000
CUT = " [cut]"

# A JWS in compact form (RFC 7515, section 7.1). Its header is a JSON object, which in base64url
# begins with `eyJ` if nothing stands before `{"`, and with `OBJECT` if white space is around the
# brace: by that a token is known without its end, too. A whole one is known by its shape, whatever
# it begins with, since no signature has less than 256 bits. Dots may come percent-encoded. All but
# `eyJ` is looked for where a word begins, and no character is read again and again.
LETTER = "[A-Za-z0-9_-]"
DOT = r"(?:\.|%(?:25)*2[Ee])"
SPACES = "(?:[CDI][ACQSgi][0Ako][JKNg])*"
OBJECT = f"{SPACES}(?:ey[A-DI-L]|ew[0ko]|[CDI][HXn]s|[CDI][ACQSgi][1Blp]7)"
SIGNATURE_LENGTH = 43
TOKEN = re.compile(
    rf"(?:eyJ{LETTER}{{8,}}"
    rf"|(?<!{LETTER})(?:(?<=%)(?:25)*[0-9A-F]{{2}})?{OBJECT}{LETTER}{{12,}}"
    rf"|(?<!{LETTER}){LETTER}{{16,}}{DOT}{LETTER}+{DOT}{LETTER}{{{SIGNATURE_LENGTH},}})"
    rf"(?:{LETTER}|{DOT})*"
)
# That takes 10 µs a line. Two quick looks go first: for how a JSON object begins, and for what is
# as long as a signature.
BEGINNING = re.compile("[eCDI](?:y[A-L]|w[0ko]|[ACHQSXgin][01ABklops])")
LETTERS_TO_A = bytes(ord("a") if re.fullmatch(LETTER, chr(number)) else ord(" ") for number in range(256))
SIGNATURE = b"a" * SIGNATURE_LENGTH


@lru_cache(maxsize=1)
def format_second(second: int) -> str:
    return time.strftime(TIME, time.localtime(second))


def redact(text: str) -> str:
    """The text without what looks like a token: a client may send one in a path or an id, where it
    has no place.
    """
    letters = text.encode(errors="replace").translate(LETTERS_TO_A)
    if SIGNATURE in letters or BEGINNING.search(text):
        return TOKEN.sub("[token]", text)
    return text


def shorten(line: str) -> str:
    """The line without tokens, and cut to what a log shows of one."""
    line = redact(line[:READ_CHARACTERS])
    content = line.encode(errors="backslashreplace")
    if len(content) <= SHOWN_BYTES:
        return line
    return content[: SHOWN_BYTES - len(CUT)].decode(errors="ignore") + CUT


class LineFormatter(logging.Formatter):
    """Puts the id of the request that a line belongs to before its message. A record of several
    lines, as with a traceback, keeps them all, each of them shortened.
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
        return "\n".join(map(shorten, line.split("\n")))


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
