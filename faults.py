# [Task]: T045, T052, T053, T087, T088, T096 [From]: specs/database/schema.md, specs/reliability.md
"""What can be wrong with a database, and what that means: a 503, or no start at all."""

import sqlite3
import ssl
from enum import StrEnum
from typing import Any, Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from errors import ServiceUnavailable
from metrics import DATABASE_FAULTS, TIMEOUTS


class Fault(StrEnum):
    """What is wrong with a database, by its name in the log and in the metrics."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    LOGIN = "login"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    POOL_EXHAUSTED = "pool_exhausted"
    CONNECT_TIMEOUT = "connect_timeout"
    SILENT = "silent"
    CONNECTION_LOST = "connection_lost"
    SHUTTING_DOWN = "shutting_down"
    READ_ONLY = "read_only"
    STATEMENT_TIMEOUT = "statement_timeout"
    LOCKED = "locked"
    DEADLOCK = "deadlock"
    SERIALIZATION = "serialization"
    OUTDATED = "outdated"
    OUT_OF_RESOURCES = "out_of_resources"
    SYSTEM_ERROR = "system_error"


for fault in Fault:
    DATABASE_FAULTS.labels(fault)  # from the start, as 0

# By SQLSTATE or its class (PostgreSQL 18, appendix A). Other codes are the program's fault.
SQLSTATES: Final = {
    "08": Fault.CONNECTION_LOST,
    "25006": Fault.READ_ONLY,  # a primary that is one no more
    "26000": Fault.OUTDATED,  # a prepared statement that isn't there…
    "28": Fault.LOGIN,
    "3D": Fault.LOGIN,
    "40001": Fault.SERIALIZATION,
    "40P01": Fault.DEADLOCK,
    "42P05": Fault.OUTDATED,  # …or is another client's
    "53": Fault.OUT_OF_RESOURCES,
    "53300": Fault.TOO_MANY_CONNECTIONS,
    "55P03": Fault.LOCKED,
    "57": Fault.SHUTTING_DOWN,
    "57014": Fault.STATEMENT_TIMEOUT,
    "58": Fault.SYSTEM_ERROR,
    "XX": Fault.SYSTEM_ERROR,
}
# By the primary result code.
SQLITE_CODES: Final = {
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_IOERR: Fault.SYSTEM_ERROR,
    sqlite3.SQLITE_FULL: Fault.OUT_OF_RESOURCES,
    sqlite3.SQLITE_NOMEM: Fault.OUT_OF_RESOURCES,
    sqlite3.SQLITE_CANTOPEN: Fault.UNREACHABLE,
    sqlite3.SQLITE_PROTOCOL: Fault.LOCKED,
    sqlite3.SQLITE_CORRUPT: Fault.SYSTEM_ERROR,
    sqlite3.SQLITE_NOTADB: Fault.SYSTEM_ERROR,
}
# The first that fits.
EXCEPTIONS: Final[tuple[tuple[type[Exception], Fault], ...]] = (
    (PoolTimeoutError, Fault.POOL_EXHAUSTED),
    (asyncpg.InvalidCachedStatementError, Fault.OUTDATED),
    # What came is not the protocol, or not what asyncpg knows of the types.
    (asyncpg.InternalClientError, Fault.CONNECTION_LOST),
    (ssl.SSLError, Fault.TLS),
    (TimeoutError, Fault.SILENT),
    (ConnectionRefusedError, Fault.UNREACHABLE),
    (ConnectionError, Fault.CONNECTION_LOST),
)

# After these a connection is of no use, and those that are as old are suspect.
SPOILED: Final = frozenset(
    {
        Fault.SILENT,
        Fault.CONNECTION_LOST,
        Fault.SHUTTING_DOWN,
        Fault.READ_ONLY,
        Fault.OUTDATED,
    }
)
# After these nothing was done: the server has said so.
TAKEN_BACK: Final = frozenset(
    {Fault.READ_ONLY, Fault.DEADLOCK, Fault.SERIALIZATION, Fault.OUTDATED}
)
# These come at once and may be gone the next moment; the others have used up their time.
QUICK: Final = frozenset(
    {
        Fault.UNREACHABLE,
        Fault.TOO_MANY_CONNECTIONS,
        Fault.CONNECTION_LOST,
        Fault.SHUTTING_DOWN,
    }
)

# The limits of time that were reached, as the metrics name them.
LIMITS: Final = {
    Fault.POOL_EXHAUSTED: "pool",
    Fault.CONNECT_TIMEOUT: "connect",
    Fault.SILENT: "statement",
    Fault.STATEMENT_TIMEOUT: "statement",
}

# No such folder, no database file: no waiting mends these.
SQLITE_HOPELESS: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB})

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
NAME_MISMATCH: Final = frozenset({62, 64})
# How asyncpg says that a server refused TLS, or ended the connection when asked for it…
NO_TLS_SIGNS: Final = ("rejected SSL upgrade", "SSL exchange", "unexpected connection_lost")
# …and how Postgres and Neon say that they serve nobody without.
TLS_NEEDED_SIGNS: Final = ("no encryption", "connection is insecure")
# How PgBouncer says that it had no connection to give in time, by the SQLSTATE of a protocol error.
POOLER_EXHAUSTED: Final = "query_wait_timeout"
# How a transaction pooler says that it wasn't taken for one.
POOLER_SIGNS: Final = ("unsupported startup parameter", "prepared statement")


class StartupError(Exception):
    """The service can't start. The message is ready to print and shows no secret."""


