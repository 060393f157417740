"""The `Idempotency-Key` of a request, which makes it safe to repeat."""
# [Task]: T090 [From]: specs/reliability.md

import json
import re
from hashlib import sha256
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from models import IDEMPOTENCY_KEY_LENGTH

HEADER = "Idempotency-Key"
KEY = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH}}}")
# Documented here, since a header that a route declares costs 24 µs, and FastAPI would accept several.
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Any text of this request's own, a UUID for example. Sent again with the same body, it makes nothing"
    " new: the answer is the task that the first one made.",
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_LENGTH, "pattern": "^[!-~]*$"},
}


def read_key(request: Request) -> str | None:
    """Reads the request's key. Raises `RequestValidationError` for several keys, and for one that isn't 1 to 255
    visible ASCII characters.
    """
    keys = request.headers.getlist(HEADER)
    if keys and (len(keys) > 1 or not KEY.fullmatch(keys[0])):
        raise refused(
            f"The key should be 1 to {IDEMPOTENCY_KEY_LENGTH} visible ASCII characters", "idempotency_key_invalid"
        )
    return keys[0] if keys else None


def refused(message: str, kind: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("header", HEADER), "msg": message, "type": kind}])


def digest_of(content: BaseModel) -> bytes:
    """Digests the meaning of a body, regardless of white space, the order of its fields, and unknown fields."""
    return sha256(json.dumps(content.model_dump(), sort_keys=True).encode()).digest()
