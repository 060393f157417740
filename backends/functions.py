"""The SQL functions that Postgres and SQLite don't share."""
# [Task]: T011, T130, T131 [From]: specs/features/task-crud.md

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Boolean, ColumnElement, Interval, String, any_, cast, func, literal_column
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlmodel import UTCDateTime

TICK = literal_column("INTERVAL '1 microsecond'", Interval)


class SharedFunction(GenericFunction[Any]):
    """A function that SQLite has by this name, from `SQLITE_FUNCTIONS` or by itself, and Postgres as `on_postgres`."""

    on_postgres: Callable[..., ColumnElement[Any]]


@compiles(SharedFunction, "postgresql")
def compile_on_postgres(element: SharedFunction, compiler: SQLCompiler, **kwargs: Any) -> str:
    return compiler.process(element.on_postgres(*element.clauses), **kwargs)


class next_update(SharedFunction):  # noqa: N801 - the name it has in SQL
    """The time of a change: now, but always later than the previous change, even if two run at once or the clock goes
    back.
    """

    type = UTCDateTime()
    inherit_cache = True
    on_postgres = staticmethod(lambda now, updated_at: func.greatest(now, updated_at + TICK))


class is_read_only(SharedFunction):  # noqa: N801 - the name it has in SQL
    """Whether the database takes no writes now. For SQLite, `backends/sqlite.py` says so of its file."""

    type = Boolean()
    inherit_cache = True
    on_postgres = staticmethod(lambda: cast(func.current_setting("transaction_read_only"), Boolean))


class sort_title(SharedFunction):  # noqa: N801 - the name it has in SQL
    """The key of the order by title: its lower case, which is compared by code point."""

    type = String()
    inherit_cache = True
    on_postgres = staticmethod(lambda title: func.lower(title).collate("C"))


class json_each(SharedFunction):  # noqa: N801 - the name it has in SQL
    """The elements of a JSON array, as rows with a `value`."""

    inherit_cache = True
    on_postgres = staticmethod(lambda array: func.jsonb_array_elements(cast(array, JSONB)))


class is_among(SharedFunction):  # noqa: N801 - as the others
    """Whether a value is among those that a query selects.

    On Postgres these become an array. As `IN`, each would be compared with each task of a user of whom the planner
    knows nothing yet: a second for a thousand of ten thousand.
    """

    # Not a Boolean: SQLAlchemy would write `IN (…) = 1` for SQLite, which then uses no index.
    inherit_cache = True
    on_postgres = staticmethod(lambda value, query: value == any_(func.array(query, type_=ARRAY(value.type))))


@compiles(is_among, "sqlite")
def compile_is_among(element: is_among, compiler: SQLCompiler, **kwargs: Any) -> str:
    value, query = element.clauses
    return compiler.process(value.in_(query.element), **kwargs)


SIGMA = "\N{GREEK CAPITAL LETTER SIGMA}"


def add_microsecond(now: str, updated_at: str) -> str:
    """`next_update` on timestamps as SQLAlchemy stores them; SQLite itself doesn't count in microseconds."""
    tick = datetime.fromisoformat(updated_at) + timedelta(microseconds=1)
    return max(now, tick.isoformat(" ", "microseconds"))


def strpos(text: str | None, part: str) -> int | None:
    """Postgres' function of this name."""
    return None if text is None else text.find(part) + 1


def lower(text: str | None) -> str | None:
    """The lower case of all letters; SQLite's own has that of ASCII's. Each letter goes by itself, so that a part of a
    text is found in it: Python's lower case of a sigma depends on what is around it.
    """
    return None if text is None else text.replace(SIGMA, SIGMA.lower()).lower()


# Each with the number of its arguments.
SQLITE_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "next_update": (2, add_microsecond),
    "sort_title": (1, lower),
    "strpos": (2, strpos),
    "lower": (1, lower),
}
