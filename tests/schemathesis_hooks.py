"""What a schema can't say, for schemathesis."""
# [Task]: T090 [From]: specs/reliability.md

from typing import Any
from uuid import uuid4

import schemathesis

from routes.idempotency import HEADER, KEY


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Makes a good key a new one: an old one with another body is refused, and rightly so."""
    key = (case.headers or {}).get(HEADER)
    if isinstance(key, str) and KEY.fullmatch(key):
        case.headers[HEADER] = uuid4().hex
