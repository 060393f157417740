"""Judges which rows of another program's table fit the service's."""
# [Task]: T182 [From]: specs/features/moving.md

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError
from sqlalchemy import Row
from typing_extensions import TypedDict

from models import IDEMPOTENCY_KEY_LENGTH, USER_ID_LENGTH
from schemas import Description, Title, no_nul

# JavaScript holds no number above 2^53 exactly, and the ids go on behind this one.
BIGGEST_ID = 2**52
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
# How many ids are shown for a reason.
SHOWN_IDS = 5


def read_id(value: object) -> object:
    """Reads a whole number of the type numeric, too."""
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


def read_user(value: object, info: ValidationInfo) -> object:
    """Reads a user's id, which others keep as a number or a UUID, too."""
    value = str(value) if isinstance(value, int | UUID) and not isinstance(value, bool) else value
    users: set[str] | None = (info.context or {})["users"]
    if value is None:
        raise PydanticCustomError("no_user", "There is none")
    if users is not None and value not in users:
        raise PydanticCustomError("unknown_user", "There is no such user in USER_TABLE")
    return value


def read_completed(value: object) -> object:
    # SQLite has no booleans, and a column without a default is null.
    return bool(value) if value is None or value in (0, 1) else value


def read_time(value: datetime, info: ValidationInfo) -> datetime:
    """Returns a time in UTC. One without a zone has that of the context."""
    context = info.context or {}
    value = value if value.tzinfo else value.replace(tzinfo=context["zone"])
    if not EARLIEST <= value < context["now"] + timedelta(days=1):
        raise PydanticCustomError("time", "Time should be between 1970 and tomorrow")
    return value.astimezone(UTC)


def refuse_number(value: object) -> object:
    """Refuses a number, also as a text: it may be seconds, milliseconds or a day."""
    is_number = isinstance(value, int | float | Decimal)
    if is_number or (isinstance(value, str) and re.fullmatch(r"[+-]?\d*\.?\d*", value)):
        raise PydanticCustomError("number", "Time should be a date and a time, not a number")
    return value


def optional_text(value: str | None) -> str | None:
    return value and no_nul(value)


Time = Annotated[datetime, BeforeValidator(refuse_number), AfterValidator(read_time)]


class FittingTask(TypedDict):
    """A row as the service's table takes it."""

    id: Annotated[StrictInt, Field(ge=1, le=BIGGEST_ID), BeforeValidator(read_id)]
    user_id: Annotated[
        str,
        StringConstraints(min_length=1, max_length=USER_ID_LENGTH),
        BeforeValidator(read_user),
        AfterValidator(no_nul),
    ]
    title: Annotated[Title, AfterValidator(no_nul)]
    description: Annotated[Description, AfterValidator(optional_text)]
    completed: Annotated[bool, BeforeValidator(read_completed)]
    created_at: Time | None
    updated_at: Time | None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=IDEMPOTENCY_KEY_LENGTH)] | None
    idempotency_digest: bytes | None
    idempotency_replayed: bool | None


FITTING = TypeAdapter(FittingTask)


class Account:
    """Chooses the rows to copy, and keeps account of them all. Times without a zone are taken for ones of `zone`, and
    any user will do if `users` is None.
    """

    def __init__(self, zone: tzinfo, users: set[str] | None) -> None:
        self._now = datetime.now(UTC)
        self._context = {"zone": zone, "users": users, "now": self._now}
        self._last_id: object = None
        self.copied = 0
        self.present = 0
        # How many rows don't fit for a reason, and the ids of the first of them.
        self.misfits: Counter[str] = Counter()
        self._ids: dict[str, list[object]] = defaultdict(list)

    def choose(self, rows: Sequence[Row[Any]], present: Mapping[int, Any]) -> list[FittingTask]:
        """Returns the tasks to copy of rows in the order of their ids. `present` are the service's tasks with these
        ids.
        """
        chosen = []
        for row in rows:
            try:
                task = FITTING.validate_python(row._asdict(), context=self._context)
            except ValidationError as error:
                fault = error.errors(include_url=False, include_input=False)[0]
                self._leave_out(row, f"{fault['loc'][0]}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
                continue
            if row.id == self._last_id:
                self._leave_out(row, "id: another row has it, too")
            elif (ours := present.get(row.id)) is None:
                chosen.append(self._complete(task))
            elif is_copy(ours, task):
                self.present += 1
            else:
                self._leave_out(row, "id: another task of the service has it")
            self._last_id = row.id
        self.copied += len(chosen)
        return chosen

    def _complete(self, task: FittingTask) -> FittingTask:
        """Fills in times that are missing, and lets no task be older than its last change."""
        created_at = task["created_at"] or task["updated_at"] or self._now
        return {**task, "created_at": created_at, "updated_at": max(task["updated_at"] or created_at, created_at)}

    def _leave_out(self, row: Row[Any], reason: str) -> None:
        self.misfits[reason] += 1
        if len(self._ids[reason]) < SHOWN_IDS:
            self._ids[reason].append(row.id)

    def describe(self) -> list[str]:
        """Describes in lines how many rows fit, and why the others don't, without a value but their ids."""
        lines = [f"Rows that fit: {self.copied:,}"]
        if self.present:
            lines.append(f"Rows that were copied before: {self.present:,}")
        for reason, number in self.misfits.most_common():
            ids = ", ".join(map(repr, self._ids[reason])) + (", …" if number > SHOWN_IDS else "")
            lines.append(f"Rows that don't fit: {number:,}, {reason} (id {ids})")
        return lines


def is_copy(ours: Any, task: FittingTask) -> bool:
    """Whether the service's task is this row's: of one user and time, and of one title, unless it has changed since."""
    created_at = task["created_at"] or task["updated_at"] or ours.created_at
    copied_at = max(task["updated_at"] or created_at, created_at)
    is_changed = ours.updated_at > copied_at and task["created_at"] is not None
    is_same = ours.created_at == created_at and (is_changed or ours.title == task["title"])
    return bool(ours.user_id == task["user_id"] and is_same)
