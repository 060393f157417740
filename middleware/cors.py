"""CORS with patterns of origins, and a word in the log where an origin is refused."""
# [Task]: T069, T120 [From]: specs/api/rest-endpoints.md

import logging
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from starlette import status
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from middleware import first_header
from origins import pattern_of

logger = logging.getLogger(__name__)

REMEMBERED_ORIGINS = 64
SHOWN_CHARACTERS = 100


class Cors(CORSMiddleware):
    """Starlette's, with `*` in entries of `allow_origins`. A preflight that is refused gets a 204 without the header
    that would allow it, as any other OPTIONS; Starlette answers 400 in plain text.
    """

    def __init__(self, app: ASGIApp, /, allow_origins: Collection[str], **options: Any) -> None:
        exact = [entry for entry in allow_origins if "*" not in entry]
        patterns = "|".join(pattern_of(entry) for entry in allow_origins if "*" in entry)
        super().__init__(app, exact, allow_origin_regex=patterns or None, **options)
        # Once for each of the last origins, whatever strangers send.
        self.tell = lru_cache(maxsize=REMEMBERED_ORIGINS)(tell_refused_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (origin := first_header(scope, b"origin")) is None:
            await self.app(scope, receive, with_vary(send))
            return
        # A page of the service's own, as /docs is, needs no leave.
        if not self.is_allowed_origin(origin) and origin.partition("://")[2] != first_header(scope, b"host"):
            self.tell(origin[:SHOWN_CHARACTERS])
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == status.HTTP_200_OK:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return Response(status_code=status.HTTP_204_NO_CONTENT, headers=headers)


def with_vary(send: Send) -> Send:
    """Adds `Vary: Origin` to an answer, since a cache may keep it for a browser, too."""

    async def send_with_vary(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"vary", b"Origin")]
        await send(message)

    return send_with_vary


def tell_refused_origin(origin: str) -> None:
    # The browser's user sees nothing but a failure.
    logger.warning(
        "A browser's origin is not allowed: %s. If it is your frontend's, add it to ALLOWED_ORIGINS.", ascii(origin)
    )
