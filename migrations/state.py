"""The state in which a start finds the database, and the refusals of one that doesn't fit, with their cures."""
# [Task]: T041, T052, T111, T112 [From]: specs/database/schema.md

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Inspector, Table, inspect, text
from sqlalchemy.types import NullType, TypeEngine

from errors import StartupError, first_reason
from models import Task

TASKS = Task.metadata.tables["task"]
VERSIONS = Task.metadata.tables["task_list_version"]
VERSION_TABLE = "task_schema_version"
REVISIONS = sorted(path.name[:4] for path in Path(__file__).parent.glob("versions/[0-9]*.py"))
HEAD = REVISIONS[-1]
READ_REVISIONS = text("SELECT version_num FROM task_schema_version")
# The server's encoding and the rights of the service's role. A right to a table that is missing is null.
READ_FACTS = text("""
SELECT current_setting('server_encoding') AS encoding, quote_ident(current_user) AS role,
  quote_ident(current_schema()) AS schema, has_schema_privilege(current_schema(), 'CREATE') AS may_create,
  has_table_privilege(to_regclass('task_schema_version'), 'SELECT') AS may_read_version,
  (SELECT bool_and(has_table_privilege(to_regclass('task'), name))
   FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS name) AS may_use_tasks,
  has_table_privilege(to_regclass('task_list_version'), 'SELECT') AS may_read_lists,
  (SELECT count(*) = 4 FROM pg_trigger
   WHERE tgrelid = to_regclass('task') AND starts_with(tgname, 'task_list_version_') AND tgenabled IN ('O', 'A'))
   AS has_triggers,
  (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('task')) AS owns_tasks
""")

HAS_TRIGGERS = text("SELECT count(*) = 3 FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'task_list_version_%'")

# What becomes of another program's table `task`.
MOVED = "other_task"
MOVE_TASKS = f"Name another database in DATABASE_URL, or move the table away: ALTER TABLE task RENAME TO {MOVED};"
COPY_TASKS = "uv run python -m commands.copy_tasks"
FORGET_VERSION = "uv run alembic stamp --purge base"


class Facts(NamedTuple):
    """The facts about the database. The defaults are those of SQLite, which knows no rights."""

    revision: str = ""
    # Whether the table `task` fits the statements, or None if there is none.
    fits: bool | None = None
    encoding: str = "UTF8"
    role: str = ""
    schema: str | None = "main"
    may_create: bool = True
    may_read_version: bool | None = True
    may_use_tasks: bool | None = True
    may_read_lists: bool | None = True
    has_versions: bool = True
    has_triggers: bool = True
    owns_tasks: bool | None = True

    @property
    def is_ahead(self) -> bool:
        """Whether a later version of the service has migrated the schema."""
        return re.fullmatch("[0-9]{4}", self.revision) is not None and self.revision > HEAD

    @property
    def is_behind(self) -> bool:
        return self.revision in {"", *REVISIONS[:-1]}


def read_facts(connection: Connection) -> Facts:
    """Reads all facts. Another process may be creating the tables, so the transaction should have one snapshot."""
    found: dict[str, Any] = {}
    if connection.dialect.name == "postgresql":
        found = dict(connection.execute(READ_FACTS).mappings().one())
    else:
        found["has_triggers"] = connection.scalar(HAS_TRIGGERS)
    inspector = inspect(connection)
    if inspector.has_table(VERSION_TABLE) and found.get("may_read_version", True):
        found["revision"] = ", ".join(connection.scalars(READ_REVISIONS))
    if inspector.has_table(TASKS.name):
        found["fits"] = can_serve(TASKS, inspector)
    found["has_versions"] = inspector.has_table(VERSIONS.name) and can_serve(VERSIONS, inspector)
    return Facts(**found)


