# [Task]: T044, T045, T046 [From]: specs/database/schema.md
"""Reads a `DATABASE_URL` as hosts hand it out into what SQLAlchemy and asyncpg take."""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

POSTGRES_SCHEMES: Final = frozenset(
    {
        "postgres",
        "postgresql",
        "postgresql+asyncpg",
        "postgresql+psycopg",
        "postgresql+psycopg2",
    }
)
SQLITE_SCHEMES: Final = frozenset({"sqlite", "sqlite+aiosqlite"})
SUPABASE_POOLER_PORT: Final = 6543
NOT_A_URL: Final = (
    "is not a database URL; write postgresql://user:password@host/database"
    " (percent-encode special characters in the password, @ as %40) or sqlite:///./todo.db"
)


@dataclass(frozen=True)
class DatabaseTarget:
    """Where the database is and how to connect.

    `url` goes to SQLAlchemy and `connect_args` to the driver. `pooled` says that a transaction
    pooler (PgBouncer) stands in between, which keeps no session: no named prepared statements,
    no startup parameters of our own.
    """

    url: URL
    connect_args: dict[str, Any] = field(default_factory=dict)
    pooled: bool = False

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"


def parse_database_url(text: str) -> DatabaseTarget:
    """Reads a database URL with libpq query parameters (PostgreSQL 18, section 32.1.2).

    Quotes and blanks around it are dropped. Raises `ValueError` with a message that names the
    parameter at fault and shows no part of the URL, which holds a password.
    """
    base, _, query = text.strip().strip("\"'").strip().partition("?")
    try:
        url = make_url(base)
    except (ArgumentError, ValueError):
        raise ValueError(NOT_A_URL) from None
    # A second @, or one behind a ?, is a password's, and what that cuts off would show up as a host
    # or a parameter.
    if base.count("@") > 1 or "@" in query or not is_port(url.port):
        raise ValueError(NOT_A_URL)
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if url.drivername in SQLITE_SCHEMES:
        refuse_unknown(parameters)
        is_path = url == URL.create(url.drivername, database=url.database)
        if not is_path or url.database in {None, "", ":memory:"}:
            raise ValueError("names no SQLite file; write sqlite:///./todo.db")
        return DatabaseTarget(url.set(drivername="sqlite+aiosqlite"))
    if url.drivername in POSTGRES_SCHEMES:
        return read_postgres(url, parameters)
    raise ValueError("has an unknown scheme; postgresql:// and sqlite:// are served")


def read_postgres(url: URL, parameters: dict[str, str]) -> DatabaseTarget:
    connect_args: dict[str, Any] = {}
    host = parameters.pop("host", None) or unquote(url.host or "")
    is_socket = host.startswith("/")
    if is_socket:
        connect_args["host"] = host
    elif not is_host(host):
        raise ValueError(NOT_A_URL)

    connect_args["ssl"] = choose_tls(
        parameters.pop("sslmode", None),
        parameters.pop("sslrootcert", None),
        is_local=is_socket or is_loopback(host),
    )
    if (seconds := parameters.pop("connect_timeout", None)) is not None:
        if not re.fullmatch("[1-9][0-9]{0,3}", seconds):
            raise ValueError("has a connect_timeout that is no whole number of seconds above 0")
        connect_args["timeout"] = float(seconds)
    if name := parameters.pop("application_name", None):
        connect_args["server_settings"] = {"application_name": name}

    pgbouncer = parameters.pop("pgbouncer", "false")
    if pgbouncer not in {"true", "false"}:
        raise ValueError("has a pgbouncer parameter that is neither true nor false")
    pooled = pgbouncer == "true" or "-pooler" in host or url.port == SUPABASE_POOLER_PORT
    if pooled:
        # asyncpg then sends unnamed statements, which PgBouncer can hand to any server connection.
        connect_args["statement_cache_size"] = 0

    drop_needless(parameters)
    refuse_unknown(parameters)
    return DatabaseTarget(
        URL.create(
            "postgresql+asyncpg",
            username=url.username,
            password=url.password,
            host=None if is_socket else host or None,
            port=url.port,
            database=url.database,
        ),
        connect_args,
        pooled,
    )


def is_port(port: int | None) -> bool:
    return port is None or 0 < port < 2**16


def is_host(host: str) -> bool:
    """Whether it can be looked up, as far as that can be told without doing so."""
    try:
        return not host or bool(host.encode("idna"))
    except UnicodeError:
        return False


def is_loopback(host: str) -> bool:
    try:
        return host.lower() in {"", "localhost"} or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def choose_tls(
    sslmode: str | None, sslrootcert: str | None, *, is_local: bool
) -> ssl.SSLContext | str | bool:
    """What asyncpg's `ssl` gets. Its own reading of `require` would verify nothing, so the
    modes that promise TLS are contexts made here.
    """

    def verified() -> ssl.SSLContext:
        cafile = None if sslrootcert in {None, "system"} else sslrootcert
        try:
            return ssl.create_default_context(cafile=cafile)
        except OSError:  # ssl.SSLError, for a file that holds no certificate, is one too
            raise ValueError("has an sslrootcert that names no readable CA file") from None

    def verified_but_for_the_name() -> ssl.SSLContext:
        context = verified()
        context.check_hostname = False
        return context

    def unverified() -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    modes: dict[str | None, Callable[[], ssl.SSLContext | str | bool]] = {
        None: lambda: False if is_local else verified(),
        "disable": lambda: False,
        "allow": lambda: "allow",
        "prefer": lambda: "prefer",
        "no-verify": unverified,
        "require": verified,
        "verify-ca": verified_but_for_the_name,
        "verify-full": verified,
    }
    if sslmode not in modes:
        known = ", ".join(mode for mode in modes if mode)
        raise ValueError(f"has an unknown sslmode; the known ones are {known}")
    return modes[sslmode]()


def drop_needless(parameters: dict[str, str]) -> None:
    """Drops what asyncpg has no use for: it sends SNI and has no channel binding."""
    parameters.pop("channel_binding", None)
    parameters.pop("sslnegotiation", None)
    if parameters.get("options", "").startswith("endpoint="):
        del parameters["options"]
    if parameters.get("schema") == "public":
        del parameters["schema"]


def refuse_unknown(parameters: dict[str, str]) -> None:
    if parameters:
        # What doesn't look like a parameter's name may be a part of something secret.
        names = ", ".join(
            sorted(name if re.fullmatch("[A-Za-z_]+", name) else "(no name)" for name in parameters)
        )
        raise ValueError(f"has a query parameter that is not served: {names}; remove it")
