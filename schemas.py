"""Bodies, parameters and answers of the API, with all their bounds. Answers have no defaults, so that no field of a
generated TypeScript type is optional.
"""
# [Task]: T007, T008, T009, T010, T012, T129, T130, T131, T132, T133, T134, T138, T139, T140, T141, T142 [From]: specs/features/task-crud.md

import re
from datetime import datetime
from operator import not_
from typing import Annotated, Any, Literal

from pydantic import (
    MISSING,
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from models import DESCRIPTION_LENGTH, TITLE_LENGTH

# The largest bigint of Postgres, the type of ids and offsets.
BIGGEST_INTEGER = 2**63 - 1
ID = re.compile("[0-9]{1,19}")
MOST_IDS = 200
MOST_TASKS = 100


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


def no_nul(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul_character", "Text can't contain a NUL character")
    return value


def read_ids(value: str) -> list[int]:
    ids = value.split(",")
    if len(ids) > MOST_IDS or not all(ID.fullmatch(one) and 0 < int(one) <= BIGGEST_INTEGER for one in ids):
        raise PydanticCustomError("ids", f"Input should be 1 to {MOST_IDS} ids with commas between")
    return list(map(int, ids))


def not_beside(*others: str) -> AfterValidator:
    """Refuses a parameter beside one of these, which are declared before it."""

    def check(value: Any, info: ValidationInfo) -> Any:
        if any(info.data.get(other, MISSING) is not MISSING for other in others):
            raise PydanticCustomError("conflict", f"Not beside {' or '.join(others)}")
        return value

    return AfterValidator(check)


# The patterns tell clients what is enforced elsewhere: `routes/task_route.py` refuses NUL, which Postgres can't store,
# and `min_length` after `trim` refuses mere white space.
WITHOUT_NUL = Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
Title = Annotated[
    str,
    StringConstraints(min_length=1, max_length=TITLE_LENGTH),
    Field(description="White space around it is trimmed first.", examples=["Buy milk"]),
    Field(json_schema_extra={"pattern": r"^[^\x00]*\S[^\x00]*$"}),
    BeforeValidator(trim),
]
Description = Annotated[
    Annotated[str, StringConstraints(max_length=DESCRIPTION_LENGTH), WITHOUT_NUL] | None, Field(examples=["Two litres"])
]
TaskId = Annotated[int, Field(ge=1, le=BIGGEST_INTEGER), BeforeValidator(only_digits)]
ExactId = Annotated[StrictInt, Field(ge=1, le=BIGGEST_INTEGER)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(only_digits)]
Status = Literal["all", "pending", "completed"]
Sort = Literal["created", "updated", "title"]
Order = Literal["asc", "desc"]
Offset = Annotated[int, Field(ge=0, le=BIGGEST_INTEGER), BeforeValidator(only_digits)]
Flag = Annotated[bool, BeforeValidator(true_or_false)]
Search = Annotated[str, BeforeValidator(trim), StringConstraints(max_length=200), AfterValidator(no_nul), WITHOUT_NUL]
Ids = Annotated[
    list[int],
    BeforeValidator(read_ids),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+(,[0-9]+)*$", "examples": ["3,5,9"]}),
]


class TaskSelection(BaseModel, extra="forbid", frozen=True, use_attribute_docstrings=True):
    """Which tasks, by whether they are completed."""

    status: Status | MISSING = MISSING
    """Only these; `all` is the default."""
    completed: Annotated[Flag | MISSING, not_beside("status")] = MISSING
    """`true` is `status=completed`, `false` is `status=pending`."""

    @property
    def is_completed(self) -> bool | None:
        """What `completed` is to be, or None for any."""
        if self.completed is not MISSING:
            return self.completed
        return None if self.status is MISSING or self.status == "all" else self.status == "completed"


class ListQuery(TaskSelection):
    """Which tasks, in which order, and which page of them."""

    search: Search = ""
    """Only tasks whose title or description contains this text, whatever its case."""
    sort: Sort = "created"
    """`created` sorts by id, `title` by its lower case."""
    order: Order = "asc"
    """The direction, also of the ids of equal keys."""
    limit: Limit = 100
    """How many tasks at most."""
    offset: Offset | MISSING = MISSING
    """How many tasks to skip."""
    skip: Offset | MISSING = MISSING
    """Another name for `offset`."""
    cursor: Annotated[str | MISSING, not_beside("offset", "skip")] = MISSING
    """Where the page before ended: it is in that page's `Link`."""
    count: Flag = False
    """Adds `X-Total-Count`: how many tasks there are on all pages."""

    @property
    def first(self) -> int:
        """How many tasks to skip."""
        return next((number for number in (self.offset, self.skip) if number is not MISSING), 0)


class DeleteQuery(TaskSelection):
    """Which tasks to delete, by exactly one of the three."""

    status: Status | MISSING = MISSING
    """Deletes these, 1000 a request. One of `status`, `completed` and `ids` is required."""

    ids: Annotated[Ids | MISSING, not_beside("status", "completed")] = MISSING
    """Up to 200 ids, separated by commas."""


class TaskCreate(BaseModel):
    """A new task. Unknown fields are ignored, but text in them can't contain a NUL character."""

    title: Title
    # Factories keep the defaults out of the OpenAPI document: TypeScript generators make a field with a default
    # required.
    description: Description = Field(default_factory=lambda: None)
    # False is left out of the digest for an `Idempotency-Key`, as it was before there was this field.
    completed: StrictBool = Field(default_factory=lambda: False, exclude_if=not_)


class TasksCreate(BaseModel):
    """New tasks, of which all are created or none."""

    tasks: Annotated[list[TaskCreate], Field(min_length=1, max_length=MOST_TASKS)]


class TaskUpdate(BaseModel):
    """Any of a task's fields: what is absent stays, and only `description` can be null. Unknown fields are ignored, as
    in `TaskCreate`.
    """

    title: Title | MISSING = MISSING
    description: Description | MISSING = MISSING
    completed: StrictBool | MISSING = MISSING


class TaskComplete(BaseModel):
    """Sets `completed`; without a value it is flipped."""

    completed: StrictBool | MISSING = MISSING


class TasksComplete(BaseModel):
    """Sets `completed` of several tasks."""

    ids: Annotated[list[ExactId], Field(min_length=1, max_length=1000)]
    completed: StrictBool


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


class DeletedTasks(BaseModel):
    """Which tasks were deleted, ascending."""

    ids: list[int]


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
