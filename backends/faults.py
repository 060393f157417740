"""The faults of a database, one row each: how they are told, and what follows."""
# [Task]: T045, T052, T053, T087, T088, T096 [From]: specs/database/schema.md, specs/reliability.md

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from sqlite3 import (
    SQLITE_BUSY,
    SQLITE_CANTOPEN,
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
from typing import Any, Self

from asyncpg import InternalClientError, InvalidCachedStatementError, TargetServerAttributeNotMatched
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from errors import ServiceUnavailable, StartupError
from metrics import DATABASE_FAULTS, TIMEOUTS

# How asyncpg says that a server refused TLS, or ended the connection when asked for it.
NO_TLS = "rejected SSL upgrade"
TLS_SIGNS = (NO_TLS, "SSL exchange", "unexpected connection_lost")
# How SQLite says that the file is another database by now.
SCHEMA_SIGNS = ("no such table: task", "no such column: task.", "table task has no column")
# How a transaction pooler refuses a client that doesn't know it is one.
POOLER_REFUSAL = "unsupported startup parameter"
SET_SEQUENCE = (
    "The sequence of its ids is behind the rows, as after a copy. Type"
    " SELECT setval(pg_get_serial_sequence('task', 'id'), (SELECT max(id) FROM task));"
)
UNAVAILABLE = "The database is unavailable, try again"


@dataclass(frozen=True)
class Row:
    """How a fault is told, and what follows.

    A connection that it breaks is given up, and older ones are replaced. A statement runs once more if
    the server rolled it back, or if the fault is transient and nothing can have been done.
    """

    name: str
    # Exceptions, SQLSTATEs (PostgreSQL 18, appendix A) or their classes, and SQLite's primary codes.
    told_by: tuple[type[Exception] | str | int, ...] = ()
    _: KW_ONLY
    signs: tuple[str, ...] = ()  # in the message; they come first
    breaks_connection: bool = False
    rolled_back: bool = False
    transient: bool = False
    limit: str | None = None  # in `TIMEOUTS`
    cure: str = ""


class Fault(StrEnum):
    """A fault, by its name in the log and in the metrics. An error without a row is the program's."""

    row: Row

    def __new__(cls, row: Row) -> Self:
        self = str.__new__(cls, row.name)
        self._value_, self.row = row.name, row
        return self

    UNREACHABLE = Row("unreachable", (ConnectionRefusedError, SQLITE_CANTOPEN), transient=True)
    TLS = Row("tls", (SSLError,), signs=TLS_SIGNS, cure="sslmode=disable connects without TLS.")
    LOGIN = Row("login", ("28", "3D"), cure="Correct the user or the password in DATABASE_URL.")
    TOO_MANY_CONNECTIONS = Row("too_many_connections", ("53300",), transient=True)
    # The pool's own, or PgBouncer's, whose SQLSTATE is that of a protocol error.
    POOL_EXHAUSTED = Row("pool_exhausted", (PoolTimeoutError,), signs=("query_wait_timeout",), limit="pool")
    CONNECT_TIMEOUT = Row("connect_timeout", limit="connect")
    SILENT = Row("silent", (TimeoutError,), breaks_connection=True, limit="statement")
    # InternalClientError: what came isn't the protocol, or not what asyncpg knows of the types.
    CONNECTION_LOST = Row(
        "connection_lost", (ConnectionError, InternalClientError, "08"), breaks_connection=True, transient=True
    )
    SHUTTING_DOWN = Row("shutting_down", ("57",), breaks_connection=True, transient=True)
    # A primary may have become a standby.
    READ_ONLY = Row(
        "read_only",
        (TargetServerAttributeNotMatched, "25006", SQLITE_READONLY),
        breaks_connection=True,
        rolled_back=True,
    )
    STATEMENT_TIMEOUT = Row("statement_timeout", ("57014",), limit="statement")
    LOCKED = Row("locked", ("55P03", SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL))
    DEADLOCK = Row("deadlock", ("40P01",), rolled_back=True)
    SERIALIZATION = Row("serialization", ("40001",), rolled_back=True)
    # A prepared statement is gone, or is another client's.
    OUTDATED = Row(
        "outdated",
        (InvalidCachedStatementError, "26000", "42P05"),
        signs=SCHEMA_SIGNS,
        breaks_connection=True,
        rolled_back=True,
    )
    # Of the table `task` alone.
    IDS_TAKEN = Row("ids_taken", ("23505 task",), rolled_back=True, cure=SET_SEQUENCE)
    OUT_OF_RESOURCES = Row("out_of_resources", ("53", SQLITE_FULL, SQLITE_NOMEM))
    SYSTEM_ERROR = Row("system_error", ("58", "XX", SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_NOTADB))


SIGNS = {sign: fault for fault in Fault for sign in fault.row.signs}
FAULTS: dict[object, Fault] = {key: fault for fault in Fault for key in fault.row.told_by}
for fault in Fault:
    DATABASE_FAULTS.labels(fault)  # from the start, as 0

# What mends an error, by its SQLSTATE or a part of its message. The first that fits counts.
CURES = {
    "mismatch, certificate is not valid": "sslmode=verify-ca leaves the host name unchecked.",
    "CERTIFICATE_VERIFY_FAILED": "sslmode=no-verify accepts any certificate; sslrootcert=FILE names the CA.",
    "no encryption": "sslmode=require connects with TLS.",  # Postgres
    "connection is insecure": "sslmode=require connects with TLS.",  # Neon
    POOLER_REFUSAL: "pgbouncer=true says that a transaction pooler stands in between.",
    "prepared statement": "pgbouncer=true says that a transaction pooler stands in between.",
    "3D000": "Correct its name at the end of DATABASE_URL, or make it:"
    " CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;",
    "42501": "Type GRANT CONNECT ON DATABASE … TO …;",
}


class DatabaseUnavailable(ServiceUnavailable):
    """The database can't serve now. `is_undone` says that the statement was not sent, or only reads."""

    def __init__(self, error: Exception, fault: Fault | None, *, is_undone: bool = False) -> None:
        super().__init__(f"The database of DATABASE_URL {explain(error, fault)}", detail=UNAVAILABLE)
        self.fault = fault
        self.is_repeatable = fault is not None and (fault.row.rolled_back or (is_undone and fault.row.transient))

    def count(self) -> None:
        if self.fault is None:
            return
        DATABASE_FAULTS.labels(self.fault).inc()
        if self.fault.row.limit is not None:
            TIMEOUTS.labels(self.fault.row.limit).inc()


@contextmanager
def translate_faults() -> Iterator[None]:
    """Raises `DatabaseUnavailable` in place of a fault, and leaves other errors as they are."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ServiceUnavailable) or (fault := fault_of(error)) is None:
            raise
        raise DatabaseUnavailable(error, fault) from error


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error, without what SQLAlchemy and the service wrapped around it."""
    is_ours = isinstance(error, ServiceUnavailable | StartupError)
    cause: Any = error.__cause__ if is_ours else getattr(error, "orig", None)
    return driver_error(cause) if isinstance(cause, BaseException) else error


def sqlstate_of(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def sqlite_code(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


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
    """Why the database can't serve, for the log, with the URL parameter or statement that mends it."""
    cause = driver_error(error)
    names = ", ".join(filter(None, (type(cause).__name__, fault)))
    told = f"{sqlstate_of(cause)} {first_line(cause)}"
    cure = next((CURES[sign] for sign in CURES if sign in told), fault.row.cure if fault else "")
    return f"can't be used: {first_line(cause) or 'no answer in time'} ({names}). {cure}".rstrip()
