"""Reads a JSON body strictly, and only for a user whose token is good."""
# [Task]: T021, T064, T065, T080, T096, T100 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md, specs/reliability.md

import asyncio
import re
from math import isfinite
from typing import TypeVar

from fastapi import HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from config import Settings
from metrics import TIMEOUTS

MAX_BODY_BYTES = 64 * 1024

STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
# Only from the first digit on, or each of a shorter number would be looked at as a first one.
LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{1000}")

Model = TypeVar("Model", bound=BaseModel)


async def parse_body(request: Request, model: type[Model]) -> Model:
    """The request's body as `model`. Raises what `read_body` and `parse_json` raise, and
    `RequestValidationError` for what the model doesn't take.

    A route calls this by itself. FastAPI would read and parse a body that a route declares before
    any dependency runs, a stranger's too.
    """
    content = parse_json(await read_body(request))
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults) from None


async def read_body(request: Request) -> bytes:
    """The bytes of the body. Raises 415 for another media type than JSON, and 413 for more than
    `MAX_BODY_BYTES`, on the declared length or on the first byte too many, and 408 for a body that
    isn't all there after `BODY_TIMEOUT`.
    """
    media_types = request.headers.getlist("content-type")
    essences = [one.partition(";")[0].strip(" \t").lower() for one in media_types]
    if essences != ["application/json"]:
        raise HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "The body must be application/json")
    # Python makes no number of five thousand digits, and the first twenty tell.
    declared = request.headers.get("content-length", "").lstrip("0")[:20]
    if declared.isascii() and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large()
    settings: Settings = request.app.state.settings
    body = bytearray()
    try:
        # For the whole of it: a client that sends a byte now and then is given up, too.
        async with asyncio.timeout(settings.body_timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large()
    except TimeoutError:
        TIMEOUTS.labels("body").inc()
        raise HTTPException(
            status.HTTP_408_REQUEST_TIMEOUT,
            "The body did not arrive in time",
            # The rest of it may still come, and is no next request (RFC 9110, section 15.5.9).
            headers={"Connection": "close"},
        ) from None
    return bytes(body)


def too_large() -> HTTPException:
    return HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"The body must be at most {MAX_BODY_BYTES} bytes")


def parse_json(body: bytes) -> object:
    """Parses JSON (RFC 8259) that Python and Postgres can hold. Raises `RequestValidationError`.

    pydantic-core's parser refuses what isn't UTF-8, lone surrogates, `NaN` and `Infinity`, and
    absurd nesting.
    """
    try:
        content: object = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        fault: dict[str, str] | None = {"msg": f"Invalid JSON: {error}", "type": "json_invalid"}
    else:
        fault = find_long_number(body) or find_unstorable(content)
    if fault is not None:
        raise RequestValidationError([{"loc": ("body",), **fault}])
    return content


def find_long_number(body: bytes) -> dict[str, str] | None:
    """What is wrong with a body that spells out a number in a thousand digits or more."""
    if LONG_NUMBER.search(body) and LONG_NUMBER.search(STRING.sub(b"", body)):
        return {"msg": "A number has too many digits", "type": "finite_number"}
    return None


def find_unstorable(content: object) -> dict[str, str] | None:
    """What is wrong with a value that has a NUL character, in a key too, or a number beyond a
    float (`1e999`), wherever in it they stand.
    """
    values = [content]
    for value in values:
        if isinstance(value, str):
            if "\0" in value:
                return {"msg": "Text can't contain a NUL character", "type": "nul_character"}
        elif isinstance(value, float):
            if not isfinite(value):
                return {"msg": "A number is too large", "type": "finite_number"}
        elif isinstance(value, dict):
            values += value.keys()
            values += value.values()
        elif isinstance(value, list):
            values += value
    return None
