"""Closed queries: a parameter that is unknown, or sent twice, is refused rather than ignored."""
# [Task]: T134 [From]: specs/features/task-crud.md

from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from errors import invalid_request

Query = TypeVar("Query", bound=BaseModel)


def read_query(request: Request, model: type[Query]) -> Query:
    """Reads the query. Raises `RequestValidationError`, with the parameter in `loc`."""
    query = request.scope["query_string"]
    if not query:
        return model()
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise invalid_request(("query", name), "Sent more than once", "repeated")
        if "\ufffd" in value and b"%ef%bf%bd" not in query.lower():
            raise invalid_request(("query", name), "Text should be UTF-8", "unicode")
        values[name] = value
        if len(values) > len(model.model_fields):
            break  # one has an unknown name, and a refusal that lists thousands would hold up other requests
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors()]) from None
