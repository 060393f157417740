# [Task]: T045, T052, T053 [From]: specs/database/schema.md
"""What can be wrong with a database, and what that means: a 503, or no start at all."""

import sqlite3
import ssl
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from errors import ServiceUnavailable

RETRY_AFTER_SECONDS: Final = 2

# SQLSTATE classes and codes (PostgreSQL 18, appendix A) of a database that can't serve now:
# connection, insufficient resources, operator intervention and statement timeout, system error;
# read-only, serialization failure, deadlock, lock not available.
UNAVAILABLE_CLASSES: Final = ("08", "53", "57", "58")
UNAVAILABLE_CODES: Final = frozenset({"25006", "40001", "40P01", "55P03"})
# Wrong credentials, no such database, no such folder, no database file: no waiting mends these.
HOPELESS_CODES: Final = frozenset({"28000", "28P01", "3D000"})
SQLITE_HOPELESS: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB})
SQLITE_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
NAME_MISMATCH: Final = frozenset({62, 64})
# How asyncpg says that a server refused TLS, or ended the connection when asked for it…
NO_TLS_SIGNS: Final = ("rejected SSL upgrade", "SSL exchange", "unexpected connection_lost")
# …and how Postgres and Neon say that they serve nobody without.
TLS_NEEDED_SIGNS: Final = ("no encryption", "connection is insecure")


class StartupError(Exception):
    """The service can't start. The message is ready to print and shows no secret."""


class translate_faults:  # noqa: N801 - a context manager; as a generator it would take its time
    """Turns what a database raises that can't serve now into `ServiceUnavailable`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and is_unavailable(error):
            raise unavailable(error) from error


def codes_of(error: BaseException | None) -> tuple[str, int]:
    """The SQLSTATE of a Postgres error and the primary result code of an SQLite one."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    sqlstate: str = getattr(cause, "sqlstate", None) or ""
    sqlite_code: int = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return sqlstate, sqlite_code


def is_unavailable(error: Exception) -> bool:
    if isinstance(error, PoolTimeoutError | TimeoutError | ConnectionError):
        return True
    if not isinstance(error, DBAPIError | asyncpg.PostgresError):
        return False
    sqlstate, sqlite_code = codes_of(error)
    return (
        (isinstance(error, DBAPIError) and error.connection_invalidated)
        or sqlstate.startswith(UNAVAILABLE_CLASSES)
        or sqlstate in UNAVAILABLE_CODES
        or sqlite_code in SQLITE_UNAVAILABLE
    )


def is_hopeless(error: BaseException | None) -> bool:
    """Whether waiting for the database is vain."""
    sqlstate, sqlite_code = codes_of(error)
    return sqlstate in HOPELESS_CODES or sqlite_code in SQLITE_HOPELESS


def unavailable(error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(
        explain(error),
        detail="The database is unavailable, try again",
        retry_after=RETRY_AFTER_SECONDS,
    )


def explain(error: BaseException) -> str:
    """Why the database can't serve, for the log, with the `sslmode` that would change it."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    reason = f"can't be used: {str(cause) or 'no answer in time'} ({type(cause).__name__})."
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in NAME_MISMATCH:
            return f"{reason} sslmode=verify-ca leaves the host name unchecked."
        return f"{reason} sslmode=no-verify accepts any certificate; sslrootcert=FILE names the CA."
    if isinstance(cause, ssl.SSLError) or any(sign in str(cause) for sign in NO_TLS_SIGNS):
        return f"{reason} sslmode=disable connects without TLS."
    if any(sign in str(cause) for sign in TLS_NEEDED_SIGNS):
        return f"{reason} sslmode=require connects with TLS."
    return reason
