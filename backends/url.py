"""Translates a `DATABASE_URL`, as hosts hand it out, into the arguments of SQLAlchemy and asyncpg."""
# [Task]: T044, T045, T046, T116, T117 [From]: specs/database/schema.md

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import cycle
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from sqlalchemy import URL, make_url

from backends.tls import TLS, choose_tls
from origins import is_address, is_loopback

POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2")
SQLITE_SCHEMES = ("sqlite", "sqlite+aiosqlite")
POSTGRES_PORT = 5432
SUPABASE_POOLER_PORT = 6543
# A URL without a host means this machine. asyncpg looks for its server at these.
LOCAL_HOSTS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp", "localhost")  # noqa: S108 - Postgres's own
ANY = ("(?s:.*)", "anything")
# The accepted query parameters, each with the pattern of its values, and that pattern in words.
PARAMETERS = {
    "connect_timeout": ("[1-9][0-9]{0,3}", "a whole number of seconds above 0"),
    "pgbouncer": ("true|false", "true or false"),
    # A standby is no choice, since the service writes.
    "target_session_attrs": ("read-write|primary|any", "read-write, primary, any"),
    # Checked where they are used.
    **dict.fromkeys(("application_name", "host", "port", "sslmode", "sslrootcert"), ANY),
    # Ignored: hosts add these for other clients. asyncpg sends SNI, and has no channel binding.
    "options": (r"(endpoint|project)(=|%3[Dd])[^\s%]+", "endpoint=… or project=…"),
    "schema": ("public", "public"),
    **dict.fromkeys(("channel_binding", "connection_limit", "pool_timeout", "socket_timeout", "sslnegotiation"), ANY),
    **dict.fromkeys(("supa", "uselibpqcompat", "workaround"), ANY),
}
WRAPPING = string.whitespace + "\"'"
# The scheme and the login, the hosts, the path.
AUTHORITY = re.compile(r"([\w+]+://(?:[^:/@]*(?::[^@]*)?@)?)([^/]*)(.*)", re.DOTALL)
HOST_AND_PORT = re.compile(r"(\[[^\[\]]+\]|/.*?|[^:]*)(?::([0-9]{0,5}))?")
HOST_NAME = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?")
NOT_A_URL = "is not a database URL; write postgresql://user:password@host/database (percent-encoded: %40 for @)"


class Host(NamedTuple):
    """A host of the database, with the TLS modes to try in their order."""

    name: str  # the folder of a Unix socket, if it begins with a slash
    port: int
    tls: tuple[TLS, ...]

    def __str__(self) -> str:
        is_ipv6 = is_address(self.name) and ":" in self.name
        return f"[{self.name}]:{self.port}" if is_ipv6 else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class DatabaseTarget:
    """Where the database is, and how to connect.

    `url` is for SQLAlchemy, `connect_args` are for the driver, and the service connects to the first of
    `hosts` that serves. `pooled` says that a transaction pooler (PgBouncer) is in between, which keeps
    no session: it takes no named prepared statements and no startup parameters of ours.
    """

    url: URL
    connect_args: dict[str, Any] = field(default_factory=dict)
    pooled: bool = False
    hosts: tuple[Host, ...] = ()

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def place(self) -> str:
        """The file, or the database and its hosts, without a user or password."""
        name, hosts = self.url.database, ", ".join(map(str, self.hosts))
        return f"the file {name}" if self.is_sqlite else f"{name or 'named as its user'} at {hosts}"


