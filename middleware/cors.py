"""CORS with patterns of origins, and a warning in the log when an origin is refused."""
# [Task]: T069, T120, T158 [From]: specs/api/rest-endpoints.md, specs/features/limits.md

import logging
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from starlette import status
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from middleware.normalize import METHODS, with_headers
from middleware.require_https import is_refused
from origins import pattern_of

logger = logging.getLogger(__name__)

REMEMBERED_ORIGINS = 64
SHOWN_CHARACTERS = 100
# What a browser lets a frontend read of an answer.
EXPOSED_HEADERS = (
    *("Location", "Idempotency-Replayed", "ETag", "Link", "X-Total-Count", "Retry-After"),
    *("X-Request-ID", "WWW-Authenticate", "RateLimit", "RateLimit-Policy"),
)
# Also where no browser asks, since a cache might serve the answer to one.
VARY = ((b"vary", b"Origin"),)


class Cors(CORSMiddleware):
    """Starlette's middleware, with `*` in entries of `allow_origins`. A refused preflight gets a 204 without the header
    that would allow it, like any other OPTIONS; Starlette would answer 400 in plain text.
    """

    def __init__(self, app: ASGIApp, allow_origins: Collection[str]) -> None:
        pattern = "|".join(map(pattern_of, allow_origins)) or None
        policy: dict[str, Any] = {"allow_methods": METHODS, "allow_headers": ["*"], "expose_headers": EXPOSED_HEADERS}
        super().__init__(app, allow_origin_regex=pattern, allow_credentials=True, **policy)
        # Warns once for each recent origin, however many strangers make up.
        self.warn_of = lru_cache(maxsize=REMEMBERED_ORIGINS)(warn_of_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or b"origin" not in dict(scope["headers"]):
            return await self.app(scope, receive, with_headers(send, VARY))
        headers = Headers(scope=scope)
        origin = headers["origin"]
        # The service's own pages, such as /docs, are not cross-origin.
        if not self.is_allowed_origin(origin) and origin.partition("://")[2] != headers.get("host"):
            self.warn_of(origin[:SHOWN_CHARACTERS])
        if is_refused(scope):
            # Also a preflight, so that the browser doesn't send the token in the clear.
            return await self.simple_response(scope, receive, send, request_headers=headers)
        return await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code != status.HTTP_200_OK:
            headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
            response = Response(status_code=status.HTTP_204_NO_CONTENT, headers=headers)
        return response


def warn_of_origin(origin: str) -> None:
    # In the browser this looks like any failed request.
    logger.warning("A browser's origin is not allowed: %s. Add your frontend's to ALLOWED_ORIGINS.", ascii(origin))
