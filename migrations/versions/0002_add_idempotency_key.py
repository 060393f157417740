"""Adds what holds the `Idempotency-Key` of a POST.

Workers of the version before go on: they name the columns that they write and read.
"""
# [Task]: T091 [From]: specs/reliability.md

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("task", sa.Column("idempotency_key", sa.String(255), nullable=True))
    op.add_column("task", sa.Column("idempotency_digest", sa.LargeBinary, nullable=True))
    op.add_column("task", sa.Column("idempotency_replayed", sa.Boolean, nullable=True))
    has_key = sa.column("idempotency_key").is_not(None)
    op.create_index(
        "ix_task_user_id_idempotency_key",
        "task",
        ["user_id", "idempotency_key"],
        unique=True,
        postgresql_where=has_key,
        sqlite_where=has_key,
    )


def downgrade() -> None:
    op.drop_index("ix_task_user_id_idempotency_key", "task")
    op.drop_column("task", "idempotency_replayed")
    op.drop_column("task", "idempotency_digest")
    op.drop_column("task", "idempotency_key")
