"""Every refusal of a request and of a start. A request's is JSON, `{"detail": …}`, and holds no input,
SQL, secret or traceback.

    StartupError
    ServiceUnavailable
      DatabaseUnavailable  (backends/faults.py)
"""
# [Task]: T062, T063 [From]: specs/api/rest-endpoints.md

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2


class StartupError(SystemExit):
    """The service can't start. The reasons are ready to print and show no secret.

    Where it isn't caught, Python prints its message and exits with 1. In a lifespan,
    `PlainStartupErrors` passes it to the server.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(["The service can't start.", *reasons]))
        self.reasons = reasons


class ServiceUnavailable(Exception):
    """The database or the key server, which an answer needs, can't serve right now.

    `reason` is for the log. The client gets a 503 with `detail` and `Retry-After`, in seconds.
    """

    def __init__(self, reason: str, *, detail: str, retry_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(reason)
        self.detail = detail
        self.retry_after = retry_after

    def count(self) -> None:
        """Counts the error in the metrics, when it is answered."""


def first_reason(reasons: Mapping[str, object]) -> str | None:
    """Returns the first reason to refuse that holds, if one does."""
    return next((reason for reason, holds in reasons.items() if holds), None)


def invalid_request(loc: tuple[str, ...], message: str, kind: str) -> RequestValidationError:
    """A 422 that says what is wrong with one part of a request."""
    return RequestValidationError([{"loc": loc, "msg": message, "type": kind}])


def error_response(status_code: int, detail: object, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status_code, headers)


def answer_http_error(request: Request, error: HTTPException) -> Response:
    # `Normalize` adds `Allow`, here and on a 405.
    if request.method == "OPTIONS" and error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return error_response(error.status_code, error.detail, dict(error.headers or {}))


def answer_invalid_request(_request: Request, error: RequestValidationError) -> Response:
    # Only these three: pydantic's `input` and `ctx` repeat what the client sent.
    faults = [{name: fault[name] for name in ("loc", "msg", "type")} for fault in error.errors()]
    return error_response(status.HTTP_422_UNPROCESSABLE_CONTENT, faults)


def answer_unavailable(_request: Request, error: ServiceUnavailable) -> Response:
    logger.error("%s", error)
    error.count()
    return answer_503(error.detail, error.retry_after)


def answer_503(detail: str, retry_after: int = RETRY_AFTER_SECONDS) -> Response:
    return error_response(status.HTTP_503_SERVICE_UNAVAILABLE, detail, {"Retry-After": str(retry_after)})


ERROR_HANDLERS: dict[int | type[Exception], Any] = {
    HTTPException: answer_http_error,
    RequestValidationError: answer_invalid_request,
    ServiceUnavailable: answer_unavailable,
}
