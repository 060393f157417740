"""The tables: two of the service, and one of Better Auth that tasks may refer to."""
# [Task]: T040, T091, T145, T159 [From]: specs/database/schema.md, specs/reliability.md, specs/features/user-deletion.md

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, MetaData, String
from sqlmodel import Field, SQLModel

USER_ID_LENGTH = 255
TITLE_LENGTH = 200
DESCRIPTION_LENGTH = 1000
IDEMPOTENCY_KEY_LENGTH = 255

# The key of the POST that created a task, if it had one.
idempotency_key = Column("idempotency_key", String(IDEMPOTENCY_KEY_LENGTH))
HAS_KEY = idempotency_key.is_not(None)
WHERE_KEY: dict[str, Any] = {"postgresql_where": HAS_KEY, "sqlite_where": HAS_KEY}


class Task(SQLModel, table=True):
    """One task of one user."""

    __table_args__ = (
        Index("ix_task_user_id_id", "user_id", "id"),
        # Partial, so that tasks without a key take no room in it.
        Index("ix_task_user_id_idempotency_key", "user_id", "idempotency_key", unique=True, **WHERE_KEY),
        # Otherwise SQLite reuses the id of the last task once that is deleted.
        {"sqlite_autoincrement": True},
    )

    # In SQLite only an INTEGER primary key is the row id.
    id: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True),
    )
    # The `id` of Better Auth's table of users, which may be in another database: a foreign key is added at start where
    # `USER_TABLE` asks for it.
    user_id: str = Field(max_length=USER_ID_LENGTH)
    title: str = Field(max_length=TITLE_LENGTH)
    description: str | None = Field(default=None, max_length=DESCRIPTION_LENGTH)
    completed: bool
    created_at: datetime
    updated_at: datetime
    idempotency_key: str | None = Field(default=None, sa_column=idempotency_key)
    # The digest of the content that came with the key, and whether the request was repeated.
    idempotency_digest: bytes | None = None
    idempotency_replayed: bool | None = None


class TaskListVersion(SQLModel, table=True):
    """The version of one user's list, which triggers on `task` raise with every change, whoever makes it.

    It is never lowered nor given again: it is the microseconds since the epoch, or one more than the last.
    """

    __tablename__ = "task_list_version"

    user_id: str = Field(max_length=USER_ID_LENGTH, primary_key=True)
    version: int = Field(sa_type=BigInteger)


class User(SQLModel, table=True):
    """Better Auth's table of users, which `USER_TABLE` names, as far as tasks refer to it. Its metadata is its own, so
    that no migration of ours creates, alters or drops it.
    """

    metadata = MetaData()

    id: str = Field(primary_key=True)
