"""Reads a `DATABASE_URL` as hosts hand it out into what SQLAlchemy and asyncpg take."""
# [Task]: T044, T045, T046, T116, T117 [From]: specs/database/schema.md

import re
import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from sqlalchemy import URL, make_url

from backends.tls import TLS, choose_tls
from origins import is_address, is_loopback

POSTGRES_SCHEMES = frozenset(
    {"postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"}
)
SQLITE_SCHEMES = frozenset({"sqlite", "sqlite+aiosqlite"})
POSTGRES_PORT = 5432
SUPABASE_POOLER_PORT = 6543
# Where a URL without a host leads: this machine, as asyncpg looks for it.
LOCAL_HOSTS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp", "localhost")  # noqa: S108 - Postgres's own
# The service writes, so that it can't be served by a standby.
SESSION_ATTRIBUTES = ("read-write", "primary", "any")
# What hosts add for other clients. asyncpg sends SNI, and has no channel binding.
NEEDLESS = (
    *("channel_binding", "connection_limit", "pool_timeout", "socket_timeout"),
    *("sslnegotiation", "supa", "uselibpqcompat", "workaround"),
)
NEEDLESS_OPTIONS = re.compile(r"(endpoint|project)=\S+")
WRAPPING = string.whitespace + "\"'"
# The scheme and the login, the hosts, the path.
AUTHORITY = re.compile(r"([\w+]+://(?:[^:/@]*(?::[^@]*)?@)?)([^/]*)(.*)", re.DOTALL)
HOST_AND_PORT = re.compile(r"(\[[^\[\]]+\]|/.*?|[^:]*)(?::([0-9]{0,5}))?")
HOST_NAME = re.compile(r"[\w.-]+")
NOT_A_URL = (
    "is not a database URL; write postgresql://user:password@host/database"
    " (percent-encode special characters in the password, @ as %40) or sqlite:///./todo.db"
)


class Host(NamedTuple):
    """Where a server may be, and how to speak with it, in the order of trying."""

    name: str  # the folder of a Unix socket where it begins with a slash
    port: int
    tls: tuple[TLS, ...]

    def __str__(self) -> str:
        is_ipv6 = is_address(self.name) and ":" in self.name
        return f"[{self.name}]:{self.port}" if is_ipv6 else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class DatabaseTarget:
    """Where the database is and how to connect.

    `url` goes to SQLAlchemy, `connect_args` to the driver, and the first of `hosts` that serves is
    connected to. `pooled` says that a transaction pooler (PgBouncer) stands in between, which keeps
    no session: no named prepared statements, no startup parameters of our own.
    """

    url: URL
    connect_args: dict[str, Any] = field(default_factory=dict)
    pooled: bool = False
    hosts: tuple[Host, ...] = ()

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"


def parse_database_url(text: str) -> DatabaseTarget:
    """Reads a database URL with libpq query parameters (PostgreSQL 18, section 32.1.2).

    Quotes and blanks around it are dropped, and the `psql` before it. Raises `ValueError` with a
    message that names the parameter at fault and shows no part of the URL, which holds a password.
    """
    bare = re.sub(r"^psql\s+(?=\S+$)", "", text.strip(WRAPPING + ";")).strip(WRAPPING)
    if not bare:
        raise ValueError("is set but empty; give it a URL, or unset it for the SQLite file ./todo.db")
    base, _, query = bare.partition("?")
    parts = AUTHORITY.fullmatch(base)
    # A second @, or one behind a ?, is a password's, and what that cuts off would show up as a host
    # or a parameter.
    if parts is None or base.count("@") > 1 or "@" in query or "%00" in bare:
        raise ValueError(NOT_A_URL)
    login, authority, path = parts.groups()
    url = make_url(login + path)
    pairs = parse_qsl(query, keep_blank_values=True)
    parameters = dict(pairs)
    hosts = [value for name, value in pairs if name == "host" and value]
    if url.drivername in SQLITE_SCHEMES:
        refuse_unknown(parameters)
        is_path = not authority and url == URL.create(url.drivername, database=url.database)
        if not is_path or url.database in {None, "", ":memory:"}:
            raise ValueError("names no SQLite file; write sqlite:///./todo.db")
        return DatabaseTarget(url.set(drivername="sqlite+aiosqlite"))
    if url.drivername in POSTGRES_SCHEMES:
        refuse_repeated(name for name, _ in pairs if name != "host")
        parameters["host"] = ",".join(hosts)
        return read_postgres(url, authority, parameters)
    raise ValueError("has an unknown scheme; postgresql:// and sqlite:// are served")


