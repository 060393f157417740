"""`DATABASE_URL`, row by row of the specification's tables."""
# [Task]: T044, T045, T046, T117, T121 [From]: specs/database/schema.md, specs/api/rest-endpoints.md

import ssl
import string
from pathlib import Path
from typing import Any

import certifi
import pytest

from backends.url import DatabaseTarget, parse_database_url

REMOTE = "postgresql://user:secret@db.example/todo"
LOCAL = "postgresql://user:secret@localhost/todo"


def tls_of(target: DatabaseTarget) -> Any:
    """(verifies the certificate, verifies the name) or False, for each way that is tried."""
    (ways,) = {host.tls for host in target.hosts}
    return [way and (way.verify_mode is ssl.CERT_REQUIRED, way.check_hostname) for way in ways]


@pytest.mark.requirement("T046")
@pytest.mark.parametrize("url", ["u%00:p@h/d", "u:p%00@h/d", "u:p@h/d%00", "u:p@h/d?host=%00"])
def test_a_nul_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a database URL"):
        parse_database_url(f"postgresql://{url}")


@pytest.mark.requirement("T044")
@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"]
)
@pytest.mark.parametrize(
    "wrap",
    [
        *("{}", "'{}'", '"{}"', "  {} \n", ' "{}" ', '" {}"'),
        *("psql '{}'", 'psql "{}"', "psql {}", " psql\t '{}' \n", "\"psql '{}'\"", "'psql {}'", "psql '{}';"),
    ],
)
def test_postgres_schemes_in_quotes_and_blanks(scheme: str, wrap: str) -> None:
    text = wrap.format(f"{scheme}://user:p%40ss%3F@db.example:5433/todo")

    target = parse_database_url(text)

    url = target.url
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.database) == ("user", "p@ss?", "todo")
    assert [str(host) for host in target.hosts] == ["db.example:5433"]
    assert dict(url.query) == {}
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
        ("", [(True, True)]),
        ("?sslmode=require", [(True, True)]),
        ("?sslmode=verify-full", [(True, True)]),
        ("?sslmode=verify-ca", [(True, False)]),
        ("?sslmode=no-verify", [(False, False)]),
        ("?sslmode=prefer", [(False, False), False]),
        ("?sslmode=allow", [False, (False, False)]),
        ("?sslmode=disable", [False]),
        (f"?sslrootcert={certifi.where()}", [(True, True)]),
        ("?sslmode=require&uselibpqcompat=true", [(True, True)]),
        ("?uselibpqcompat=true&sslmode=verify-ca", [(True, False)]),
        ("?sslmode=require&sslrootcert=system", [(True, True)]),
        (f"?sslmode=verify-ca&sslrootcert={certifi.where()}", [(True, False)]),
        ("?sslmode=disable&sslrootcert=/nowhere", [False]),
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
        "postgresql:///todo?host=::1",
        "postgresql://u@%2Frun%2Fpostgresql/todo",
    ],
)
def test_this_machine_needs_no_tls_unless_asked_for(url: str) -> None:
    assert tls_of(parse_database_url(url)) == [False]
    asked = parse_database_url(f"{url}{'&' if '?' in url else '?'}sslmode=require")
    assert tls_of(asked) == [(True, True)]


@pytest.mark.requirement("T045")
@pytest.mark.parametrize(
    "host", ["10.0.0.1", "localhost.example", "127.example", "128.0.0.1", "0.0.0.0", "[::2]", "h1,h2"]
)
def test_other_hosts_are_verified(host: str) -> None:
    assert tls_of(parse_database_url(f"postgresql://u@{host}/todo")) == [(True, True)]


@pytest.mark.requirement("T045")
def test_only_the_file_of_sslrootcert_is_trusted() -> None:
    (own,) = parse_database_url(f"{REMOTE}?sslrootcert={certifi.where()}").hosts[0].tls

    assert isinstance(own, ssl.SSLContext)
    assert len(own.get_ca_certs()) == Path(certifi.where()).read_text().count("BEGIN CERT")


SOCKETS = ["/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp"]


