"""CORS with patterns of origins, and a warning in the log when an origin is refused."""
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

from origins import pattern_of

logger = logging.getLogger(__name__)

REMEMBERED_ORIGINS = 64
SHOWN_CHARACTERS = 100


class Cors(CORSMiddleware):
    """Starlette's middleware, with `*` in entries of `allow_origins`. A refused preflight gets a 204 without the header
    that would allow it, like any other OPTIONS; Starlette would answer 400 in plain text.
    """

    def __init__(self, app: ASGIApp, /, allow_origins: Collection[str], **options: Any) -> None:
        super().__init__(app, allow_origin_regex="|".join(map(pattern_of, allow_origins)) or None, **options)
        # Warns once for each recent origin, however many strangers make up.
        self.warn_of = lru_cache(maxsize=REMEMBERED_ORIGINS)(warn_of_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or b"origin" not in dict(scope["headers"]):
            await self.app(scope, receive, with_vary(send))
            return
        headers = Headers(scope=scope)
        origin = headers["origin"]
        # The service's own pages, such as /docs, are not cross-origin.
        if not self.is_allowed_origin(origin) and origin.partition("://")[2] != headers.get("host"):
            self.warn_of(origin[:SHOWN_CHARACTERS])
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code != status.HTTP_200_OK:
            headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
            response = Response(status_code=status.HTTP_204_NO_CONTENT, headers=headers)
        return response


def with_vary(send: Send) -> Send:
    """Adds `Vary: Origin`, since a cache might serve the answer to a browser, too."""

    async def send_with_vary(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"vary", b"Origin")]
        await send(message)

    return send_with_vary


def warn_of_origin(origin: str) -> None:
    # In the browser this looks like any failed request.
    logger.warning("A browser's origin is not allowed: %s. Add your frontend's to ALLOWED_ORIGINS.", ascii(origin))
