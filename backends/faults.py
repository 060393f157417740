"""The faults of a database, one row each: how each is recognised, and what follows from it."""
# [Task]: T045, T052, T053, T087, T088, T096, T161 [From]: specs/database/schema.md, specs/reliability.md, specs/features/user-deletion.md

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from enum import Enum, unique
from sqlite3 import (
    SQLITE_BUSY,
    SQLITE_CANTOPEN,
    SQLITE_CONSTRAINT_NOTNULL,
    SQLITE_CORRUPT,
    SQLITE_FULL,
    SQLITE_IOERR,
    SQLITE_LOCKED,
    SQLITE_NOMEM,
    SQLITE_NOTADB,
    SQLITE_PROTOCOL,
    SQLITE_READONLY,
)
from ssl import SSLError
from typing import Any

from asyncpg import InternalClientError, InvalidCachedStatementError, TargetServerAttributeNotMatched
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from errors import ServiceUnavailable, StartupError
from metrics import DATABASE_FAULTS, TIMEOUTS

# asyncpg's words for a server that refuses TLS, or ends the connection when asked for it.
NO_TLS = "rejected SSL upgrade"
TLS_SIGNS = (NO_TLS, "SSL exchange", "unexpected connection_lost")
# SQLite's words for a file that another database has replaced.
SCHEMA_SIGNS = ("no such table: task", "no such column: task.", "table task has no column")
# Postgres' words for a schema that was taken back, or a table that was moved away, under a running service.
NO_TABLE = 'relation "task" does not exist', 'relation "task_list_version" does not exist'
# PgBouncer's words for a parameter that only a client unaware of the pooler sends.
POOLER_REFUSAL = "unsupported startup parameter"
SET_SEQUENCE = (
    "The sequence of the ids is behind the rows, as after a copy. Type"
    " SELECT setval(pg_get_serial_sequence('task', 'id'), (SELECT max(id) FROM task));"
)
# How Postgres and SQLite say that a column refused a null.
NULL_REFUSALS = {"23502", SQLITE_CONSTRAINT_NOTNULL}
# PostgreSQL 18, appendix A.
FOREIGN_KEY_VIOLATION = "23503"
UNAVAILABLE = "The database is unavailable, try again"


@dataclass(frozen=True)
class FaultRow:
    """How a fault is recognised, and what follows from it.

    A broken connection is closed, and all older ones are replaced. A statement is run once more if the
    server rolled it back, or if the fault is transient and the statement can have changed nothing.
    """

    # Exceptions, SQLSTATEs (PostgreSQL 18, appendix A) or their classes, and SQLite's primary codes.
    matches: tuple[type[Exception] | str | int, ...] = ()
    _: KW_ONLY
    signs: tuple[str, ...] = ()  # parts of the message, looked for first
    breaks_connection: bool = False
    rolled_back: bool = False
    transient: bool = False
    limit: str | None = None  # its label in `TIMEOUTS`
    cure: str = ""


@unique
class Fault(Enum):
    """A fault, named as in the log and the metrics. An error that matches no row is the program's."""

    UNREACHABLE = FaultRow((ConnectionRefusedError, SQLITE_CANTOPEN), transient=True)
    TLS = FaultRow((SSLError,), signs=TLS_SIGNS, cure="sslmode=disable connects without TLS.")
    LOGIN = FaultRow(("28", "3D"), cure="Correct the user or the password in DATABASE_URL.")
    TOO_MANY_CONNECTIONS = FaultRow(("53300",), transient=True)
    # SQLAlchemy's pool, or PgBouncer's, which reports the SQLSTATE of a protocol error.
    POOL_EXHAUSTED = FaultRow((PoolTimeoutError,), signs=("query_wait_timeout",), limit="pool")
    CONNECT_TIMEOUT = FaultRow(limit="connect")
    SILENT = FaultRow((TimeoutError,), breaks_connection=True, limit="statement")
    # InternalClientError: the bytes aren't the protocol, or aren't of the types that asyncpg expects.
    CONNECTION_LOST = FaultRow((ConnectionError, InternalClientError, "08"), breaks_connection=True, transient=True)
    SHUTTING_DOWN = FaultRow(("57",), breaks_connection=True, transient=True)
    # A primary may have become a standby.
    READ_ONLY = FaultRow(
        (TargetServerAttributeNotMatched, "25006", SQLITE_READONLY), breaks_connection=True, rolled_back=True
    )
    STATEMENT_TIMEOUT = FaultRow(("57014",), limit="statement")
    LOCKED = FaultRow(("55P03", SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL))
    DEADLOCK = FaultRow(("40P01",), rolled_back=True)
    SERIALIZATION = FaultRow(("40001",), rolled_back=True)
    # A prepared statement is gone, or is another client's.
    OUTDATED = FaultRow(
        (InvalidCachedStatementError, "26000", "42P05"), signs=SCHEMA_SIGNS, breaks_connection=True, rolled_back=True
    )
    # Only in the table `task`.
    IDS_TAKEN = FaultRow(("23505 task",), rolled_back=True, cure=SET_SEQUENCE)
    OUT_OF_RESOURCES = FaultRow(("53", SQLITE_FULL, SQLITE_NOMEM))
    SYSTEM_ERROR = FaultRow(("58", "XX", SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_NOTADB), signs=NO_TABLE)

    @property
    def row(self) -> FaultRow:
        return self.value

    def __str__(self) -> str:
        return self.name.lower()


