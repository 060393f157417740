"""FastAPI's own OpenTelemetry: where it is on, and what it doesn't get to see."""
# [Task]: T097 [From]: specs/reliability.md

import os
from importlib.metadata import PackageNotFoundError, version

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import ASGIApp, Receive, Scope, Send

from errors import StartupError
from logs import redact

EXPORTER = "opentelemetry-exporter-otlp-proto-http"


def has_exporter(signal: str) -> bool:
    """Whether OpenTelemetry's own variables set up an exporter of this signal."""
    return (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() != "none"
        and any(
            os.environ.get(name) for name in (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        )
    )


def telemetry_config() -> TelemetryConfig:
    """FastAPI's `telemetry`: on for each signal that has an exporter. For another it would look,
    with each request, whether somebody has set one up by now.

    Raises `StartupError` where the packages that export aren't installed.
    """
    tracing, metrics, logs = map(has_exporter, ("TRACES", "METRICS", "LOGS"))
    if tracing or metrics or logs:
        try:
            version(EXPORTER)
        except PackageNotFoundError:
            raise StartupError(
                "OTEL_EXPORTER_OTLP_ENDPOINT, or one of a signal, is set,"
                " but what exports isn't installed: start it by `uv run --group telemetry …`, or"
                " unset it."
            ) from None
    return {"tracing": tracing, "metrics": metrics, "logs": logs, "auto_configure": True}


class RedactSpans:
    """Leaves out of a request's span what the log leaves out, too: its query, and a token in its
    path. FastAPI has them there as they came.
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
