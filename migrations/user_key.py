"""The foreign keys on `USER_TABLE`, Better Auth's table of users: they delete a user's tasks and list version."""
# [Task]: T159, T160 [From]: specs/features/user-deletion.md

import logging

from sqlalchemy import Connection, text

from config import Settings
from db import Database
from errors import ServiceUnavailable, StartupError, first_reason
from migrations import migration_connection
from models import Task, User

logger = logging.getLogger(__name__)

OURS = list(Task.metadata.tables)
USER_ID = User.metadata.tables["user"].c.id.name
# NOT VALID: tasks whose user is gone already stay.
KEY = f"ALTER TABLE {{ours}} ADD FOREIGN KEY (user_id) REFERENCES {{users}} ({USER_ID}) ON DELETE CASCADE NOT VALID"

# From the catalogs, since a name in a schema that the role may not use can't be resolved.
READ_USERS = text("""
SELECT users.oid, relkind IN ('r', 'p') AS is_table, quote_ident(nspname) AS schema,
  quote_ident(nspname) || '.' || quote_ident(relname) AS name, quote_ident(current_user) AS role,
  attnum, format_type(atttypid, NULL) AS type,
  has_schema_privilege(pg_namespace.oid, 'USAGE') AS may_use_schema,
  has_column_privilege(users.oid, attnum, 'REFERENCES') AS may_reference,
  EXISTS (SELECT FROM pg_index WHERE indrelid = users.oid AND indisunique AND indimmediate AND indisvalid
    AND indpred IS NULL AND indnkeyatts = 1 AND indkey[0] = attnum) AS is_unique
FROM pg_class AS users JOIN pg_namespace ON pg_namespace.oid = relnamespace
LEFT JOIN pg_attribute ON attrelid = users.oid AND attname = :id
WHERE relname = :name AND CASE :schema WHEN '' THEN pg_table_is_visible(users.oid) ELSE nspname = :schema END
""")
# Our tables that lack the key, and whether the role may add it. `task` comes first, since a deletion goes through the
# tables in the order in which their keys were added, and a write goes through them in this order.
READ_MISSING = text("""
SELECT relname AS name, pg_has_role(relowner, 'USAGE') AS may_alter FROM pg_class AS ours
JOIN pg_attribute ON attrelid = ours.oid AND attname = 'user_id'
WHERE ours.oid = ANY(SELECT to_regclass(name) FROM unnest(CAST(:ours AS text[])) AS name) AND NOT EXISTS (
  SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = ours.oid AND conkey = ARRAY[pg_attribute.attnum]
  AND confrelid = :users AND confkey = ARRAY[CAST(:attnum AS smallint)] AND confdeltype = 'c'
) ORDER BY relname
""")


async def add_user_keys(database: Database, settings: Settings) -> None:
    """Adds the keys that are missing. Raises `StartupError` if they can't be added, and `ServiceUnavailable` if there
    is no table of users yet.
    """
    async with database.engine.connect() as connection:
        is_done = not await connection.run_sync(missing_keys, settings)
    if not is_done:
        async with migration_connection(settings) as connection:
            # Looked at again behind the lock, since another start may have added them.
            for statement in await connection.run_sync(missing_keys, settings):
                await connection.exec_driver_sql(statement)
                logger.info("USER_TABLE: %s", statement)


def missing_keys(connection: Connection, settings: Settings) -> list[str]:
    """Returns the statements that add what is missing. Raises as `add_user_keys` if they can't be run."""
    schema, _, name = (settings.user_table or "").rpartition(".")
    users = connection.execute(READ_USERS, {"schema": schema, "name": name, "id": USER_ID}).first()
    if users is None:
        raise ServiceUnavailable(
            f"USER_TABLE: there is no table {settings.user_table} that the service's role can see. Let Better Auth's"
            " migration make it, or write it as schema.table.",
            detail="There is no table of users",
        )
    tables = connection.execute(READ_MISSING, {"ours": OURS, "users": users.oid, "attnum": users.attnum}).all()
    missing = [KEY.format(ours=table.name, users=users.name) for table in tables]
    by_hand = "; ".join(missing)
    # Each reason, and whether it holds.
    reasons = {
        f"{users.name} is no table. Name the one that Better Auth writes to.": not users.is_table,
        f"{users.name} has no column id. Name the table that Better Auth writes to.": users.type is None,
        f"{users.name} has an id of the type {users.type}, and only one of text or character varying can be the user of"
        " a task. Leave USER_TABLE out, and let Better Auth's hook delete the tasks, as docs/frontend.md"
        " shows.": users.type not in {"text", "character varying"},
        f"the id of {users.name} isn't unique, so that no key can refer to it. Type ALTER TABLE {users.name}"
        " ADD UNIQUE (id);": not users.is_unique,
        f"the keys are missing, and DB_MIGRATE_ON_START is off. Type {by_hand};": not settings.db_migrate_on_start,
        f"{users.role} doesn't own the service's tables. Let their owner type {by_hand};": not all(
            table.may_alter for table in tables
        ),
        f"{users.role} may not use the schema of {users.name}. Type GRANT USAGE ON SCHEMA {users.schema}"
        f" TO {users.role};": not users.may_use_schema,
        f"{users.role} may not refer to {users.name}. Type GRANT REFERENCES ON {users.name}"
        f" TO {users.role};": not users.may_reference,
    }
    if missing and (reason := first_reason(reasons)):
        raise StartupError(f"USER_TABLE: {reason}")
    return missing
