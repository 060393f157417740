"""OpenTelemetry, for each signal that its standard environment variables export."""
# [Task]: T097 [From]: specs/reliability.md

import os
from importlib.metadata import PackageNotFoundError, version

from fastapi.telemetry import TelemetryConfig

from errors import StartupError


def has_exporter(signal: str) -> bool:
    """Whether OpenTelemetry's own variables set up an exporter of this signal."""
    return (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() != "none"
        and any(map(os.environ.get, (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")))
    )


def telemetry_config() -> TelemetryConfig:
    """Returns FastAPI's `telemetry`, on for each signal that has an exporter: if another were on, FastAPI would look
    for an exporter with each request.

    Raises `StartupError` if the packages that export aren't installed.
    """
    tracing, metrics, logs = map(has_exporter, ("TRACES", "METRICS", "LOGS"))
    if tracing or metrics or logs:
        try:
            version("opentelemetry-exporter-otlp-proto-http")
        except PackageNotFoundError:
            raise StartupError(
                "OTEL_EXPORTER_OTLP_ENDPOINT, or one of a signal, is set, but its packages aren't installed: start with"
                " `uv run --group telemetry …`, or unset it."
            ) from None
    return {"tracing": tracing, "metrics": metrics, "logs": logs, "auto_configure": True}
