"""The SQL functions that Postgres and SQLite don't share."""
# [Task]: T011, T130, T131 [From]: specs/features/task-crud.md

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, Interval, String, cast, func, literal_column
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlmodel import UTCDateTime


class next_update(GenericFunction[Any]):  # noqa: N801 - the name it has in SQL
    """The time of a change: now, but always later than the previous change, even if two run at once or the clock goes
    back.

    SQLite can't count in microseconds, so `add_microsecond` is its function of this name.
    """

    type = UTCDateTime()
    inherit_cache = True


@compiles(next_update, "postgresql")
def compile_next_update(element: next_update, compiler: SQLCompiler, **kwargs: Any) -> str:
    now, updated_at = element.clauses
    tick = literal_column("INTERVAL '1 microsecond'", Interval)
    return compiler.process(func.greatest(now, updated_at + tick), **kwargs)


class is_read_only(GenericFunction[Any]):  # noqa: N801 - the name it has in SQL
    """Whether the database takes no writes now. On SQLite, `backends/sqlite.py` registers a function of this name."""

    type = Boolean()
    inherit_cache = True


@compiles(is_read_only, "postgresql")
def compile_is_read_only(_element: is_read_only, compiler: SQLCompiler, **kwargs: Any) -> str:
    setting = func.current_setting("transaction_read_only")
    return compiler.process(cast(setting, Boolean), **kwargs)


class sort_title(GenericFunction[Any]):  # noqa: N801 - the name it has in SQL
    """The key of the order by title: its lower case, which is compared by code point."""

    type = String()
    inherit_cache = True


@compiles(sort_title)
def compile_sort_title(element: sort_title, compiler: SQLCompiler, **kwargs: Any) -> str:
    return compiler.process(func.lower(*element.clauses), **kwargs)


@compiles(sort_title, "postgresql")
def compile_sort_title_postgresql(element: sort_title, compiler: SQLCompiler, **kwargs: Any) -> str:
    return compiler.process(func.lower(*element.clauses).collate("C"), **kwargs)


class json_each(GenericFunction[Any]):  # noqa: N801 - the name it has in SQL
    """The elements of a JSON array, as rows with a `value`."""

    inherit_cache = True


@compiles(json_each, "postgresql")
def compile_json_each(element: json_each, compiler: SQLCompiler, **kwargs: Any) -> str:
    (array,) = element.clauses
    return compiler.process(func.jsonb_array_elements(cast(array, JSONB)), **kwargs)


def add_microsecond(now: str, updated_at: str) -> str:
    """`next_update` on timestamps as SQLAlchemy stores them."""
    tick = datetime.fromisoformat(updated_at) + timedelta(microseconds=1)
    return max(now, tick.isoformat(" ", "microseconds"))


def strpos(text: str | None, part: str) -> int | None:
    """Postgres' function of this name."""
    return None if text is None else text.find(part) + 1


def lower(text: str | None) -> str | None:
    """The lower case of all letters; SQLite's own has that of ASCII's."""
    return None if text is None else text.lower()


# Each with the number of its arguments.
SQLITE_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "next_update": (2, add_microsecond),
    "strpos": (2, strpos),
    "lower": (1, lower),
}
