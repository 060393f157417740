"""HTTP's manners: HEAD, OPTIONS, CORS, trailing slashes, and a 500 that a browser may read."""
# [Task]: T066, T067, T068, T069, T072, T089, T096, T099, T100, T120 [From]: specs/api/rest-endpoints.md, specs/reliability.md

import asyncio
import logging
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from starlette import status
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import answer_late, error_response
from metrics import TIMEOUTS
from origins import pattern_of

logger = logging.getLogger(__name__)


# How many origins that aren't allowed are remembered, and how much of one is shown.
REMEMBERED_ORIGINS = 64
SHOWN_ORIGIN = 100

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# White space around a header's value is no part of it (RFC 9110, section 5.5), but httptools leaves
# it there.
OWS = b" \t"
# No endpoint has a use for these, and FastAPI parses them before it has a token judged, in a time
# that grows with the square of their size on some Pythons.
UNUSED = b"cookie"
# Of a body that is handed to the server at once, which then waits until the client has taken it.
PIECE_BYTES = 64 * 1024


def allowed_methods(scope: Scope) -> list[str]:
    """Every method of the path (RFC 9110, section 15.5.6), none where there is no such path. The
    router's own error names only those of the first route that fits.
    """
    routes = scope["app"].routes
    methods = [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    if "GET" in methods:
        methods.append("HEAD")
    return [*methods, "OPTIONS"] if methods else []


def is_task_path(scope: Scope) -> bool:
    """Whether the path is the tasks', behind a proxy's prefix (`--root-path`) or not."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).startswith("/api/")


def routed_path(scope: Scope) -> str:
    """The path as the router is to see it: a task path without its trailing slash."""
    path: str = scope["path"]
    if is_task_path(scope) and path.endswith("/"):
        path = path[:-1]
    # Starlette's patterns end in `$`, which stands before one line break at the end, too.
    return path + "\n" if path.endswith("\n") else path


def first_header(scope: Scope, name: bytes) -> str | None:
    """The value of the first header of this lower-case name, without the white space around it and
    without Starlette's dictionary of all headers, which costs more than what is done with it here.
    """
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.strip(OWS).decode("latin-1")
            return text
    return None


class Manners:
    """Serves HEAD as GET without the body, names all methods on OPTIONS and 405, takes a task path
    with a trailing slash for the same path without, upgrades to nothing, and passes over cookies.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        method = scope["method"]
        headers = [(key, value.strip(OWS)) for key, value in scope["headers"] if key != UNUSED]
        scope = {**scope, "path": routed_path(scope), "headers": headers}
        if method == "HEAD":
            scope["method"] = "GET"
        wants_upgrade = first_header(scope, b"upgrade") is not None

        async def send_politely(message: Message) -> None:
            if message["type"] == "http.response.start":
                if wants_upgrade:
                    # Behind this request httptools takes the bytes of its body for the next one.
                    MutableHeaders(scope=message)["Connection"] = "close"
                is_refused = message["status"] == status.HTTP_405_METHOD_NOT_ALLOWED
                if (is_refused or method == "OPTIONS") and (allowed := allowed_methods(scope)):
                    MutableHeaders(scope=message)["Allow"] = ", ".join(allowed)
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        await self.app(scope, receive, send_politely)


def tell_refused_origin(origin: str) -> None:
    logger.warning(
        "A browser's origin is not allowed: %s. If it is your frontend's, add it to ALLOWED_ORIGINS.", ascii(origin)
    )


class Cors(CORSMiddleware):
    """Starlette's, but a preflight that is refused gets a 204 without the header that would allow
    it, as any other OPTIONS; Starlette answers 400 in plain text. Origins may be patterns, and one
    that isn't allowed is told once in the log: the browser's user sees nothing but a failure.
    """

    def __init__(self, app: ASGIApp, /, allow_origins: Collection[str], **options: Any) -> None:
        exact = [entry for entry in allow_origins if "*" not in entry]
        patterns = "|".join(pattern_of(entry) for entry in allow_origins if "*" in entry)
        super().__init__(app, exact, allow_origin_regex=patterns or None, **options)
        # Once for each of the last origins, whatever strangers send.
        self.tell = lru_cache(maxsize=REMEMBERED_ORIGINS)(tell_refused_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        origin = first_header(scope, b"origin")
        if origin is not None:
            host = first_header(scope, b"host")
            # A page of the service's own, as /docs is, needs no leave.
            if not self.is_allowed_origin(origin) and origin.partition("://")[2] != host:
                self.tell(origin[:SHOWN_ORIGIN])
            await super().__call__(scope, receive, send)
            return

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A cache may keep the answer, for a browser too.
                message["headers"] = [*message["headers"], (b"vary", b"Origin")]
            await send(message)

        await self.app(scope, receive, send_with_vary)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == status.HTTP_200_OK:
            return response
        headers = {k: v for k, v in response.headers.items() if not k.startswith("content-")}
        return Response(status_code=status.HTTP_204_NO_CONTENT, headers=headers)


class CatchUnforeseen:
    """Answers 500 to what no handler knows, and 503 to what takes longer than `seconds` as a whole.
    A large answer goes out in pieces, each with as much time for its client to take it.

    It stands inside of CORS: Starlette's own 500 is sent outside of it, so that a browser sees only
    a CORS error, and costs the client its connection.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        has_started = False

        async def note_start(message: Message) -> None:
            nonlocal has_started
            has_started = True
            if len(message.get("body", b"")) > PIECE_BYTES:
                await self.send_in_pieces(message, send, limit)
            else:
                await send(message)

        limit = asyncio.timeout(self.seconds)
        try:
            async with limit:
                await self.app(scope, receive, note_start)
        except ClientDisconnect:
            # Nobody is there to read it, but the server wants every request answered.
            response = error_response(status.HTTP_400_BAD_REQUEST, "The client went away")
        except Exception:
            if limit.expired():
                TIMEOUTS.labels("request").inc()
                logger.error("The request took longer than REQUEST_TIMEOUT")  # noqa: TRY400 - whatever was cut short by it says nothing
                if has_started:
                    # The server ends the connection of an answer that isn't all there.
                    return
                response = answer_late()
            elif has_started:
                raise
            else:
                logger.exception("Unforeseen error")
                response = error_response(status.HTTP_500_INTERNAL_SERVER_ERROR, "Internal server error")
        else:
            return
        await response(scope, receive, send)

    async def send_in_pieces(self, message: Message, send: Send, limit: asyncio.Timeout) -> None:
        body = message["body"]
        *starts, last = range(0, len(body), PIECE_BYTES)
        for start in starts:
            piece = body[start : start + PIECE_BYTES]
            await send({**message, "body": piece, "more_body": True})
            limit.reschedule(asyncio.get_running_loop().time() + self.seconds)
        await send({**message, "body": body[last:]})
