"""Finds another program's table of tasks, and the service's columns in it."""
# [Task]: T180, T182 [From]: specs/features/moving.md

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, column, inspect, null, select, table

from errors import StartupError

# Where to look for tasks if no table is named.
NAMES = ("tasks", "task", "todos", "todo")
# The service's columns, each with the names that others give it.
COLUMNS = {
    "id": ("id",),
    "user_id": ("user_id", "userId", "owner_id", "ownerId"),
    "title": ("title",),
    "description": ("description",),
    "completed": ("completed", "isCompleted", "is_completed", "complete", "done", "isDone", "is_done"),
    "created_at": ("created_at", "createdAt"),
    "updated_at": ("updated_at", "updatedAt"),
}
NEEDED = ("id", "user_id", "title")
# Another database of the service has these, too.
KEY_COLUMNS = ("idempotency_key", "idempotency_digest", "idempotency_replayed")


class Source:
    """A table or view with tasks. Raises `StartupError` if it lacks a column that a task can't do without."""

    def __init__(self, name: str, schema: str | None, columns: Collection[str]) -> None:
        self.name = name
        self.schema = schema
        found = {ours: [theirs for theirs in names if theirs in columns] for ours, names in COLUMNS.items()}
        if missing := [ours for ours in NEEDED if not found[ours]]:
            raise StartupError(
                f"The table {self} has no column {missing[0]}. Name one that has it with --table, such as a view that"
                " you make of it: docs/coming-over.md shows how."
            )
        self.missing = [ours for ours, names in found.items() if not names]
        self._columns = {ours: names[0] for ours, names in found.items() if names}
        if set(KEY_COLUMNS) <= set(columns):
            self._columns |= {name: name for name in KEY_COLUMNS}
        self.left_behind = sorted(set(columns) - set(self._columns.values()))

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def describe(self) -> list[str]:
        """Describes in lines which columns either side lacks."""
        lines = [f"Columns that it doesn't have: {', '.join(self.missing)}"] if self.missing else []
        return [*lines, *([f"Columns that stay behind: {', '.join(self.left_behind)}"] if self.left_behind else [])]

    @property
    def rows(self) -> Select[Any]:
        """Selects all rows in the order of their ids, under the names of the service's columns."""
        source = table(self.name, *map(column, self._columns.values()), schema=self.schema)
        theirs = {ours: source.c[name] for ours, name in self._columns.items()}
        chosen = [theirs.get(ours, null()).label(ours) for ours in (*COLUMNS, *KEY_COLUMNS)]
        return select(*chosen).order_by(theirs["id"])


def find_source(connection: Connection, names: Sequence[str], chosen: str | None) -> Source:
    """Finds the table that was chosen, or else the one with one of these names. Raises `StartupError` if there is none,
    or more than one.
    """
    inspector = inspect(connection)
    schema, _, name = (chosen or "").rpartition(".")
    found = [one for one in ([name] if chosen else names) if inspector.has_table(one, schema or None)]
    if not found:
        raise StartupError(f"There is no table {chosen or ' or '.join(names)}. Name another, or a view, with --table.")
    if len(found) > 1:
        raise StartupError(f"There are the tables {' and '.join(found)}. Name one of them with --table.")
    return Source(found[0], schema or None, [one["name"] for one in inspector.get_columns(found[0], schema or None)])
