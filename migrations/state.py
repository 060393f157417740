"""What a start finds in the database, and what of it is refused, with what to type."""
# [Task]: T041, T052, T111, T112 [From]: specs/database/schema.md

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Dialect, String, column, inspect, select, table, text
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.types import NullType

from errors import StartupError
from models import Task

TASKS = Task.metadata.tables["task"]
VERSION_TABLE = "task_schema_version"
READ_REVISIONS = select(column("version_num", String)).select_from(table(VERSION_TABLE))
REVISIONS = sorted(path.name[:4] for path in Path(__file__).parent.glob("versions/[0-9]*.py"))
HEAD = REVISIONS[-1]

# What Postgres says of itself and of the role that the service has. A right is null where there is
# nothing that it could be a right to.
READ_FACTS = text("""
SELECT current_setting('server_encoding') AS encoding, quote_ident(current_user) AS role,
  quote_ident(current_schema()) AS schema, has_schema_privilege(current_schema(), 'CREATE')
  AS may_create, has_table_privilege(to_regclass('task_schema_version'), 'SELECT')
  AS may_read_version, has_table_privilege(to_regclass('task'), 'SELECT')
  AND has_table_privilege(to_regclass('task'), 'INSERT')
  AND has_table_privilege(to_regclass('task'), 'UPDATE')
  AND has_table_privilege(to_regclass('task'), 'DELETE') AS may_use_tasks,
  (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('task'))
  AS owns_tasks
""")

MOVE_TASKS = (
    "Name another database in DATABASE_URL, or move what is there out of the way:"
    " ALTER TABLE task RENAME TO other_task;"
)
FORGET_VERSION = "uv run alembic stamp --purge base"


class Facts(NamedTuple):
    """What is found in the database; an SQLite file has no rights to lack."""

    revision: str | None = None
    has_tasks: bool = False
    has_our_columns: bool = False
    encoding: str = "UTF8"
    role: str = ""
    schema: str | None = "main"
    may_create: bool = True
    may_read_version: bool | None = True
    may_use_tasks: bool | None = True
    owns_tasks: bool | None = True

    @property
    def is_ahead(self) -> bool:
        """Whether a later version of the service has been here."""
        revision = self.revision or ""
        return re.fullmatch("[0-9]{4}", revision) is not None and revision > HEAD

    @property
    def is_behind(self) -> bool:
        return self.revision is None or self.revision in REVISIONS[:-1]


def read_facts(connection: Connection) -> Facts:
    """Reads all of it as of one moment: another process may be making the tables."""
    found: dict[str, Any] = {}
    if connection.dialect.name == "postgresql":
        found = dict(connection.execute(READ_FACTS).mappings().one())
    else:
        connection.exec_driver_sql("BEGIN")
    inspector = inspect(connection)
    if inspector.has_table(VERSION_TABLE) and found.get("may_read_version", True):
        found["revision"] = ", ".join(connection.scalars(READ_REVISIONS)) or None
    if inspector.has_table(TASKS.name):
        found["has_tasks"] = True
        found["has_our_columns"] = are_ours(inspector.get_columns(TASKS.name), connection.dialect)
    return Facts(**found)


def are_ours(columns: Sequence[ReflectedColumn], dialect: Dialect) -> bool:
    """Whether our statements can work on them: ours are there, and no other needs a value. A later
    version may have more of them, or longer ones.
    """
    theirs = {column["name"]: column for column in columns}
    return all(ours.name in theirs and fits(theirs.pop(ours.name), ours, dialect) for ours in TASKS.c) and all(
        column["nullable"] or column["default"] is not None or "identity" in column for column in theirs.values()
    )


def fits(theirs: ReflectedColumn, ours: Column[Any], dialect: Dialect) -> bool:
    kind = theirs["type"]
    # A type that SQLAlchemy doesn't know has no name.
    name = "" if isinstance(kind, NullType) else kind.compile(dialect).replace("TEXT", "VARCHAR")
    length = getattr(kind, "length", None) or math.inf
    return (
        name.partition("(")[0] == ours.type.compile(dialect).partition("(")[0]
        and length >= (getattr(ours.type, "length", None) or 0)
        and theirs["nullable"] >= bool(ours.nullable)
    )


def refuse_database(facts: Facts, *, will_migrate: bool) -> None:
    role, schema, revision = facts.role, facts.schema, facts.revision
    refuse(
        facts.encoding != "UTF8",
        f"is encoded in {facts.encoding}. It has to be UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;",
    )
    refuse(
        schema is None,
        f"has no schema that is selected and that {role} may use. Type ALTER ROLE {role}"
        f" SET search_path = public; GRANT USAGE, CREATE ON SCHEMA public TO {role};",
    )
    refuse(
        facts.may_read_version is False,
        f"doesn't let {role} read the schema's version. Type GRANT SELECT ON {VERSION_TABLE} TO {role};",
    )
    refuse(
        revision is None and facts.has_tasks,
        f"has a table `task` already, which isn't this service's. {MOVE_TASKS} If it is the"
        f" service's own, and only its version is lost: uv run alembic stamp {HEAD}",
    )
    refuse(
        not (revision is None or revision in REVISIONS or facts.is_ahead),
        f"has the schema's revision {revision}, which isn't this service's. {MOVE_TASKS}"
        f" ALTER TABLE {VERSION_TABLE} RENAME TO other_version;",
    )
    refuse(
        facts.is_behind and not will_migrate,
        f"has {f'the revision {revision} of the schema' if revision else 'no schema of ours'}, and"
        f" this code needs {HEAD}. Run `uv run alembic upgrade head`, or set"
        " DB_MIGRATE_ON_START=true.",
    )
    refuse(
        facts.is_behind and not facts.may_create,
        f"doesn't let {role} make a table in the schema {schema}."
        f" Type GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};",
    )
    refuse(
        facts.is_behind and facts.owns_tasks is False,
        f"doesn't let {role} change the table `task`. Type ALTER TABLE task OWNER TO {role};"
        f" ALTER TABLE {VERSION_TABLE} OWNER TO {role};",
    )


def refuse_tasks(facts: Facts) -> None:
    refuse(
        not facts.has_tasks,
        f"has the schema's revision {facts.revision}, but no table `task`. Restore it, or start"
        f" without tasks: {FORGET_VERSION}",
    )
    refuse(
        not facts.has_our_columns,
        "has a table `task` that isn't this service's: its columns or their types are others."
        f" {MOVE_TASKS} Then {FORGET_VERSION}",
    )
    refuse(
        facts.may_use_tasks is False,
        f"doesn't let {facts.role} use the table `task`."
        f" Type GRANT SELECT, INSERT, UPDATE, DELETE ON task TO {facts.role};",
    )


def refuse(is_so: bool, reason: str) -> None:  # noqa: FBT001 - reads as a table of cases
    if is_so:
        raise StartupError(f"The database of DATABASE_URL {reason}")
