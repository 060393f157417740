"""What HTTP expects of every path: HEAD, OPTIONS, all methods in `Allow`, a trailing slash."""
# [Task]: T066, T067, T068, T072 [From]: specs/api/rest-endpoints.md

from starlette import status
from starlette.datastructures import MutableHeaders
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from middleware import first_header, is_task_path

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Normalize:
    """Serves HEAD as GET without the body, names all methods of a path on OPTIONS and 405, takes a task path with a
    trailing slash for the one without, and upgrades to nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        method = scope["method"]
        wants_upgrade = first_header(scope, b"upgrade") is not None
        if method == "HEAD":
            scope["method"] = "GET"
        if is_task_path(scope):
            scope["path"] = scope["path"].removesuffix("/")
        # Starlette's patterns end in `$`, which stands before one line break at the end, too.
        if scope["path"].endswith("\n"):
            scope["path"] += "\n"

        async def send_normalized(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if wants_upgrade:
                    # Behind this request httptools takes the bytes of its body for the next one.
                    headers["Connection"] = "close"
                is_refused = message["status"] == status.HTTP_405_METHOD_NOT_ALLOWED
                if (is_refused or method == "OPTIONS") and (allowed := allowed_methods(scope)):
                    headers["Allow"] = ", ".join(allowed)
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        await self.app(scope, receive, send_normalized)


def allowed_methods(scope: Scope) -> list[str]:
    """Every method of the path (RFC 9110, section 15.5.6), none where there is no such path. The router's own error
    names only those of the first route that fits.
    """
    routes = scope["app"].routes
    allowed = [m for m in METHODS if any(route.matches({**scope, "method": m})[0] is Match.FULL for route in routes)]
    if "GET" in allowed:
        allowed.append("HEAD")
    return [*allowed, "OPTIONS"] if allowed else []
