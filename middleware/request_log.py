"""An id, a security header, a log line and a measurement for each request."""
# [Task]: T070, T071, T074, T096, T100, T158 [From]: specs/api/rest-endpoints.md, specs/reliability.md, specs/features/limits.md

import logging
import re
import time
from functools import lru_cache
from secrets import token_hex
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logs import READ_CHARACTERS, request_id
from metrics import HTTP_REQUESTS
from middleware.normalize import METHODS

logger = logging.getLogger(__name__)

ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
WARNED_OF = frozenset({401, 403, 404, 429})
# `Normalize` has made GET of HEAD. Other methods and paths are counted as `other`, since each label that a client
# could choose would be another series.
KNOWN_METHODS = frozenset({*METHODS, "OPTIONS"})
OTHER = "other"
# Optional white space around a header's value, no part of it (RFC 9110, section 5.5), which httptools leaves there.
OWS = b" \t"
# No endpoint uses cookies. FastAPI would parse them before the token is verified, on some Pythons in quadratic time.
UNUSED = b"cookie"

# A stream is open as long as its client likes, which would say nothing of the service.
STREAM = (b"content-type", b"text/event-stream")
NOSNIFF = (b"x-content-type-options", b"nosniff")
# A year (RFC 6797).
HSTS = (b"strict-transport-security", b"max-age=31536000")

histogram_of = lru_cache(HTTP_REQUESTS.labels)


class RequestLog:
    """Gives each request its id, logs it, and measures it if `is_measured`, which costs 1 % of a request. Outside of
    all that answers, so that preflights and errors are logged, too.
    """

    def __init__(self, app: ASGIApp, *, is_measured: bool = False) -> None:
        self.app = app
        self.is_measured = is_measured

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        headers = [(key, value.strip(OWS)) for key, value in scope["headers"] if key != UNUSED]
        # A copy, since the inner middleware change it, and the server relies on its own.
        inner = {**scope, "headers": headers}
        # Reversed, so that the first of several ids counts.
        current = dict(reversed(headers)).get(b"x-request-id", b"").decode("latin-1")
        if not ACCEPTED_ID.fullmatch(current):
            current = token_hex(16)
        status, is_stream = 500, False
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                is_stream = self.is_measured and STREAM in message["headers"]
                added = [(b"x-request-id", current.encode()), NOSNIFF]
                if scope.get("scheme") == "https" and scope["app"].state.settings.require_https:
                    added.append(HSTS)
                message["headers"] = [*message["headers"], *added]
            await send(message)

        reset = request_id.set(current)
        try:
            await self.app(inner, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            if self.is_measured and not is_stream:
                route = inner["route"].path if "route" in inner else OTHER
                method = inner["method"] if inner["method"] in KNOWN_METHODS else OTHER
                histogram_of(route, method, status).observe(seconds)
            level = logging.WARNING if status in WARNED_OF else logging.ERROR if status >= 500 else logging.INFO  # noqa: PLR2004 - the statuses of failures
            # Quoted, since a path may hold line breaks; without the query, which may hold secrets.
            path = quote(scope["path"][:READ_CHARACTERS])
            logger.log(level, "%s %s %d %.1f ms", scope["method"], path, status, seconds * 1000)
            request_id.reset(reset)
