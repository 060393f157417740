"""ASGI middleware alone, a class a file, from the outside to the inside: `RequestLog`, `Normalize`, `Cors`,
`AnswerErrors`; at a start `PlainStartupErrors`, and with OpenTelemetry `RedactSpans`.
"""
# [Task]: T070 [From]: specs/api/rest-endpoints.md

from starlette.types import Scope


def first_header(scope: Scope, name: bytes) -> str | None:
    """The first header of this lower-case name, without Starlette's object for all headers, which costs more."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def is_task_path(scope: Scope) -> bool:
    """Whether the path is one of tasks, behind a proxy's prefix (`--root-path`) or not."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).startswith("/api/")