SIGNS = {sign: fault for fault in Fault for sign in fault.row.signs}
FAULTS: dict[object, Fault] = {key: fault for fault in Fault for key in fault.row.matches}
for fault in Fault:
    DATABASE_FAULTS.labels(fault)  # each series is there from the start, as 0

# The cure of an error, by its SQLSTATE or a part of its message. The first match counts.
CURES = {
    "mismatch, certificate is not valid": "sslmode=verify-ca leaves the host name unchecked.",
    "CERTIFICATE_VERIFY_FAILED": "sslmode=no-verify accepts any certificate; sslrootcert=FILE names the CA.",
    "no encryption": "sslmode=require connects with TLS.",  # Postgres
    "connection is insecure": "sslmode=require connects with TLS.",  # Neon
    POOLER_REFUSAL: "pgbouncer=true declares a transaction pooler.",
    "prepared statement": "pgbouncer=true declares a transaction pooler.",
    "3D000": "Correct its name at the end of DATABASE_URL, or create it:"
    " CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;",
    "42501": "Type GRANT CONNECT ON DATABASE … TO …;",
}


class DatabaseUnavailable(ServiceUnavailable):
    """The database can't serve now. `is_undone` says that the statement wasn't sent, or only reads."""

    def __init__(self, error: Exception, fault: Fault | None, *, is_undone: bool = False) -> None:
        super().__init__(f"The database of DATABASE_URL {explain(error, fault)}", detail=UNAVAILABLE)
        self.fault = fault
        self.is_repeatable = fault is not None and (fault.row.rolled_back or (is_undone and fault.row.transient))

    def count(self) -> None:
        if self.fault:
            DATABASE_FAULTS.labels(self.fault).inc()
        if self.fault and self.fault.row.limit:
            TIMEOUTS.labels(self.fault.row.limit).inc()


class NullRefused(Exception):
    """A column refused a null."""


class UserGone(Exception):
    """A foreign key refused a user who isn't in `USER_TABLE`."""


@contextmanager
def translate_faults() -> Iterator[None]:
    """Raises `DatabaseUnavailable` in place of a fault, `NullRefused` for a null, `UserGone` for a user without a row,
    and leaves other errors alone.
    """
    try:
        yield
    except Exception as error:
        cause = driver_error(error)
        if {sqlstate_of(cause), getattr(cause, "sqlite_errorcode", None)} & NULL_REFUSALS:
            raise NullRefused from error
        if sqlstate_of(cause) == FOREIGN_KEY_VIOLATION:
            raise UserGone from error
        if isinstance(error, ServiceUnavailable) or (fault := fault_of(error)) is None:
            raise
        raise DatabaseUnavailable(error, fault) from error


def unavailable(error: Exception) -> ServiceUnavailable:
    """Returns the error that a request would get, with the reason for the log."""
    return error if isinstance(error, ServiceUnavailable) else DatabaseUnavailable(error, fault_of(error))


def driver_error(error: BaseException) -> BaseException:
    """Unwraps the driver's own error from those of SQLAlchemy and of the service."""
    is_ours = isinstance(error, ServiceUnavailable | StartupError)
    cause: Any = error.__cause__ if is_ours else getattr(error, "orig", None)
    return driver_error(cause) if isinstance(cause, BaseException) else error


def sqlstate_of(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def sqlite_code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def first_line(error: BaseException) -> str:
    """The message without the server's details, which may hold values."""
    return str(error).partition("\n")[0]


def fault_of(error: BaseException) -> Fault | None:
    """The fault behind an error, or None for an error of the program."""
    cause = driver_error(error)
    sqlstate = sqlstate_of(cause)
    of_table = f"{sqlstate} {getattr(cause, 'table_name', None)}"
    signs = [SIGNS[sign] for sign in SIGNS if sign in first_line(cause)]
    keys = (*type(cause).__mro__, of_table, sqlstate, sqlstate[:2], sqlite_code(cause))
    is_cut_off = isinstance(error, DBAPIError) and error.connection_invalidated
    found = (*signs, *(FAULTS[key] for key in keys if key in FAULTS))
    return found[0] if found else Fault.CONNECTION_LOST if is_cut_off else None


def explain(error: BaseException, fault: Fault | None) -> str:
    """Says for the log why the database can't serve, and which URL parameter or statement mends it."""
    cause = driver_error(error)
    names = type(cause).__name__ + (f", {fault}" if fault else "")
    told = f"{sqlstate_of(cause)} {first_line(cause)}"
    cure = next((CURES[sign] for sign in CURES if sign in told), fault.row.cure if fault else "")
    return f"can't be used: {first_line(cause) or 'no answer in time'} ({names}). {cure}".rstrip()
