"""The class of all task routes: their paths, the access check, the strict reading of a body, and the refusals."""
# [Task]: T021, T064, T065, T076, T080, T096, T100, T138, T144, T154 [From]: specs/features/authentication.md, specs/features/task-crud.md, specs/api/rest-endpoints.md, specs/reliability.md, specs/features/live-changes.md

import asyncio
import re
from collections.abc import Callable, Coroutine
from math import isfinite
from typing import Any

from fastapi import HTTPException, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.routing import compile_path

from auth.access import AuthorizedRequest, verify_user_access
from metrics import TIMEOUTS
from routes.idempotency import read_key
from routes.openapi import TEXT_HEADER, operation_id, problem
from schemas import InvalidRequest

MAX_BODY_BYTES = 64 * 1024

STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
# The lookbehind keeps the search linear: no number is read again from its second digit on.
LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{1000}")

TOO_LONG = {"msg": "A number has too many digits", "type": "finite_number"}
TOO_LARGE = {"msg": "A number is too large", "type": "finite_number"}
NUL = {"msg": "Text can't contain a NUL character", "type": "nul_character"}

RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}}}
REFUSALS = {
    401: problem("Missing or invalid token", headers={"WWW-Authenticate": TEXT_HEADER}),
    403: problem("The token is for another user, or plain HTTP isn't served"),
    422: {"model": InvalidRequest, "description": "Invalid input"},
    429: problem("Too many requests, or too many open streams", headers=RETRY_AFTER),
    500: problem("Unexpected error"),
    503: problem("The database or the key server is unavailable", headers=RETRY_AFTER),
}
NO_TASK = {404: problem("No such task of this user")}
BAD_BODY = {
    408: problem("The body did not arrive in time"),
    413: problem("The body is over 64 KiB"),
    415: problem("The body is not `application/json`"),
}


class UserSegment(StringConvertor):
    """`/{user_id}`, or nothing for the token's own user. A path that can be read both ways has its user."""

    regex = "/[^/]+|(?!/[^/]+/tasks(?:/|$))"

    def convert(self, value: str) -> str:
        return value.removeprefix("/")


class TaskSegment(StringConvertor):
    """Any segment but `bulk` and `events`, which are paths of their own."""

    regex = "(?!(?:bulk|events)$)[^/]+"


register_url_convertor("user", UserSegment())
register_url_convertor("task", TaskSegment())


class VerifiedRequest(AuthorizedRequest):
    """A request whose access is verified, and whose body is read and parsed."""

    idempotency_key: str | None
    content: bytes
    value: object

    async def body(self) -> bytes:
        return self.content

    async def json(self) -> object:
        return self.value


class TaskRoute(APIRoute):
    """A route on a user's tasks, also at the path without the user, which reads the declared body strictly and only
    after the access check. FastAPI by itself would read and parse a stranger's body before it ran any dependency.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        refusals = REFUSALS | (NO_TASK if "{task_id}" in path else {})
        if not {"POST", "PUT", "PATCH"}.isdisjoint(options["methods"]):
            refusals |= BAD_BODY
        options |= {"responses": refusals | (options["responses"] or {}), "generate_unique_id_function": operation_id}
        super().__init__(path, endpoint, **options | {"strict_content_type": False})
        self.needs_body = self.body_field is not None and self.body_field.field_info.is_required()
        pattern = path.replace("/{user_id}", "{user_id:user}").replace("{task_id}", "{task_id:task}")
        self.path_regex, _, self.param_convertors = compile_path(pattern)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def verify_and_handle(request: Request) -> Response:
            return await handle(await self.verify(request))

        return verify_and_handle

    async def verify(self, request: Request) -> VerifiedRequest:
        """Checks the access, then reads the key and the body, each of which may refuse the request."""
        if verify_user_access in getattr(self.dependency_overrides_provider, "dependency_overrides", ()):
            # The override may depend on anything, so FastAPI runs it, behind the body.
            verified = VerifiedRequest(request.scope, request.receive)
        else:
            # `read_body` judges the media type, so FastAPI needn't parse it again, which takes 4 % of a request.
            headers = [header for header in request.scope["headers"] if header[0] != b"content-type"]
            verified = VerifiedRequest({**request.scope, "headers": headers}, request.receive)
            verified.user_database = await verify_user_access(request, request.path_params["user_id"])
        verified.idempotency_key = read_key(request) if request.method == "POST" else None
        verified.content = await read_body(request, is_required=self.needs_body)
        if not verified.content and not self.needs_body:
            verified.content = b"{}"
        verified.value = parse_json(verified.content)
        return verified


async def read_body(request: Request, *, is_required: bool) -> bytes:
    """Reads the body. Answers 415 to any media type but JSON, 413 to more than 64 KiB, declared or received, and 408
    to a body that is incomplete after `BODY_TIMEOUT`. A body that may be absent has no type then.
    """
    media_types = [one.partition(";")[0].strip(" \t").lower() for one in request.headers.getlist("content-type")]
    is_json = media_types == ["application/json"]
    if is_required and not is_json:
        raise not_json()
    # The first twenty digits are enough, and Python refuses to parse five thousand.
    declared = request.headers.get("content-length", "").lstrip("0")[:20]
    if declared.isascii() and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large()
    body = bytearray()
    try:
        # One limit for the whole body, so that a client can't hold on by a byte now and then.
        async with asyncio.timeout(request.app.state.settings.body_timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large()
    except TimeoutError:
        TIMEOUTS.labels("body").inc()
        # The rest of the body may still arrive, and must not pass for the next request (RFC 9110, section 15.5.9).
        headers = {"Connection": "close"}
        raise HTTPException(status.HTTP_408_REQUEST_TIMEOUT, "The body did not arrive in time", headers) from None
    if body and not is_json:
        raise not_json()
    return bytes(body)


def not_json() -> HTTPException:
    return HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "The body must be application/json")


def too_large() -> HTTPException:
    return HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"The body must be at most {MAX_BODY_BYTES} bytes")


def parse_json(body: bytes) -> object:
    """Parses JSON (RFC 8259) whose values Python and Postgres can store. Raises `RequestValidationError`.

    pydantic-core's parser refuses text that isn't UTF-8, lone surrogates, `NaN`, `Infinity` and deep nesting.
    """
    try:
        content: object = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        fault: dict[str, str] | None = {"msg": f"Invalid JSON: {error}", "type": "json_invalid"}
    else:
        is_long = LONG_NUMBER.search(body) and LONG_NUMBER.search(STRING.sub(b"", body))
        fault = TOO_LONG if is_long else find_unstorable(content)
    if fault is not None:
        raise RequestValidationError([{"loc": ("body",), **fault}])
    return content


def find_unstorable(content: object) -> dict[str, str] | None:
    """Finds a NUL character, also in a key, or a number too large for a float (`1e999`), at any depth."""
    values = [content]
    for value in values:
        if isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value
        elif isinstance(value, str) and "\0" in value:
            return NUL
        elif isinstance(value, float) and not isfinite(value):
            return TOO_LARGE
    return None