def parse_database_url(text: str) -> DatabaseTarget:
    """Reads a database URL with libpq query parameters (PostgreSQL 18, section 32.1.2).

    Strips quotes and blanks around it, and a `psql` before it. Raises `ValueError` with a message that
    names the parameter at fault and shows no part of the URL, which holds a password.
    """
    bare = re.sub(r"^psql\s+(?=\S+$)", "", text.strip(WRAPPING + ";")).strip(WRAPPING)
    if not bare:
        raise ValueError("is set but empty; give it a URL, or unset it for the SQLite file ./todo.db")
    base, _, query = bare.partition("?")
    parts = AUTHORITY.fullmatch(base)
    # A second @, or one after the ?, belongs to a password, whose rest would be taken for a host or a
    # parameter, and shown.
    if parts is None or base.count("@") > 1 or "@" in query or "%00" in bare:
        raise ValueError(NOT_A_URL)
    login, authority, path = parts.groups()
    url = make_url(login + path)
    pairs = parse_qsl(query, keep_blank_values=True)
    if url.drivername in POSTGRES_SCHEMES:
        return read_postgres(url.set(drivername="postgresql+asyncpg"), authority, pairs)
    if url.drivername not in SQLITE_SCHEMES:
        raise ValueError("has an unknown scheme; postgresql:// and sqlite:// are served")
    refuse("that is not served (remove it)", {name for name, _ in pairs})
    if authority or url != URL.create(url.drivername, database=url.database) or url.database in {None, "", ":memory:"}:
        raise ValueError("names no SQLite file; write sqlite:///./todo.db")
    return DatabaseTarget(url.set(drivername="sqlite+aiosqlite"))


def read_postgres(url: URL, authority: str, pairs: Sequence[tuple[str, str]]) -> DatabaseTarget:
    names = [name for name, _ in pairs if name != "host"]
    refuse("more than once", {name for name in names if names.count(name) > 1})
    refuse("that is not served (remove it)", set(names) - PARAMETERS.keys())
    for name, value in pairs:
        pattern, values = PARAMETERS[name]
        if not re.fullmatch(pattern, value):
            raise ValueError(f"has a value of {name} that is not served; it can be {values}")

    parameters = dict(pairs) | {"host": ",".join(value for name, value in pairs if name == "host" and value)}
    attribute = "read-write" if "," in (parameters["host"] or authority) else "any"
    connect_args: dict[str, Any] = {"target_session_attrs": parameters.get("target_session_attrs", attribute)}
    if seconds := parameters.get("connect_timeout"):
        connect_args["timeout"] = float(seconds)
    if application := parameters.get("application_name"):
        connect_args["server_settings"] = {"application_name": application}
    hosts = read_hosts(authority, parameters)
    pooled = any("-pooler" in host.name or host.port == SUPABASE_POOLER_PORT for host in hosts)
    return DatabaseTarget(url, connect_args, pooled or parameters.get("pgbouncer") == "true", hosts)


def read_hosts(authority: str, parameters: Mapping[str, str]) -> tuple[Host, ...]:
    """Reads the hosts of the query, or else those before the path. A host without a port takes the query's port, or
    else the one before the path.
    """
    listed, ports = parameters["host"], parameters.get("port", "")
    specs = (listed or authority).split(",")
    if listed and not ports:
        _, ports = split_host(authority.partition(",")[0])
    own_ports = ports.split(",")
    if len(own_ports) not in {1, len(specs)}:
        raise ValueError("has a port parameter with more or fewer values than there are hosts")
    # Hosts share a context, and the CAs are read once.
    tls_for = cache(partial(choose_tls, sslrootcert=parameters.get("sslrootcert")))
    hosts: list[Host] = []
    for spec, own_port in zip(specs, cycle(own_ports), strict=False):
        name, port = split_host(spec)
        port = port or own_port or str(POSTGRES_PORT)
        is_named = name.startswith("/") or is_address(name) or HOST_NAME.fullmatch(name)
        is_host = is_named or (not name and len(specs) == 1)
        if not (is_host and port.isdecimal() and 0 < int(port[:6]) < 2**16):
            raise ValueError(NOT_A_URL)
        tls = tls_for(parameters.get("sslmode", "disable" if is_loopback(name) else "verify-full"))
        hosts += [Host(place, int(port), tls) for place in ([name] if name else LOCAL_HOSTS)]
    return tuple(hosts)


def split_host(spec: str) -> tuple[str, str]:
    if is_address(spec):  # the query has IPv6 addresses without brackets
        return spec, ""
    parts = HOST_AND_PORT.fullmatch(spec)
    if parts is None:
        raise ValueError(NOT_A_URL)
    return unquote(parts[1]).strip("[]"), parts[2] or ""


def refuse(fault: str, names: Iterable[str]) -> None:
    """Refuses these parameters, if any, by name. A name that may be a part of a password isn't shown."""
    if shown := sorted(name if re.fullmatch("[A-Za-z_]+", name) else "(no name)" for name in names):
        raise ValueError(f"has a query parameter {fault}: {', '.join(shown)}")