def can_serve(table: Table, inspector: Inspector) -> bool:
    """Whether the statements fit the table that is there: it has all columns of the service's, and no other needs a
    value. A later version may have more columns, or longer ones.
    """
    theirs = {column["name"]: column for column in inspector.get_columns(table.name)}
    dialect = inspector.dialect
    for ours in table.c:
        if (column := theirs.pop(ours.name, None)) is None or (ours.nullable and not column["nullable"]):
            return False
        (name, length), (our_name, our_length) = measure(column["type"], dialect), measure(ours.type, dialect)
        if name != our_name or length < our_length:
            return False
    return all(column["nullable"] or column["default"] or "identity" in column for column in theirs.values())


def measure(kind: TypeEngine[Any], dialect: Dialect) -> tuple[str, float]:
    """Returns the name of a type, empty if SQLAlchemy doesn't know it, and its length."""
    name = "" if isinstance(kind, NullType) else kind.compile(dialect).partition("(")[0].replace("TEXT", "VARCHAR")
    return name, getattr(kind, "length", None) or math.inf


def refuse_misfits(facts: Facts, *, will_migrate: bool) -> None:
    """Raises `StartupError` with the first of these reasons that holds, and its cure."""
    revision, schema, role = facts.revision, facts.schema, facts.role
    found = f"the revision {revision} of the schema" if revision else "no schema of ours"
    is_behind, is_up_to_date = facts.is_behind, facts.is_ahead or revision == HEAD
    # Each reason, and whether it holds.
    reasons = {
        f"is encoded in {facts.encoding}, not in UTF8: CREATE DATABASE … ENCODING 'UTF8'"
        " TEMPLATE template0;": facts.encoding != "UTF8",
        f"has no schema that is selected and that {role} may use. Type ALTER ROLE {role} SET search_path = public;"
        f" GRANT USAGE, CREATE ON SCHEMA public TO {role};": schema is None,
        f"doesn't let {role} read the schema's version. Type GRANT SELECT"
        f" ON {VERSION_TABLE} TO {role};": facts.may_read_version is False,
        f"has a table `task` already, which isn't this service's. {MOVE_TASKS} To move it away and copy its tasks:"
        f" {COPY_TASKS}. If it is the service's own, and only its version is lost: uv run alembic stamp"
        f" {HEAD}": not revision and facts.fits is not None,
        f"has the schema's revision {revision}, which isn't this service's. {MOVE_TASKS} ALTER TABLE {VERSION_TABLE}"
        " RENAME TO other_version;": not is_behind and not is_up_to_date,
        f"has {found}; this code needs {HEAD}. Run `uv run alembic upgrade head`, or set"
        " DB_MIGRATE_ON_START=true.": is_behind and not will_migrate,
        f"doesn't let {role} make a table in the schema {schema}. Type GRANT USAGE, CREATE"
        f" ON SCHEMA {schema} TO {role};": is_behind and not facts.may_create,
        f"doesn't let {role} change the table `task`. Type ALTER TABLE task OWNER TO {role};"
        f" ALTER TABLE {VERSION_TABLE} OWNER TO {role};": is_behind and facts.owns_tasks is False,
        f"has {found}, but no table `task`. Restore it, or, to start without"
        f" tasks, type {FORGET_VERSION}": is_up_to_date and facts.fits is None,
        f"has a table `task` that isn't this service's: its columns or their types are others. {MOVE_TASKS}"
        f" Then {FORGET_VERSION}": is_up_to_date and facts.fits is False,
        f"doesn't let {role} use the table `task`. Type GRANT SELECT, INSERT, UPDATE, DELETE"
        f" ON task TO {role};": is_up_to_date and facts.may_use_tasks is False,
        f"has {found}, but no table `task_list_version`, or another one. Restore it, or make it anew:"
        " uv run alembic downgrade 0002": is_up_to_date and not facts.has_versions,
        f"has {found}, but not all of its triggers on `task`, so that changed lists would pass for unchanged. Enable"
        " them, or make them anew: uv run alembic downgrade 0002": revision == HEAD and not facts.has_triggers,
        f"doesn't let {role} read the table `task_list_version`. Type GRANT SELECT"
        f" ON task_list_version TO {role};": is_up_to_date and facts.may_read_lists is False,
    }
    if reason := first_reason(reasons):
        raise StartupError(f"The database of DATABASE_URL {reason}")
