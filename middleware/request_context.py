"""What every request and every answer gets: an id, security headers and a line in the log."""
# [Task]: T070, T071, T074 [From]: specs/api/rest-endpoints.md

import logging
import re
import time
from secrets import token_hex
from urllib.parse import quote

from starlette.status import HTTP_500_INTERNAL_SERVER_ERROR
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logs import READ_CHARACTERS, request_id
from middleware.http import first_header, is_task_path

logger = logging.getLogger(__name__)

ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
NOTEWORTHY = frozenset({401, 403, 404, 429})


class RequestContext:
    """The outermost middleware: what it adds is on preflights and errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        current = first_header(scope, b"x-request-id")
        if current is None or not ACCEPTED_ID.fullmatch(current):
            current = token_hex(16)
        added = [(b"x-request-id", current.encode()), (b"x-content-type-options", b"nosniff")]
        if is_task_path(scope):
            added.append((b"cache-control", b"private, no-cache"))
        status = HTTP_500_INTERNAL_SERVER_ERROR
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        reset = request_id.set(current)
        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            level = logging.WARNING if status in NOTEWORTHY else logging.INFO
            if status >= HTTP_500_INTERNAL_SERVER_ERROR:
                level = logging.ERROR
            # Quoted, since a path may hold line breaks; without the query, which may hold secrets.
            logger.log(
                level, "%s %s %d %.1f ms", scope["method"], quote(scope["path"][:READ_CHARACTERS]), status, milliseconds
            )
            request_id.reset(reset)
