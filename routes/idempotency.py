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
from routes.openapi import TEXT_HEADER, header_parameter
from schemas import MOST_TASKS

HEADER = "Idempotency-Key"
KEY = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH}}}")
PARAMETER = header_parameter(
    HEADER,
    "A key that is unique to this request, such as a UUID. Repeating the request with the same body creates nothing"
    " new: the answer is what the first one created.",
    {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_LENGTH, "pattern": "^[!-~]*$"},
)


def documented(*headers: str) -> dict[str, Any]:
    """Documents a route that takes a key, with the headers of its answer."""
    answer = dict.fromkeys((*headers, "Idempotency-Replayed"), TEXT_HEADER)
    return {"responses": {201: {"headers": answer}}, "openapi_extra": {"parameters": [PARAMETER]}}


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


def item_keys(key: str) -> list[str]:
    """Returns the keys of all items that a list may have. None can be the key of a single task, which has no space."""
    name = sha256(key.encode()).hexdigest()
    return [f"{name} {number}" for number in range(MOST_TASKS)]


def item_number(key: str) -> int:
    """The place in its list of the item with this key."""
    return int(key.rpartition(" ")[2])


def digest_of(content: BaseModel) -> bytes:
    """Digests the meaning of a body, regardless of white space, the order of its fields, and unknown fields."""
    return sha256(json.dumps(content.model_dump(), sort_keys=True).encode()).digest()
