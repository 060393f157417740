"""Adds a version for each user's list of tasks, and the triggers that raise it.

Workers of the version before go on, since triggers see their writes, too. On Postgres the triggers run with the rights
of their owner, and a role that may read tasks may read the versions.
"""
# [Task]: T145 [From]: specs/database/schema.md

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# `clock` is in microseconds. A DELETE never inserts, or the deletion of a user with all tasks would leave a row behind.
# There is no `%`, which `--sql` would double.
FUNCTION = """
DO $do$
DECLARE
  reader text;
BEGIN
  EXECUTE replace($template$
    CREATE FUNCTION raise_task_list_version() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    DECLARE
      clock bigint := extract(epoch FROM clock_timestamp()) * 1000000;
    BEGIN
      IF TG_OP = 'INSERT' THEN
        INSERT INTO {schema}.task_list_version AS list
        SELECT user_id, clock FROM (SELECT DISTINCT user_id FROM new_task) AS changed ORDER BY user_id
        ON CONFLICT (user_id) DO UPDATE SET version = greatest(list.version + 1, clock);
      ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO {schema}.task_list_version AS list
        SELECT user_id, clock FROM (SELECT user_id FROM old_task UNION SELECT user_id FROM new_task) AS changed
        ORDER BY user_id
        ON CONFLICT (user_id) DO UPDATE SET version = greatest(list.version + 1, clock);
      ELSIF TG_OP = 'DELETE' THEN
        UPDATE {schema}.task_list_version SET version = greatest(version + 1, clock)
        WHERE user_id IN (SELECT user_id FROM old_task);
      ELSE
        UPDATE {schema}.task_list_version SET version = greatest(version + 1, clock);
      END IF;
      RETURN NULL;
    END
    $function$
    $template$, '{schema}', quote_ident(current_schema()));
  FOR reader IN
    SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
    FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))
    WHERE pg_class.oid = 'task'::regclass AND privilege_type = 'SELECT'
  LOOP
    EXECUTE 'GRANT SELECT ON task_list_version TO ' || reader;
  END LOOP;
END
$do$
"""
POSTGRES_TRIGGERS = {
    "insert": "REFERENCING NEW TABLE AS new_task",
    "update": "REFERENCING OLD TABLE AS old_task NEW TABLE AS new_task",
    "delete": "REFERENCING OLD TABLE AS old_task",
    "truncate": "",
}
SQLITE_CLOCK = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
SQLITE_UPSERT = (
    f"INSERT INTO task_list_version SELECT user_id, {SQLITE_CLOCK} FROM ({{users}}) WHERE true"
    f" ON CONFLICT (user_id) DO UPDATE SET version = max(version + 1, {SQLITE_CLOCK})"
)
SQLITE_TRIGGERS = {
    "insert": SQLITE_UPSERT.format(users="SELECT NEW.user_id AS user_id"),
    "update": SQLITE_UPSERT.format(users="SELECT OLD.user_id AS user_id UNION SELECT NEW.user_id AS user_id"),
    "delete": f"UPDATE task_list_version SET version = max(version + 1, {SQLITE_CLOCK}) WHERE user_id = OLD.user_id",
}


def upgrade() -> None:
    op.create_table(
        "task_list_version",
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    if op.get_context().dialect.name == "sqlite":
        clock = SQLITE_CLOCK
        for event, change in SQLITE_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER task_list_version_{event} AFTER {event} ON task BEGIN {change}; END")
    else:
        clock = "extract(epoch FROM clock_timestamp()) * 1000000"
        op.execute(FUNCTION)
        for event, tables in POSTGRES_TRIGGERS.items():
            op.execute(
                f"CREATE TRIGGER task_list_version_{event} AFTER {event} ON task {tables}"
                " FOR EACH STATEMENT EXECUTE FUNCTION raise_task_list_version()"
            )
    # Behind the triggers, which lock other writers out. Without a row, a user's first DELETE would go unnoticed.
    op.execute(f"INSERT INTO task_list_version SELECT user_id, {clock} FROM task GROUP BY user_id")


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        for event in SQLITE_TRIGGERS:
            op.execute(f"DROP TRIGGER IF EXISTS task_list_version_{event}")
    else:
        op.execute("DROP FUNCTION IF EXISTS raise_task_list_version() CASCADE")
    # What is missing or another's is no hindrance, so that this mends a schema that lost it.
    op.execute("DROP TABLE IF EXISTS task_list_version")
