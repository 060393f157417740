# [Task]: T044, T045, T046 [From]: specs/database/schema.md
"""`DATABASE_URL`, row by row of the specification's tables."""

import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest

from database_url import DatabaseTarget, parse_database_url

REMOTE = "postgresql://user:secret@db.example/todo"
LOCAL = "postgresql://user:secret@localhost/todo"


def tls_of(target: DatabaseTarget) -> Any:
    """(verifies the certificate, verifies the name), or what stands in a context's place."""
    context = target.connect_args["ssl"]
    if not isinstance(context, ssl.SSLContext):
        return context
    return context.verify_mode is ssl.CERT_REQUIRED, context.check_hostname


@pytest.mark.requirement("T044")
@pytest.mark.parametrize(
    "scheme",
    [
        "postgres",
        "postgresql",
        "postgresql+asyncpg",
        "postgresql+psycopg",
        "postgresql+psycopg2",
    ],
)
@pytest.mark.parametrize("wrap", ["{}", "'{}'", '"{}"', "  {} \n", ' "{}" ', '" {}"'])
def test_postgres_schemes_quotes_and_blanks(scheme: str, wrap: str) -> None:
    text = wrap.format(f"{scheme}://user:p%40ss%3F@db.example:5433/todo")

    target = parse_database_url(text)

    url = target.url
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.host) == ("user", "p@ss?", "db.example")
    assert (url.port, url.database, dict(url.query)) == (5433, "todo", {})
    assert not target.is_sqlite


@pytest.mark.requirement("T044")
@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
def test_sqlite_schemes(scheme: str) -> None:
    target = parse_database_url(f"{scheme}:///./todo.db")

    assert target.url.render_as_string() == "sqlite+aiosqlite:///./todo.db"
    assert target.is_sqlite
    assert target.connect_args == {}


@pytest.mark.requirement("T045")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (True, True)),
        ("?sslmode=require", (True, True)),
        ("?sslmode=verify-full", (True, True)),
        ("?sslmode=verify-ca", (True, False)),
        ("?sslmode=no-verify", (False, False)),
        ("?sslmode=prefer", "prefer"),
        ("?sslmode=allow", "allow"),
        ("?sslmode=disable", False),
        (f"?sslrootcert={certifi.where()}", (True, True)),
        ("?sslmode=require&sslrootcert=system", (True, True)),
        (f"?sslmode=verify-ca&sslrootcert={certifi.where()}", (True, False)),
        ("?sslmode=disable&sslrootcert=/nowhere", False),
    ],
)
def test_tls_of_another_host(query: str, expected: object) -> None:
    assert tls_of(parse_database_url(REMOTE + query)) == expected


@pytest.mark.requirement("T045")
@pytest.mark.parametrize(
    "url",
    [
        LOCAL,
        "postgresql://u@LOCALHOST:5433/todo",
        "postgresql://u@127.0.0.1/todo",
        "postgresql://u@127.9.9.9/todo",
        "postgresql://u@[::1]/todo",
        "postgresql:///todo",
        "postgresql:///todo?host=/run/postgresql",
        "postgresql://u@%2Frun%2Fpostgresql/todo",
    ],
)
def test_no_tls_on_the_own_machine_unless_asked_for(url: str) -> None:
    assert tls_of(parse_database_url(url)) is False
    asked = parse_database_url(f"{url}{'&' if '?' in url else '?'}sslmode=require")
    assert tls_of(asked) == (True, True)


@pytest.mark.requirement("T045")
@pytest.mark.parametrize(
    "host", ["10.0.0.1", "localhost.example", "127.example", "128.0.0.1", "[::2]", "h1,h2"]
)
def test_other_hosts_are_verified(host: str) -> None:
    assert tls_of(parse_database_url(f"postgresql://u@{host}/todo")) == (True, True)


@pytest.mark.requirement("T045")
def test_the_file_of_sslrootcert_is_the_only_one_trusted() -> None:
    own = parse_database_url(f"{REMOTE}?sslrootcert={certifi.where()}").connect_args["ssl"]

    assert len(own.get_ca_certs()) == Path(certifi.where()).read_text().count("BEGIN CERT")