@pytest.mark.requirement("T046", "T117")
@pytest.mark.parametrize(
    ("place", "hosts"),
    [
        ("/todo", [*(f"{folder}:5432" for folder in SOCKETS), "localhost:5432"]),
        ("u:@/todo", [*(f"{folder}:5432" for folder in SOCKETS), "localhost:5432"]),
        ("/todo?port=5433", [*(f"{folder}:5433" for folder in SOCKETS), "localhost:5433"]),
        ("u@:5433/todo", [*(f"{folder}:5433" for folder in SOCKETS), "localhost:5433"]),
        ("h1:", ["h1:5432"]),
        ("u:pa/ss@h1:5433/todo", ["h1:5433"]),
        ("h1/todo?port=5433", ["h1:5433"]),
        ("/todo?host=", [*(f"{folder}:5432" for folder in SOCKETS), "localhost:5432"]),
        ("/todo?host=db.example", ["db.example:5432"]),
        ("/todo?host=/run/postgresql", ["/run/postgresql:5432"]),
        ("%2Frun%2Fpostgresql:5433/todo", ["/run/postgresql:5433"]),
        ("/todo?host=/cloudsql/project:region:name", ["/cloudsql/project:region:name:5432"]),
        ("u:p@localhost:5433/todo?host=/cloudsql/x", ["/cloudsql/x:5433"]),
        ("u:p@h1:5432,h2:5433/todo", ["h1:5432", "h2:5433"]),
        ("h1:5433,h2", ["h1:5433", "h2:5432"]),
        ("h1,h2/todo?port=5433", ["h1:5433", "h2:5433"]),
        ("h1,h2:5434/todo?port=5433", ["h1:5433", "h2:5434"]),
        ("u@/todo?host=h1:5432&host=h2:5433", ["h1:5432", "h2:5433"]),
        ("u@/todo?host=h1,h2&port=5432,5433", ["h1:5432", "h2:5433"]),
        ("u@/todo?host=h1&host=h2&port=5432,5433", ["h1:5432", "h2:5433"]),
        ("[::2]:5432,[::1],10.0.0.1", ["[::2]:5432", "[::1]:5432", "10.0.0.1:5432"]),
        ("/todo?host=[::2]:5433,::1", ["[::2]:5433", "[::1]:5432"]),
        ("%2Ftmp,h2/todo", ["/tmp:5432", "h2:5432"]),
        ("/todo?host=/tmp:5433,h2", ["/tmp:5433", "h2:5432"]),
        ("/todo?host=h1,h2&port=1,2,3", None),
        ("h1,h2/todo?port=1,2,3", None),
        ("h1,,h2", None),
        ("h1,", None),
        ("h1:65536,h2", None),
        ("h1,h2/todo?port=0", None),
        ("h1,h2/todo?port=x", None),
        ("h1:5432:5433", None),
        ("[::1", None),
        ("h1%2Ch2", None),
        ("h1%0A", None),
        ("h1/todo?host=h2;x", None),
    ],
)
def test_hosts_in_all_their_spellings(place: str, hosts: list[str] | None) -> None:
    if hosts is None:
        with pytest.raises(ValueError, match=r"is not a database URL|has a port parameter"):
            parse_database_url(f"postgresql://{place}")
        return
    target = parse_database_url(f"postgresql://{place}")

    assert [str(host) for host in target.hosts] == hosts


@pytest.mark.requirement("T117")
def test_tls_goes_by_the_host() -> None:
    remote, *local = parse_database_url("postgresql://h1,127.0.0.1,%2Ftmp,[::1]/todo").hosts

    (way,) = remote.tls
    assert isinstance(way, ssl.SSLContext)
    assert way.check_hostname
    assert [host.tls for host in local] == [(False,)] * 3


@pytest.mark.requirement("T117")
@pytest.mark.parametrize(
    ("url", "attribute"),
    [
        (REMOTE, "any"),
        ("postgresql:///todo", "any"),
        ("postgresql://h1,h2/todo", "read-write"),
        ("postgresql://h1,h2/todo?target_session_attrs=any", "any"),
        ("postgresql://h1,h2/todo?target_session_attrs=primary", "primary"),
        (f"{REMOTE}?target_session_attrs=read-write", "read-write"),
    ],
)
def test_one_of_several_hosts_has_to_take_writes(url: str, attribute: str) -> None:
    assert parse_database_url(url).connect_args["target_session_attrs"] == attribute


@pytest.mark.requirement("T046")
@pytest.mark.parametrize(
    "parameter",
    [
        "channel_binding=require",
        "connection_limit=1",
        "options=endpoint=ep-x",
        "options=endpoint%3Dep-x",
        "options=endpoint%253Dep-x",
        "options=project%3Dx",
        "pool_timeout=0",
        "schema=public",
        "socket_timeout=5",
        "sslnegotiation=direct",
        "supa=base-pooler.x",
        "uselibpqcompat=true",
        "workaround=supabase-pooler.vercel",
    ],
)
def test_parameters_for_other_clients_are_dropped(parameter: str) -> None:
    plain = parse_database_url(REMOTE)
    for url in (f"{REMOTE}?{parameter}", f"{REMOTE}?{parameter}&sslmode=require"):
        target = parse_database_url(url)
        assert (target.url, target.connect_args) == (plain.url, plain.connect_args)
        assert tls_of(target) == tls_of(plain)
    name = parameter.partition("=")[0]
    with pytest.raises(ValueError, match=f"has a query parameter more than once: {name}$"):
        parse_database_url(f"{REMOTE}?{parameter}&{parameter}")


@pytest.mark.requirement("T046")
def test_timeout_and_application_name_are_honoured() -> None:
    target = parse_database_url(f"{REMOTE}?connect_timeout=7&application_name=todo")

    assert target.connect_args["timeout"] == 7
    assert target.connect_args["server_settings"] == {"application_name": "todo"}
    assert not target.pooled


