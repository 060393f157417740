"""The `Idempotency-Key` of a request, which makes it safe to send again."""
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

PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Any text that is this request's own, a UUID for example. Sent again with the"
    " same body it makes nothing new: the answer is the task that the first one made.",
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_LENGTH, "pattern": "^[!-~]*$"},
}


def read_key(request: Request) -> str | None:
    """The request's key. Raises `RequestValidationError` for two of them, and for one that isn't
    1 to 255 visible ASCII characters.
    """
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not KEY.fullmatch(key):
        raise refused(
            f"The key should be 1 to {IDEMPOTENCY_KEY_LENGTH} visible ASCII characters", "idempotency_key_invalid"
        )
    return key


def refused(message: str, kind: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("header", HEADER), "msg": message, "type": kind}])


def digest_of(content: BaseModel) -> bytes:
    """The same for two bodies that mean the same, whatever their white space, the order of their
    fields and fields that nobody knows.
    """
    return sha256(json.dumps(content.model_dump(), sort_keys=True).encode()).digest()