@pytest.mark.requirement("T046")
def test_unix_sockets() -> None:
    target = parse_database_url("postgresql://u:@/todo?host=/run/postgresql")

    assert target.url.host is None
    assert target.connect_args["host"] == "/run/postgresql"


@pytest.mark.requirement("T046")
def test_a_host_in_the_query() -> None:
    assert parse_database_url("postgresql:///todo?host=db.example").url.host == "db.example"


@pytest.mark.requirement("T046")
def test_what_a_host_hands_out_is_honoured_or_dropped() -> None:
    target = parse_database_url(
        f"{REMOTE}?sslmode=require&channel_binding=require&options=endpoint%3Dep-x"
        "&schema=public&sslnegotiation=direct&connect_timeout=7&application_name=todo"
    )

    assert set(target.connect_args) == {"ssl", "timeout", "server_settings"}
    assert target.connect_args["timeout"] == 7
    assert target.connect_args["server_settings"] == {"application_name": "todo"}
    assert not target.pooled


@pytest.mark.requirement("T046")
@pytest.mark.parametrize(
    ("url", "pooled"),
    [
        ("postgresql://u@ep-cool-pooler.eu.neon.example/todo", True),
        ("postgresql://u@pooler.db.example:6543/todo", True),
        (f"{REMOTE}?pgbouncer=true", True),
        (f"{REMOTE}?pgbouncer=false", False),
        (f"{REMOTE}?", False),
        ("postgresql://pooler@db.example/pooler", False),
    ],
)
def test_poolers_get_no_named_statements(url: str, pooled: bool) -> None:  # noqa: FBT001 - a case
    target = parse_database_url(url)

    assert target.pooled is pooled
    assert target.connect_args.get("statement_cache_size") == (0 if pooled else None)


@pytest.mark.requirement("T044", "T046")
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "not a database URL"),
        ("secret", "not a database URL"),
        ("postgresql://user:secret@host:port/todo", "not a database URL"),
        ("postgresql://user:secret@host:65536/todo", "not a database URL"),
        ("postgresql://user:secret@host:0/todo", "not a database URL"),
        ("postgresql://user:se@secret@host/todo", "not a database URL"),
        ("postgresql://user:se?secret=secret@host/todo", "not a database URL"),
        ("postgresql://user:12?secret@host/todo", "not a database URL"),
        ("postgresql://user?secret@host/todo", "not a database URL"),
        ("postgresql://user:secret@ho..st/todo", "not a database URL"),
        (f"postgresql://user:secret@{'x' * 64}.example/todo", "not a database URL"),
        ("postgresql://user:secret@host/todo?host=ho..st", "not a database URL"),
        ("sqlite://host/secret.db", "SQLite file"),
        ("sqlite://user:secret@/todo.db", "SQLite file"),
        (f"{REMOTE}?12secret=1", "(no name)"),
        (f"{REMOTE}?connect_timeout={'9' * 5000}", "connect_timeout"),
        ("mysql://user:secret@host/todo", "scheme"),
        ("postgresql+pg8000://user:secret@host/todo", "scheme"),
        (f"{REMOTE}?sslmode=secret", "sslmode"),
        (f"{REMOTE}?sslmode=", "sslmode"),
        (f"{REMOTE}?sslmode=REQUIRE", "sslmode"),
        (f"{REMOTE}?sslrootcert=/secret/nowhere", "sslrootcert"),
        (f"{REMOTE}?sslrootcert={__file__}", "sslrootcert"),
        (f"{REMOTE}?connect_timeout=secret", "connect_timeout"),
        (f"{REMOTE}?connect_timeout=0", "connect_timeout"),
        (f"{REMOTE}?connect_timeout=-1", "connect_timeout"),
        (f"{REMOTE}?pgbouncer=secret", "pgbouncer"),
        (f"{REMOTE}?options=-c%20secret", "options"),
        (f"{REMOTE}?schema=secret", "schema"),
        (f"{REMOTE}?target_session_attrs=secret", "target_session_attrs"),
        (f"{REMOTE}?bare", "bare"),
        ("sqlite:///./todo.db?mode=secret", "mode"),
        ("sqlite://", "SQLite file"),
        ("sqlite:///:memory:", "SQLite file"),
    ],
)
def test_a_refusal_names_the_fault_and_not_the_url(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=names) as refusal:
        parse_database_url(text)

    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