@pytest.mark.requirement("T046")
@pytest.mark.parametrize(
    ("url", "pooled"),
    [
        ("postgresql://u@ep-cool-pooler.eu.neon.example/todo", True),
        ("postgresql://u@pooler.db.example:6543/todo", True),
        ("postgresql://u@h1:5432,h2:6543/todo", True),
        (f"{REMOTE}?pgbouncer=true", True),
        (f"{REMOTE}?pgbouncer=false", False),
        (f"{REMOTE}?", False),
        ("postgresql://pooler@db.example/pooler", False),
    ],
)
def test_poolers_get_no_named_statements(url: str, pooled: bool) -> None:  # noqa: FBT001 - a case
    target = parse_database_url(url)

    assert target.pooled is pooled


@pytest.mark.requirement("T044", "T046")
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "set but empty"),
        (" '' ", "set but empty"),
        ("psql", "not a database URL"),
        ("psql secret", "not a database URL"),
        ("psql -d 'postgresql://user:secret@host/todo'", "not a database URL"),
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
        (f"{REMOTE}?12secret=1", r"\(no name\)"),
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
        (f"{REMOTE}?options=endpoint%3Dx%20-c%20secret", "options"),
        (f"{REMOTE}?schema=secret", "schema"),
        (f"{REMOTE}?target_session_attrs=standby", "read-write, primary, any"),
        (f"{REMOTE}?target_session_attrs=", "target_session_attrs"),
        (f"{REMOTE}?hostaddr=10.0.0.1", "hostaddr"),
        (f"{REMOTE}?password=secret", "password"),
        (f"{REMOTE}?sslmode=require&sslmode=disable", "more than once: sslmode"),
        (f"{REMOTE}?port=1&port=2", "more than once: port"),
        (f"{REMOTE}?12secret=1&12secret=2", r"more than once: \(no name\)"),
        (f"{REMOTE}?target_session_attrs=secret", "target_session_attrs"),
        (f"{REMOTE}?bare", "bare"),
        ("sqlite:///./todo.db?mode=secret", "mode"),
        ("sqlite:///./todo.db?host=secret", "host"),
        ("sqlite://", "SQLite file"),
        ("sqlite:///:memory:", "SQLite file"),
    ],
)
def test_a_refusal_names_the_fault_but_not_the_url(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=names) as refusal:
        parse_database_url(text)

    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.requirement("T044")
def test_a_path_may_hold_an_at_sign() -> None:
    assert parse_database_url("sqlite:////home/me@work/todo.db").url.database == ("/home/me@work/todo.db")


@pytest.mark.requirement("T121")
def test_a_key_log_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/nowhere/keys.log")

    for sslmode in ("require", "no-verify", "prefer"):
        with pytest.raises(ValueError, match="SSLKEYLOGFILE can't be written"):
            parse_database_url(f"{REMOTE}?sslmode={sslmode}")
    with pytest.raises(ValueError, match="sslrootcert that names no readable CA file"):
        parse_database_url(f"{REMOTE}?sslrootcert=/nowhere/ca.pem")
    assert parse_database_url(LOCAL)


@pytest.mark.requirement("T121")
def test_cas_that_cannot_be_found_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")

    with pytest.raises(ValueError, match="correct SSL_CERT_FILE and SSL_CERT_DIR"):
        parse_database_url(REMOTE)
    assert parse_database_url(f"{REMOTE}?sslrootcert={certifi.where()}")
    assert parse_database_url(LOCAL)


@pytest.mark.requirement("T044", "T046")
@pytest.mark.parametrize("character", string.punctuation + " \n\té")
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:{}@localhost/todo",
        "postgresql://user:{}@h1,h2:x/todo",
        "postgresql://user:{}@localhost:0/todo?sslmode=none",
        "postgresql://user:{}@localhost/todo?host=h1,h2&port=1,2,3",
        "postgresql://{}@localhost/todo?target_session_attrs=standby",
        "postgresql://user:{}@localhost/todo?connect_timeout=x&x=1&x=2",
        "postgresql://user:{}@localhost/todo?options={}",
        "postgresql:/user:{}@localhost/todo",
        "mysql://user:{}@localhost/todo",
        "sqlite://user:{}@localhost/todo.db",
        "psql 'postgresql://user:{}@localhost/todo?pgbouncer=1'",
        "psql postgresql://user:{}@localhost/todo -c {}",
    ],
)
def test_no_refusal_shows_a_part_of_a_password(url: str, character: str) -> None:
    password = f"hunter{character}2zebra"
    try:
        target = parse_database_url(url.replace("{}", password))
    except ValueError as refusal:
        shown = f"{refusal} {refusal.__cause__}"
    else:
        shown = f"{target} {[str(host) for host in target.hosts]}"

    assert "hunter" not in shown
    assert "zebra" not in shown