class translate_faults:  # noqa: N801 - a context manager; as a generator it would take its time
    """Turns what a database raises that can't serve now into `ServiceUnavailable`, and leaves one
    that is that already.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, ServiceUnavailable):
            return
        if fault := fault_of(error):
            raise unavailable(error, fault) from error


def driver_error(error: BaseException) -> BaseException:
    """What the driver has raised, without what SQLAlchemy has put around it."""
    while isinstance(cause := getattr(error, "orig", None), BaseException):
        error = cause
    return error


def sqlite_code(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def fault_of(error: BaseException) -> Fault | None:
    """What an error says is wrong with the database, or None for an error of the program."""
    cause = driver_error(error)
    if any(sign in str(cause) for sign in NO_TLS_SIGNS):
        return Fault.TLS
    if POOLER_EXHAUSTED in str(cause):
        return Fault.POOL_EXHAUSTED
    for kind, fault in EXCEPTIONS:
        if isinstance(cause, kind):
            return fault
    sqlstate: Any = getattr(cause, "sqlstate", None) or ""
    is_cut_off = isinstance(error, DBAPIError) and error.connection_invalidated
    return (
        SQLSTATES.get(sqlstate)
        or SQLSTATES.get(sqlstate[:2])
        or SQLITE_CODES.get(sqlite_code(cause))
        or (Fault.CONNECTION_LOST if is_cut_off else None)
    )


def is_hopeless(error: BaseException) -> bool:
    """Whether waiting for the database is vain."""
    return fault_of(error) is Fault.LOGIN or sqlite_code(driver_error(error)) in SQLITE_HOPELESS


def unavailable(error: Exception, fault: Fault, *, is_undone: bool = False) -> ServiceUnavailable:
    """The 503 for this error, to be tried once more where that is of use: `is_undone` says that
    nothing was sent that could have been done, or nothing that does harm when it is done twice.
    """
    DATABASE_FAULTS.labels(fault).inc()
    if fault in LIMITS:
        TIMEOUTS.labels(LIMITS[fault]).inc()
    return ServiceUnavailable(
        f"The database of DATABASE_URL {explain(error, fault)}",
        detail="The database is unavailable, try again",
        is_repeatable=fault in TAKEN_BACK or (is_undone and fault in QUICK),
    )


def explain(error: BaseException, fault: Fault | None) -> str:
    """Why the database can't serve, for the log, with the parameter of its URL that would change
    it.
    """
    cause = driver_error(error)
    names = ", ".join(filter(None, (type(cause).__name__, fault)))
    # The first line; further ones are the server's details, and may hold values.
    message = str(cause).partition("\n")[0] or "no answer in time"
    reason = f"can't be used: {message} ({names})."
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in NAME_MISMATCH:
            return f"{reason} sslmode=verify-ca leaves the host name unchecked."
        return f"{reason} sslmode=no-verify accepts any certificate; sslrootcert=FILE names the CA."
    if fault is Fault.TLS:
        return f"{reason} sslmode=disable connects without TLS."
    if any(sign in str(cause) for sign in TLS_NEEDED_SIGNS):
        return f"{reason} sslmode=require connects with TLS."
    if any(sign in str(cause) for sign in POOLER_SIGNS):
        return f"{reason} pgbouncer=true says that a transaction pooler stands in between."
    return reason
