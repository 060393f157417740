"""Keeps secrets out of OpenTelemetry's spans."""
# [Task]: T097 [From]: specs/reliability.md

from opentelemetry import trace
from starlette.types import ASGIApp, Receive, Scope, Send

from logs import redact


class RedactSpans:
    """Removes from a request's span what the log leaves out, too: the query, and a token in the path. FastAPI records
    both as they are.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            span = trace.get_current_span()
            span.set_attribute("url.path", redact(scope["path"]))
            if scope["query_string"]:
                span.set_attribute("url.query", "REDACTED")
        await self.app(scope, receive, send)
