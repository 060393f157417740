"""What can be wrong with a database, and what that means: a 503, or no start at all."""
# [Task]: T045, T052, T053, T087, T088, T096 [From]: specs/database/schema.md, specs/reliability.md

import sqlite3
import ssl
from enum import StrEnum

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from errors import ServiceUnavailable, StartupError
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
    IDS_TAKEN = "ids_taken"
    OUT_OF_RESOURCES = "out_of_resources"
    SYSTEM_ERROR = "system_error"


for fault in Fault:
    DATABASE_FAULTS.labels(fault)  # from the start, as 0

# By SQLSTATE or its class (PostgreSQL 18, appendix A). Other codes are the program's fault.
SQLSTATES = {
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
SQLITE_CODES = {
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
EXCEPTIONS: tuple[tuple[type[Exception], Fault], ...] = (
    (PoolTimeoutError, Fault.POOL_EXHAUSTED),
    (asyncpg.InvalidCachedStatementError, Fault.OUTDATED),
    (asyncpg.TargetServerAttributeNotMatched, Fault.READ_ONLY),
    # What came is not the protocol, or not what asyncpg knows of the types.
    (asyncpg.InternalClientError, Fault.CONNECTION_LOST),
    (ssl.SSLError, Fault.TLS),
    (TimeoutError, Fault.SILENT),
    (ConnectionRefusedError, Fault.UNREACHABLE),
    (ConnectionError, Fault.CONNECTION_LOST),
)

# After these a connection is of no use, and those that are as old are suspect.
SPOILED = frozenset({Fault.SILENT, Fault.CONNECTION_LOST, Fault.SHUTTING_DOWN, Fault.READ_ONLY, Fault.OUTDATED})
# After these nothing was done: the server has said so.
TAKEN_BACK = frozenset({Fault.READ_ONLY, Fault.DEADLOCK, Fault.SERIALIZATION, Fault.OUTDATED, Fault.IDS_TAKEN})
# These come at once and may be gone the next moment; the others have used up their time.
QUICK = frozenset({Fault.UNREACHABLE, Fault.TOO_MANY_CONNECTIONS, Fault.CONNECTION_LOST, Fault.SHUTTING_DOWN})

# The limits of time that were reached, as the metrics name them.
LIMITS = {
    Fault.POOL_EXHAUSTED: "pool",
    Fault.CONNECT_TIMEOUT: "connect",
    Fault.SILENT: "statement",
    Fault.STATEMENT_TIMEOUT: "statement",
}

# How asyncpg says that a server refused TLS…
NO_TLS = "rejected SSL upgrade"
# …or ended the connection when asked for it.
NO_TLS_SIGNS = (NO_TLS, "SSL exchange", "unexpected connection_lost")
# How PgBouncer says that it had no connection to give in time, by the SQLSTATE of a protocol error.
POOLER_EXHAUSTED = "query_wait_timeout"
# How SQLite says that the table isn't ours: the file is another one by now.
SQLITE_SCHEMA_SIGNS = ("no such table: task", "no such column: task.", "table task has no column")
# How a transaction pooler says that it wasn't taken for one.
POOLER_REFUSAL = "unsupported startup parameter"

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
NAME_MISMATCH = frozenset({62, 64})
CERTIFICATE_CURE = "sslmode=no-verify accepts any certificate; sslrootcert=FILE names the CA."
NAME_CURE = "sslmode=verify-ca leaves the host name unchecked."
TLS_CURE = "sslmode=require connects with TLS."
POOLER_CURE = "pgbouncer=true says that a transaction pooler stands in between."
# What changes it, by what the error says…
CURES_BY_SIGN = {
    "no encryption": TLS_CURE,  # Postgres, which serves nobody without…
    "connection is insecure": TLS_CURE,  # …and Neon
    POOLER_REFUSAL: POOLER_CURE,
    "prepared statement": POOLER_CURE,
}
# …by its SQLSTATE, or by its fault.
CURES = {
    "3D000": "Correct its name at the end of DATABASE_URL, or make it:"
    " CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;",
    "42501": "Type GRANT CONNECT ON DATABASE … TO …;",
    Fault.TLS: "sslmode=disable connects without TLS.",
    Fault.LOGIN: "Correct the user or the password in DATABASE_URL.",
    Fault.IDS_TAKEN: "The sequence of its ids is behind the rows, as after a copy. Type"
    " SELECT setval(pg_get_serial_sequence('task', 'id'), (SELECT max(id) FROM task));",
}


UNAVAILABLE = "The database is unavailable, try again"


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
    """What the driver has raised, without what SQLAlchemy and we have put around it."""
    while isinstance(cause := getattr(error, "orig", None) or own_cause(error), BaseException):
        error = cause
    return error


def own_cause(error: BaseException) -> BaseException | None:
    return error.__cause__ if isinstance(error, ServiceUnavailable | StartupError) else None


def sqlstate_of(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


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
    if sqlite_code(cause) and any(sign in str(cause) for sign in SQLITE_SCHEMA_SIGNS):
        return Fault.OUTDATED
    for kind, fault in EXCEPTIONS:
        if isinstance(cause, kind):
            return fault
    sqlstate = sqlstate_of(cause)
    if sqlstate == "23505" and getattr(cause, "table_name", None) == "task":
        return Fault.IDS_TAKEN
    is_cut_off = isinstance(error, DBAPIError) and error.connection_invalidated
    return (
        SQLSTATES.get(sqlstate)
        or SQLSTATES.get(sqlstate[:2])
        or SQLITE_CODES.get(sqlite_code(cause))
        or (Fault.CONNECTION_LOST if is_cut_off else None)
    )


def unavailable(error: Exception, fault: Fault | None, *, is_undone: bool = False) -> ServiceUnavailable:
    """The 503 for this error, to be tried once more where that is of use: `is_undone` says that
    nothing was sent that could have been done, or nothing that does harm when it is done twice.
    """
    if fault is not None:
        DATABASE_FAULTS.labels(fault).inc()
    if fault in LIMITS:
        TIMEOUTS.labels(LIMITS[fault]).inc()
    return ServiceUnavailable(
        f"The database of DATABASE_URL {explain(error, fault)}",
        detail=UNAVAILABLE,
        is_repeatable=fault in TAKEN_BACK or (is_undone and fault in QUICK),
    )


def explain(error: BaseException, fault: Fault | None) -> str:
    """Why the database can't serve, for the log, with what would change it: a parameter of its URL,
    or a statement.
    """
    cause = driver_error(error)
    names = ", ".join(filter(None, (type(cause).__name__, fault)))
    # The first line; further ones are the server's details, and may hold values.
    message = str(cause).partition("\n")[0] or "no answer in time"
    return f"can't be used: {message} ({names}). {cure_of(cause, fault)}".rstrip()


def cure_of(cause: BaseException, fault: Fault | None) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NAME_CURE if cause.verify_code in NAME_MISMATCH else CERTIFICATE_CURE
    for sign, cure in CURES_BY_SIGN.items():
        if sign in str(cause):
            return cure
    return CURES.get(sqlstate_of(cause)) or CURES.get(fault or "") or ""
