"""Logging in one format: `YYYY-MM-DD HH:MM:SS - module - LEVEL - [request id] message`."""
# [Task]: T073, T081, T127 [From]: specs/api/rest-endpoints.md

import logging
import re
import time
from contextvars import ContextVar
from functools import lru_cache

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# A token has at most 8 KiB, so that one which begins in the first 2,000 bytes is read to its end.
READ_CHARACTERS = 10_000
SHOWN_BYTES = 2000
CUT = " [cut]"

# A JWS in compact form (RFC 7515, section 7.1), whose dots may be percent-encoded. Its header is a JSON object, which
# in base64url begins with `eyJ`, or with `OBJECT` if there is white space around the brace: this finds a token that is
# cut off, too. A whole one is found by its shape, since every signature has at least 256 bits. All but `eyJ` are
# matched only at the beginning of a word, so that the search stays linear.
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
# TOKEN takes 10 µs a line, so two quick checks come first: for the beginning of a JSON object, and for a word as long
# as a signature.
BEGINNING = re.compile("[eCDI](?:y[A-L]|w[0ko]|[ACHQSXgin][01ABklops])")
LETTERS_TO_A = bytes(ord("a") if re.fullmatch(LETTER, chr(number)) else ord(" ") for number in range(256))
SIGNATURE = b"a" * SIGNATURE_LENGTH


@lru_cache(maxsize=1)
def format_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def redact(text: str) -> str:
    """Replaces what looks like a token, which a client may have put into a path or an id by mistake."""
    letters = text.encode(errors="replace").translate(LETTERS_TO_A)
    return TOKEN.sub("[token]", text) if SIGNATURE in letters or BEGINNING.search(text) else text


def shorten(line: str) -> str:
    """Redacts tokens in a line, and cuts it to `SHOWN_BYTES`."""
    line = redact(line[:READ_CHARACTERS])
    content = line.encode(errors="backslashreplace")
    if len(content) <= SHOWN_BYTES:
        return line
    return content[: SHOWN_BYTES - len(CUT)].decode(errors="ignore") + CUT


class LineFormatter(logging.Formatter):
    """Puts the request's id before the message, and shortens each line, those of a traceback included."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        current = request_id.get()
        tag = "" if current is None else f"[{current}] "
        return f"{format_second(int(record.created))} - {record.name} - {record.levelname} - {tag}{record.message}"

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(shorten, super().format(record).split("\n")))


def configure_logging(level: str, *, sql: bool = False) -> None:
    """Sends all logs, uvicorn's included, to standard error in this format; with `sql`, every statement, too."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The format shows neither, and collecting them costs time ("Optimization" in Python's logging HOWTO).
    logging.logThreads = logging.logMultiprocessing = False
    quiet_libraries()
    if sql:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)


def quiet_libraries() -> None:
    """Lets uvicorn log in this format, and silences what libraries log of each call, which may hold secrets."""
    # uvicorn's access log shows queries; `RequestLog` writes its own line for each request.
    for name, is_shown in (("uvicorn", True), ("uvicorn.error", True), ("uvicorn.access", False)):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = is_shown
    # These log the URLs of fetches, and the values of statements.
    for name in ("httpx", "httpcore", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)
