"""Bodies, parameters and answers of the API, with all their bounds. Answers have no defaults, so that no field of a
generated TypeScript type is optional.
"""
# [Task]: T007, T008, T009, T010, T012 [From]: specs/features/task-crud.md

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    MISSING,
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from models import DESCRIPTION_LENGTH, TITLE_LENGTH

# The largest bigint of Postgres, the type of ids and offsets.
BIGGEST_INTEGER = 2**63 - 1


def trim(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def only_digits(value: object) -> object:
    """Refuses signs, blanks and underscores, which pydantic's lax `int` accepts."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise PydanticCustomError("int_parsing", "Input should be plain decimal digits")
    return value


def true_or_false(value: object) -> object:
    """Refuses 1, yes, on, T and the like, which pydantic's lax `bool` accepts."""
    if value in {"true", "false"}:
        return value == "true"
    raise PydanticCustomError("bool_parsing", "Input should be true or false")


# The patterns tell clients what is enforced elsewhere: `routes/task_route.py` refuses NUL, which Postgres can't store,
# and `min_length` after `trim` refuses mere white space.
Title = Annotated[
    str,
    StringConstraints(min_length=1, max_length=TITLE_LENGTH),
    Field(
        description="White space around it is trimmed first.",
        json_schema_extra={"pattern": r"^[^\x00]*\S[^\x00]*$"},
        examples=["Buy milk"],
    ),
    BeforeValidator(trim),
]
Description = Annotated[
    Annotated[
        str, StringConstraints(max_length=DESCRIPTION_LENGTH), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
    ]
    | None,
    Field(examples=["Two litres"]),
]
TaskId = Annotated[int, Field(ge=1, le=BIGGEST_INTEGER), BeforeValidator(only_digits)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(only_digits)]
Offset = Annotated[int, Field(ge=0, le=BIGGEST_INTEGER), BeforeValidator(only_digits)]
Completed = Annotated[
    # None means that it is absent, since a query has no null.
    bool | None, WithJsonSchema({"type": "boolean"}), BeforeValidator(true_or_false)
]


class TaskCreate(BaseModel):
    """A new task. Fields that aren't named here are passed over, but text in them can't contain a NUL character."""

    title: Title
    # A factory keeps the default out of the OpenAPI document: TypeScript generators make a field with a default
    # required.
    description: Description = Field(default_factory=lambda: None)


class TaskUpdate(BaseModel):
    """Any of a task's fields; what is absent stays, and only `description` can be null. Fields that aren't named here
    are passed over, as in `TaskCreate`.
    """

    title: Title | MISSING = MISSING
    description: Description | MISSING = MISSING
    completed: StrictBool | MISSING = MISSING


class TaskPublic(TypedDict):
    """A task as it is answered, its times in UTC (RFC 3339)."""

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


# These serialise rows without validating them, since the database holds only what was validated.
TASK: TypeAdapter[Any] = TypeAdapter(TaskPublic)
TASKS: TypeAdapter[Any] = TypeAdapter(list[TaskPublic])


class Health(BaseModel):
    status: Literal["healthy"]


class Readiness(BaseModel):
    status: Literal["ready"]


class Problem(BaseModel):
    """Why a request was not served."""

    detail: str


class Fault(BaseModel):
    """One thing that is wrong with a request: where (`loc`), what, and which kind of error."""

    loc: list[str | int]
    msg: str
    type: str


class InvalidRequest(BaseModel):
    detail: list[Fault]
