"""HTTP's expectations of every path: HEAD, OPTIONS, all methods in `Allow`, and trailing slashes."""
# [Task]: T066, T067, T068, T071, T072, T154 [From]: specs/api/rest-endpoints.md, specs/features/live-changes.md

from collections.abc import Iterable

from starlette import status
from starlette.datastructures import MutableHeaders
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")


class Normalize:
    """Serves HEAD as GET without the body, names all methods of a path on OPTIONS and 405, ignores the trailing slash
    of a task path, keeps tasks out of shared caches, and closes the connection after a request for an upgrade.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        method, path = scope["method"], scope["path"]
        is_of_tasks = is_task_path(scope)
        if method == "HEAD":
            scope["method"] = "GET"
            receive, send = without_body(receive, send)
        if is_of_tasks:
            path = path.removesuffix("/")
        # A second line break, since the `$` of Starlette's patterns also matches before a single one at the end.
        scope["path"] = path + "\n" if path.endswith("\n") else path
        wants_upgrade = b"upgrade" in dict(scope["headers"])

        async def send_normalized(message: Message) -> None:
            if message["type"] == "http.response.start":
                if is_of_tasks and b"cache-control" not in dict(message["headers"]):
                    message["headers"] = [*message["headers"], (b"cache-control", b"private, no-cache")]
                if wants_upgrade:
                    # httptools would take this request's body for the next request.
                    MutableHeaders(scope=message)["Connection"] = "close"
                is_refused = message["status"] == status.HTTP_405_METHOD_NOT_ALLOWED
                if (is_refused or method == "OPTIONS") and (allowed := allowed_methods(scope)):
                    MutableHeaders(scope=message)["Allow"] = ", ".join(allowed)
            await send(message)

        return await self.app(scope, receive, send_normalized)


def without_body(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Ends an answer with its headers. A stream ends, too, as if its client had left."""
    has_ended = False

    async def receive_until_end() -> Message:
        return {"type": "http.disconnect"} if has_ended else await receive()

    async def send_headers(message: Message) -> None:
        nonlocal has_ended
        if not has_ended:
            has_ended = True
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return receive_until_end, send_headers


def with_headers(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """Adds headers to an answer."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with_headers


def path_without_prefix(scope: Scope) -> str:
    """The path without a proxy's prefix (`--root-path`)."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def is_task_path(scope: Scope) -> bool:
    return path_without_prefix(scope).startswith("/api/")


def allowed_methods(scope: Scope) -> list[str]:
    """Returns all methods of the path (RFC 9110, section 15.5.6), none for an unknown path. The router's own 405 names
    only those of the first route that matches.
    """

    def is_allowed(method: str) -> bool:
        routed = {**scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(routed)[0] is Match.FULL for route in scope["app"].routes)

    allowed = list(filter(is_allowed, METHODS))
    return [*allowed, "OPTIONS"] if allowed else []
