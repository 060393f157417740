"""HTTP's expectations of every path: HEAD, OPTIONS, all methods in `Allow`, and trailing slashes."""
# [Task]: T066, T067, T068, T071, T072 [From]: specs/api/rest-endpoints.md

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
            await self.app(scope, receive, send)
            return

        method, path = scope["method"], scope["path"]
        # A proxy's prefix (`--root-path`) comes first.
        is_task_path = path.removeprefix(scope.get("root_path", "")).startswith("/api/")
        if method == "HEAD":
            scope["method"] = "GET"
        if is_task_path:
            path = path.removesuffix("/")
        # A second line break, since the `$` of Starlette's patterns also matches before a single one at the end.
        scope["path"] = path + "\n" if path.endswith("\n") else path
        wants_upgrade = b"upgrade" in dict(scope["headers"])

        async def send_normalized(message: Message) -> None:
            if message["type"] == "http.response.start":
                if is_task_path:
                    message["headers"] = [*message["headers"], (b"cache-control", b"private, no-cache")]
                if wants_upgrade:
                    # httptools would take this request's body for the next request.
                    MutableHeaders(scope=message)["Connection"] = "close"
                is_refused = message["status"] == status.HTTP_405_METHOD_NOT_ALLOWED
                if (is_refused or method == "OPTIONS") and (allowed := allowed_methods(scope)):
                    MutableHeaders(scope=message)["Allow"] = ", ".join(allowed)
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        await self.app(scope, receive, send_normalized)


def allowed_methods(scope: Scope) -> list[str]:
    """Returns all methods of the path (RFC 9110, section 15.5.6), none for an unknown path. The router's own 405 names
    only those of the first route that matches.
    """

    def is_allowed(method: str) -> bool:
        routed = {**scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(routed)[0] is Match.FULL for route in scope["app"].routes)

    allowed = list(filter(is_allowed, METHODS))
    return [*allowed, "OPTIONS"] if allowed else []
