# [Task]: T040 [From]: specs/database/schema.md
"""The one table that is ours. Better Auth's tables in the same database are not modelled here."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Identity, Index, Integer
from sqlmodel import Field, SQLModel

USER_ID_LENGTH = 255
TITLE_LENGTH = 200
DESCRIPTION_LENGTH = 1000


class Task(SQLModel, table=True):
    """One task of one user."""

    __table_args__ = (
        Index("ix_task_user_id_id", "user_id", "id"),
        # Else SQLite gives the id of a deleted last task to the next one.
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(
        default=None,
        sa_column=Column(
            # SQLite makes only an INTEGER primary key its row id.
            BigInteger().with_variant(Integer, "sqlite"),
            Identity(always=True),
            primary_key=True,
        ),
    )
    # The `id` of Better Auth's "user" table, as text and without a foreign key: that table is
    # Better Auth's to migrate, and may live in another database.
    user_id: str = Field(max_length=USER_ID_LENGTH)
    title: str = Field(max_length=TITLE_LENGTH)
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH)
    completed: bool
    created_at: datetime
    updated_at: datetime
