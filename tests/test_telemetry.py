"""FastAPI's OpenTelemetry: off without an exporter, and without secrets with one."""
# [Task]: T097 [From]: specs/reliability.md

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from threading import Thread

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

import main
from main import create_app
from runtime.telemetry import telemetry_config
from tests.leaks import SECRET, watch
from tests.server import uvicorn_process
from tests.service import bearer, make_settings, make_token

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
URL = "http://127.0.0.1:4318"


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The URL of a collector (OTLP/HTTP), and the paths and bodies of what was sent to it."""
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes_of(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


@pytest.mark.requirement("T097")
def test_telemetry_is_off_by_default() -> None:
    app = create_app(make_settings())

    assert not app._native_telemetry.enabled()
    assert "RedactSpans" not in str(app.user_middleware)


@pytest.mark.requirement("T097")
@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, []),
        ({ENDPOINT: ""}, []),
        ({"OTEL_SERVICE_NAME": "todo", "OTEL_TRACES_EXPORTER": "otlp"}, []),
        ({ENDPOINT: URL}, ["tracing", "metrics", "logs"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, ["tracing"]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL}, ["metrics"]),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": URL}, ["logs"]),
        ({ENDPOINT: URL, "OTEL_METRICS_EXPORTER": "none"}, ["tracing", "logs"]),
        ({ENDPOINT: URL, "OTEL_TRACES_EXPORTER": "None "}, ["metrics", "logs"]),
        ({ENDPOINT: URL, "OTEL_SDK_DISABLED": "True"}, []),
        ({ENDPOINT: URL, "OTEL_SDK_DISABLED": "false"}, ["tracing", "metrics", "logs"]),
    ],
    ids=str,
)
def test_each_signal_with_an_exporter_is_on(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], on: list[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    config = telemetry_config()

    assert [name for name, value in config.items() if value] == [*on, "auto_configure"]
    names = str(create_app(make_settings()).user_middleware)
    assert ("RedactSpans" in names) is ("tracing" in on)


@pytest.mark.requirement("T078", "T097")
def test_a_start_without_the_exporter_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def find_none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENDPOINT, "http://user:hunter2@127.0.0.1:4318")
    monkeypatch.setattr("runtime.telemetry.version", find_none)

    with pytest.raises(SystemExit) as end:
        main.create_app(make_settings())

    first, second = str(end.value).splitlines()
    assert first == "The service can't start."
    assert second.startswith(f"{ENDPOINT}, or one of a signal, is set, but its packages aren't")
    assert "uv run --group telemetry" in second
    assert "hunter2" not in second


@pytest.mark.requirement("T081", "T097")
async def test_a_requests_span_arrives_without_secrets(tmp_path: Path) -> None:
    token = make_token("me")
    with collector() as (endpoint, received):
        environment = {"BETTER_AUTH_SECRET": SECRET, ENDPOINT: endpoint}
        async with uvicorn_process(tmp_path, **environment) as server:
            async with httpx.AsyncClient(base_url=await server.url(), headers=bearer(token)) as client:
                assert (await client.get("/api/me/tasks")).status_code == 200
                assert (await client.get(f"/api/me/tasks?token={token}")).status_code == 422
                assert (await client.get(f"/api/{token}/tasks")).status_code == 403
                task = {"title": "Buy milk"}
                assert (await client.post("/api/me/tasks", json=task)).status_code == 201
            server.process.terminate()
            await server.end()

    # The remaining spans are sent before the end.
    traces = [ExportTraceServiceRequest.FromString(body) for path, body in received if path == "/v1/traces"]
    spans = [
        span
        for trace in traces
        for resource in trace.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    requests = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert [span.name for span in requests] == [*["GET /api/{user_id}/tasks"] * 3, "POST /api/{user_id}/tasks"]
    shown = [attributes_of(span) for span in requests]
    assert [one["url.path"] for one in shown] == [
        *("/api/me/tasks", "/api/me/tasks", "/api/[token]/tasks", "/api/me/tasks")
    ]
    assert [one.get("url.query") for one in shown] == [None, "REDACTED", None, None]
    names = {
        metric.name
        for path, body in received
        if path == "/v1/metrics"
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert "http.server.request.duration" in names
    for path, body in received:
        text = body.decode("latin-1")
        watch.read(text, f"what was sent to {path}")
        assert "Buy milk" not in text
