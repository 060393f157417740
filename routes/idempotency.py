"""The `Idempotency-Key` of a request, which makes it safe to repeat."""
# [Task]: T090 [From]: specs/reliability.md

import json
import re
from hashlib import sha256
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from errors import invalid_request
from models import IDEMPOTENCY_KEY_LENGTH

HEADER = "Idempotency-Key"
EXPOSED_HEADERS = ("Location", "Idempotency-Replayed")
KEY = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH}}}")
# Documented here, since a header that a route declares costs 24 µs, and FastAPI would accept several.
# Not declared as a parameter, which would cost 24 µs and accept several.
KEY_SCHEMA = {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_LENGTH, "pattern": "^[!-~]*$"}
DOCUMENTED: dict[str, Any] = {
    "responses": {201: {"headers": {name: {"schema": {"type": "string"}} for name in EXPOSED_HEADERS}}},
    "openapi_extra": {
        "parameters": [
            {
                "name": HEADER,
                "in": "header",
                "required": False,
                "description": "Any text of this request's own, a UUID for example. Sent again with the same body, it"
                " makes nothing new: the answer is what the first one made.",
                "schema": KEY_SCHEMA,
            }
        ]
    },
}


def read_key(request: Request) -> str | None:
    """Reads the request's key. Raises `RequestValidationError` for several keys, and for one that isn't 1 to 255
    visible ASCII characters.
    """
    keys = request.headers.getlist(HEADER)
    if keys and (len(keys) > 1 or not KEY.fullmatch(keys[0])):
        message = f"The key should be 1 to {IDEMPOTENCY_KEY_LENGTH} visible ASCII characters"
        raise invalid_request(("header", HEADER), message, "idempotency_key_invalid")
    return keys[0] if keys else None


def reused() -> RequestValidationError:
    return invalid_request(("header", HEADER), "The key was used with another body", "idempotency_key_reused")


def item_keys(key: str | None, count: int) -> list[str | None]:
    """Returns a key for each item of a list. None is the key of a single task, since those hold no blank."""
    return [key and f"{sha256(key.encode()).hexdigest()} {number}" for number in range(count)]


def digest_of(content: BaseModel) -> bytes:
    """Digests the meaning of a body, regardless of white space, the order of its fields, and unknown fields."""
    return sha256(json.dumps(content.model_dump(), sort_keys=True).encode()).digest()