def read_postgres(url: URL, authority: str, parameters: dict[str, str]) -> DatabaseTarget:
    places = read_places(authority, parameters.pop("host"), parameters.pop("port", ""))
    sslmode, sslrootcert = parameters.pop("sslmode", None), parameters.pop("sslrootcert", None)
    is_local = [is_loopback(name) for name, _ in places]
    tls: tuple[TLS, ...] = (False,)
    if sslmode is not None or not all(is_local):
        tls = choose_tls("verify-full" if sslmode is None else sslmode, sslrootcert)
    hosts = [
        Host(name, port, (False,) if local and sslmode is None else tls)
        for (name, port), local in zip(places, is_local, strict=True)
    ]
    if len(hosts) == 1 and not hosts[0].name:
        hosts = [hosts[0]._replace(name=name) for name in LOCAL_HOSTS]

    connect_args: dict[str, Any] = {
        "target_session_attrs": parameters.pop("target_session_attrs", "any" if len(places) == 1 else "read-write")
    }
    if connect_args["target_session_attrs"] not in SESSION_ATTRIBUTES:
        raise ValueError(
            "has a target_session_attrs that can't be served, since the service writes; the"
            f" others are {', '.join(SESSION_ATTRIBUTES)}"
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
    pooled = pgbouncer == "true" or any("-pooler" in host.name or host.port == SUPABASE_POOLER_PORT for host in hosts)
    drop_needless(parameters)
    refuse_unknown(parameters)
    # `hosts` says where it is.
    url = url.set(drivername="postgresql+asyncpg")
    return DatabaseTarget(url, connect_args, pooled, tuple(hosts))


def read_places(authority: str, listed: str, ports: str) -> list[tuple[str, int]]:
    """The names and ports of the hosts: those of the query, or else those before the path. A host
    without a port of its own has the query's, or that before the path.
    """
    specs = (listed or authority).split(",")
    if listed and not ports:
        _, ports = split_host(authority.split(",", maxsplit=1)[0])
    own_ports = ports.split(",")
    if len(own_ports) == 1:
        own_ports *= len(specs)
    if len(own_ports) != len(specs):
        raise ValueError("has a port parameter with more or fewer values than there are hosts")
    places = []
    for spec, own_port in zip(specs, own_ports, strict=True):
        name, port = split_host(spec)
        port = port or own_port or str(POSTGRES_PORT)
        is_known = is_host(name) if name else len(specs) == 1
        if not (is_known and port.isdecimal() and 0 < int(port[:6]) < 2**16):
            raise ValueError(NOT_A_URL)
        places.append((name, int(port)))
    return places


def split_host(spec: str) -> tuple[str, str]:
    if is_address(spec):  # which the query has without brackets
        return spec, ""
    parts = HOST_AND_PORT.fullmatch(spec)
    if parts is None:
        raise ValueError(NOT_A_URL)
    return unquote(parts[1]).strip("[]"), parts[2] or ""


def is_host(host: str) -> bool:
    """Whether it can be looked up, as far as that can be told without doing so."""
    if host.startswith("/") or is_address(host):
        return True
    try:
        return HOST_NAME.fullmatch(host) is not None and bool(host.encode("idna"))
    except UnicodeError:
        return False


def refuse_repeated(names: Iterable[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"has a query parameter more than once: {show_names(repeated)}")


def drop_needless(parameters: dict[str, str]) -> None:
    for name in NEEDLESS:
        parameters.pop(name, None)
    if NEEDLESS_OPTIONS.fullmatch(unquote(parameters.get("options", ""))):
        del parameters["options"]
    if parameters.get("schema") == "public":
        del parameters["schema"]


def refuse_unknown(parameters: Iterable[str]) -> None:
    if names := show_names(parameters):
        raise ValueError(f"has a query parameter that is not served: {names}; remove it")


def show_names(names: Iterable[str]) -> str:
    """What doesn't look like a parameter's name may be a part of something secret."""
    known = sorted(name if re.fullmatch("[A-Za-z_]+", name) else "(no name)" for name in names)
    return ", ".join(known)
