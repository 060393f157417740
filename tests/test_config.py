"""Settings, `.env.example`, and the refusals to start."""
# [Task]: T029, T077, T078, T096, T118, T120, T121, T153, T157, T160 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md, specs/reliability.md, specs/features/live-changes.md, specs/features/limits.md, specs/features/user-deletion.md

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from pydantic import Secret

from config import BETTER_AUTH_DEVELOPMENT_SECRET, EMBEDDED_DATABASE, PLACEHOLDER_SECRET, Settings, load_settings
from errors import StartupError

ROOT = Path(__file__).parent.parent
SECRET = "0123456789abcdef" * 4
NEON = "postgresql://user:hunter2@ep-x.neon.example/todo?sslmode=require"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    def load_with(**environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return load_with


@pytest.fixture
def refusal(load: Any) -> Any:
    def refuse(**environment: str) -> str:
        with pytest.raises(StartupError) as error:
            load(**environment)
        return str(error.value)

    return refuse


@pytest.mark.requirement("T077")
def test_each_setting_has_its_default(load: Any) -> None:
    settings = load()

    assert settings.database_url.get_secret_value() == EMBEDDED_DATABASE
    assert settings.is_keyless
    assert settings.allowed_origins == ["http://localhost:3000"]
    assert (settings.db_pool_size, settings.db_max_overflow) == (10, 20)
    assert (settings.db_pool_timeout, settings.db_connect_timeout) == (5, 15)
    assert settings.db_statement_timeout == 10
    assert settings.db_pool_recycle < 300
    assert (settings.jwt_algorithm, settings.log_level, settings.debug) == ("HS256", "INFO", False)


def default_of(name: str) -> str:
    """A setting's default, as it is written in `.env`."""
    match Settings.model_fields[name].default:
        case None:
            return ""
        case Secret() as secret:
            return str(secret.get_secret_value())
        case list() as entries:
            return ",".join(entries)
        case bool() as switch:
            return str(switch).lower()
        case number_or_text:
            return str(number_or_text)


def help_of(name: str) -> str:
    return Settings.model_fields[name].description or ""


@pytest.mark.requirement("T077")
@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_readme_has_each_settings_help(name: str) -> None:
    default = f" `{default_of(name)}` " if default_of(name) else " "

    row = f"| `{name.upper()}` |{default}| {' '.join(help_of(name).split())} |"

    assert row in (ROOT / "README.md").read_text().splitlines()


@pytest.mark.requirement("T077")
@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_example_file_has_each_settings_help(name: str) -> None:
    help_lines = "".join(f"# {line}\n" for line in help_of(name).splitlines())
    shown = {
        "database_url": f"DATABASE_URL={EMBEDDED_DATABASE}",
        "better_auth_secret": f"BETTER_AUTH_SECRET={PLACEHOLDER_SECRET}",
    }

    entry = f"\n{help_lines}{shown.get(name, f'# {name.upper()}={default_of(name)}')}\n"

    assert entry in (ROOT / ".env.example").read_text()


@pytest.mark.requirement("T077")
def test_the_example_file_has_every_default() -> None:
    text = (ROOT / ".env.example").read_text()
    example: dict[str, Any] = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE))

    assert {name.lower() for name in example} == set(Settings.model_fields)
    without_a_default = {"BETTER_AUTH_SECRET", *(name for name in example if not example[name])}
    shown = {name.lower(): example[name] for name in set(example) - without_a_default}
    assert Settings(_env_file=None, **shown) == Settings(_env_file=None)


@pytest.mark.requirement("T029")
def test_the_example_file_is_refused_as_it_is(tmp_path: Path, refusal: Any) -> None:
    example = (ROOT / ".env.example").read_text()
    assert dotenv_values(ROOT / ".env.example")["BETTER_AUTH_SECRET"] == PLACEHOLDER_SECRET

    (tmp_path / ".env").write_text(example)

    assert "BETTER_AUTH_SECRET is a publicly known value" in refusal()


@pytest.mark.requirement("T077")
def test_settings_come_from_file_and_environment(tmp_path: Path, load: Any) -> None:
    (tmp_path / ".env").write_text(
        f"DATABASE_URL='{NEON}'\nBETTER_AUTH_SECRET={SECRET}\nDB_POOL_SIZE=3\nJWKS_URL=\nOTHER=1\n"
    )

    settings = load(DB_POOL_SIZE="4", log_level="debug")

    assert [host.name for host in settings.database.hosts] == ["ep-x.neon.example"]
    assert settings.db_pool_size == 4
    assert settings.log_level == "DEBUG"
    assert settings.jwks_url is None


@pytest.mark.requirement("T077")
@pytest.mark.parametrize("name", ["ALLOWED_ORIGINS", "CORS_ORIGINS"])
@pytest.mark.parametrize(
    "value",
    [
        "https://a.example,http://localhost:3000",
        " https://a.example , http://localhost:3000 , ",
        '["https://a.example", "http://localhost:3000"]',
    ],
)
def test_origins_are_read_in_both_spellings(load: Any, name: str, value: str) -> None:
    settings = load(**{name: value})

    assert settings.allowed_origins == ["https://a.example", "http://localhost:3000"]


@pytest.mark.requirement("T120")
def test_one_trailing_slash_of_an_origin_is_dropped(load: Any) -> None:
    settings = load(ALLOWED_ORIGINS="https://a.example/,http://[::1]:3000/,https://*.b.example/")

    assert settings.allowed_origins == [*("https://a.example", "http://[::1]:3000", "https://*.b.example")]


@pytest.mark.requirement("T120")
@pytest.mark.parametrize(
    "value",
    [
        "https://my-app-*.vercel.app",
        "https://*.example.com",
        "https://*-git-*-team.vercel.app",
        "http://a.*.b.example.com:3000",
    ],
)
def test_patterns_of_origins_are_taken(load: Any, value: str) -> None:
    assert load(ALLOWED_ORIGINS=value).allowed_origins == [value]


@pytest.mark.requirement("T078", "T120")
@pytest.mark.parametrize(
    "value",
    [
        "*",
        "https://*",
        "https://*:3000",
        "https://*.com",
        "https://my-*.app",
        "https://a.b.*",
        "https://a.*.com",
        "https://a.*.com:3000",
        "https://*.com.",
        "https://*.com.:3000",
        "https://.*.com",
        "https://*.example.com:*",
        "https://*.example.com/*",
        "http*://a.example.com",
        "*://a.example.com",
        "*.example.com",
        "https://*@a.example.com",
        "https://[*::1]",
        "https://A*.example.com",
        "https://*.example.com:443",
        "https://*.example.com//",
        "null",
        "localhost:3000",
        "https://a.example//",
        "https://a.example/path",
        "https://a.example?x",
        "https://a.example:443",
        "https://A.example",
        "https://user:hunter2@a.example",
        "https://999.1.1.1",
        "https://a.example:65536",
        "https://*.example",
        "https://a.example:x",
        "https://[::1",
        "ftp://a.example",
        "http://",
        "http://a b.example",
        "http://localhost:3000 https://a.example",
        "[",
        "[5]",
        '["*"]',
        '{"a": "b"}',
    ],
)
def test_an_entry_that_is_no_origin_is_refused(refusal: Any, value: str) -> None:
    message = refusal(ALLOWED_ORIGINS=value)

    assert "ALLOWED_ORIGINS" in message
    assert "hunter2" not in message


@pytest.mark.requirement("T029")
@pytest.mark.parametrize(("algorithm", "length"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_has_the_length_of_its_hash(load: Any, refusal: Any, algorithm: str, length: int) -> None:
    message = refusal(JWT_ALGORITHM=algorithm, BETTER_AUTH_SECRET="k" * (length - 1))

    assert f"BETTER_AUTH_SECRET is too short for {algorithm}" in message
    assert "kkk" not in message
    # The length is counted in bytes.
    assert load(JWT_ALGORITHM=algorithm, BETTER_AUTH_SECRET="é" * (length // 2))


@pytest.mark.requirement("T029")
@pytest.mark.parametrize(
    "secret",
    [
        PLACEHOLDER_SECRET,
        BETTER_AUTH_DEVELOPMENT_SECRET,
        f'"{PLACEHOLDER_SECRET}"',
        f" '{BETTER_AUTH_DEVELOPMENT_SECRET}' ",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----",
        '{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0"}',
    ],
)
def test_a_known_or_mistaken_secret_is_refused(refusal: Any, secret: str) -> None:
    message = refusal(BETTER_AUTH_SECRET=secret)

    assert message.count("BETTER_AUTH_SECRET") == 1
    assert secret not in message


@pytest.mark.requirement("T029")
@pytest.mark.parametrize("url", [NEON, "sqlite:///./other.db", "sqlite:///./zoo.db"])
def test_a_database_of_your_own_needs_a_key(load: Any, refusal: Any, url: str) -> None:
    message = refusal(DATABASE_URL=url)

    assert "BETTER_AUTH_SECRET is not set, nor is BETTER_AUTH_URL" in message
    assert "hunter2" not in message
    assert not load(DATABASE_URL=url, BETTER_AUTH_URL="https://app.example").is_keyless


@pytest.mark.requirement("T029")
@pytest.mark.parametrize("url", [EMBEDDED_DATABASE, "sqlite:///./todo.db"])
def test_the_embedded_database_needs_no_key(load: Any, url: str) -> None:
    assert load(DATABASE_URL=url).is_keyless


@pytest.mark.requirement("T078")
def test_a_refusal_names_each_variable_and_no_value(refusal: Any) -> None:
    message = refusal(
        DATABASE_URL="postgresql://user:hunter2@host/todo?surprise=hunter2",
        BETTER_AUTH_SECRET="hunter2",
        JWT_ALGORITHM="none",
        CORS_ORIGINS="hunter2",
        BETTER_AUTH_URL="hunter2",
        JWKS_URL="ftp://hunter2",
        DB_POOL_SIZE="hunter2",
        DB_MAX_OVERFLOW="-1",
        DB_POOL_TIMEOUT="0",
        DB_CONNECT_TIMEOUT="inf",
        DB_STATEMENT_TIMEOUT="1e9",
        LOG_LEVEL="hunter2",
        DEBUG="hunter2",
        METRICS_TOKEN="hunter2",
    )

    first, *faults = message.splitlines()
    assert first == "The service can't start."
    assert [fault.split()[0] for fault in faults] == [
        *("DATABASE_URL", "DB_POOL_SIZE", "DB_MAX_OVERFLOW", "DB_POOL_TIMEOUT"),
        *("DB_CONNECT_TIMEOUT", "DB_STATEMENT_TIMEOUT", "ALLOWED_ORIGINS", "DEBUG", "LOG_LEVEL"),
        *("METRICS_TOKEN", "JWT_ALGORITHM", "BETTER_AUTH_URL", "JWKS_URL", "BETTER_AUTH_SECRET"),
    ]
    assert "surprise" in faults[0]
    assert "hunter2" not in message


@pytest.mark.requirement("T078")
def test_keys_elsewhere_need_an_issuer(refusal: Any) -> None:
    assert "JWKS_URL needs BETTER_AUTH_URL" in refusal(JWKS_URL="https://keys.example/jwks")


SECONDS = [*("BODY_TIMEOUT", "DB_POOL_TIMEOUT", "DB_POOL_RECYCLE"), *("DB_CONNECT_TIMEOUT", "DB_STATEMENT_TIMEOUT")]
BOUNDS = [
    ("DB_POOL_SIZE", ["1", "1000"], ["0", "1001", "-1", "1.5", "x"]),
    ("DB_MAX_OVERFLOW", ["0", "1000"], ["-1", "1001", "1.5", "x"]),
    *((name, ["0.001", "3600"], ["0", "-1", "3600.1", "inf", "nan", "x"]) for name in SECONDS),
    ("LIVE_INTERVAL", ["0.5", "60"], ["0", "0.49", "60.1", "-1", "inf", "nan", "x"]),
    ("LIVE_IDLE", ["0", "86400"], ["-0.1", "86400.1", "inf", "nan", "x"]),
]


@pytest.mark.requirement("T077", "T078")
@pytest.mark.parametrize(("name", "good", "bad"), BOUNDS)
def test_numbers_have_bounds(load: Any, refusal: Any, name: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert getattr(load(**{name: value}), name.lower()) == float(value)
    for value in bad:
        assert f"\n{name} is not valid: input should be " in refusal(**{name: value})


@pytest.mark.requirement("T078")
@pytest.mark.parametrize("name", ["BETTER_AUTH_URL", "JWKS_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "app.example",
        "ftp://app.example",
        "https://",
        "https://user:hunter2@app.example",
        "https://user@app.example",
        "https://app.example?x",
        "https://app.example#x",
        "https://[::1",
        "https://app.example:x",
        "https://app.example:65536",
        "https://é.example",
        " https://app.example",
        "https://app.example\r",
        "https://app.example/\tx",
        "https://app.example/\x7f",
        "https://app.example/\udcff",
        "https://app.example/a b",
        "https://999.1.1.1",
        "https://app.example/" + "x" * 70_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_url_that_cannot_be_fetched_is_refused(refusal: Any, name: str, url: str) -> None:
    message = refusal(**{"BETTER_AUTH_URL": "https://app.example", name: url})

    assert f"{name} is no http:// or https:// URL" in message
    assert "hunter2" not in message


@pytest.mark.requirement("T077")
@pytest.mark.parametrize(
    ("url", "origin", "keys"),
    [
        ("https://app.example", "https://app.example", "https://app.example/api/auth/jwks"),
        ("https://App.example:443/", "https://app.example", "https://App.example:443/api/auth/jwks"),
        ("HTTPS://app.example:443", "https://app.example", "HTTPS://app.example:443/api/auth/jwks"),
        ("http://localhost:3000", "http://localhost:3000", "http://localhost:3000/api/auth/jwks"),
        ("http://[::1]:80/base", "http://[::1]", "http://[::1]:80/base/api/auth/jwks"),
        *(
            (url, "https://app.example", "https://app.example/api/auth/jwks")
            for url in ("https://app.example/api/auth", "https://app.example/api/auth/")
        ),
        ("https://app.example/base/api/auth", "https://app.example", "https://app.example/base/api/auth/jwks"),
        ("https://app.example/xapi/auth", "https://app.example", "https://app.example/xapi/auth/api/auth/jwks"),
    ],
)
def test_better_auth_url_gives_the_origin_and_the_keys(load: Any, url: str, origin: str, keys: str) -> None:
    settings = load(BETTER_AUTH_URL=url)

    assert settings.better_auth_origin == origin
    assert settings.published_keys_url == keys


@pytest.mark.requirement("T077")
def test_the_keys_may_be_elsewhere(load: Any) -> None:
    settings = load(BETTER_AUTH_URL="https://app.example", JWKS_URL="http://internal:3000/keys")

    assert settings.published_keys_url == "http://internal:3000/keys"


EMPTY = ["", " ", "\t\n", "''", '""', " '' "]


@pytest.mark.requirement("T118")
@pytest.mark.parametrize("name", ["DATABASE_URL", "database_url"])
@pytest.mark.parametrize("value", EMPTY)
def test_an_empty_database_url_is_refused(tmp_path: Path, refusal: Any, name: str, value: str) -> None:
    # Also where `.env` has a good one: the environment counts.
    (tmp_path / ".env").write_text(f"DATABASE_URL={NEON}\n")

    message = refusal(BETTER_AUTH_SECRET=SECRET, **{name: value})

    assert message.splitlines()[1:] == [
        "DATABASE_URL is set but empty; give it a URL, or unset it for the SQLite file ./todo.db."
    ]


@pytest.mark.requirement("T118")
@pytest.mark.parametrize("line", ["DATABASE_URL", *(f"DATABASE_URL={v}" for v in EMPTY if v.strip())])
def test_an_empty_database_url_in_the_file_is_refused(tmp_path: Path, refusal: Any, line: str) -> None:
    (tmp_path / ".env").write_text(f"BETTER_AUTH_SECRET={SECRET}\n{line}\n")

    assert "DATABASE_URL is set but empty" in refusal()


@pytest.mark.requirement("T118")
def test_the_environment_fills_an_empty_database_url(tmp_path: Path, load: Any) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=\n")

    assert load(DATABASE_URL=EMBEDDED_DATABASE).is_keyless


@pytest.mark.requirement("T118")
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("DATABASE_URL='hunter2\n", 1),
        ('DATABASE_URL="hunter2\nBETTER_AUTH_SECRET=x', 1),
        ("A=1\n\n\n  DATABASE_URL='hunter2\n", 4),
        ("# A comment\r\nA=1\r\nDATABASE_URL='hunter2\r\n", 3),
        ("A='hunter2\nDATABASE_URL='hunter2'\n", 1),
        # The quote ends two lines below, which swallows the line between.
        ("A='hunter2\nDATABASE_URL=hunter2\nB='\n", 1),
        ("\nDATABASE_URL='hunter2\n export BETTER_AUTH_URL = 'x'\n", 2),
        ("\nA='hunter2\n export CORS_ORIGINS = '\n", 2),
        ("DATABASE_URL='hunter2' hunter2\n", 1),
        ("DATABASE_URL hunter2\n", 1),
        ("DATABASE_URL: hunter2\n", 1),
    ],
)
def test_a_line_that_cannot_be_read_is_named_by_number(tmp_path: Path, refusal: Any, text: str, number: int) -> None:
    (tmp_path / ".env").write_text(text)

    assert refusal() == (
        f"The service can't start.\n.env can't be read at line {number}: write NAME=value, and close every quote."
    )


@pytest.mark.requirement("T118")
def test_a_value_in_the_file_is_taken_verbatim(tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "hunter2")
    secret = f"${{HOME}}$HOME${{NO:-x}}#{SECRET}"
    (tmp_path / ".env").write_text(
        f"\ufeff# Ours\nexport BETTER_AUTH_SECRET = '{secret}'\n\nLOG_LEVEL=debug # loud\n"
        'KEY="-----BEGIN KEY-----\nabc==\n-----END KEY-----"\n'
        "ALLOWED_ORIGINS='[\n  \"https://a.example\"\n]'\nCORS_ORIGINS=https://b.example\n",
        encoding="utf-8",
    )

    settings = load(JWKS_URL="")

    assert settings.better_auth_secret.get_secret_value() == secret
    assert settings.log_level == "DEBUG"
    assert settings.allowed_origins == ["https://b.example"]


@pytest.mark.requirement("T077")
@pytest.mark.parametrize("names", [("ALLOWED_ORIGINS", "CORS_ORIGINS"), ("CORS_ORIGINS",) * 2])
def test_the_environment_comes_before_the_file(tmp_path: Path, load: Any, names: Any) -> None:
    (tmp_path / ".env").write_text(f"{names[0]}=https://file.example\nDB_POOL_SIZE=3\n")

    settings = load(**{names[1]: "https://environment.example", "db_pool_size": ""})

    assert settings.allowed_origins == ["https://environment.example"]
    assert settings.db_pool_size == 3


@pytest.mark.requirement("T077")
def test_a_folder_named_env_is_passed_over(tmp_path: Path, load: Any) -> None:
    (tmp_path / ".env").mkdir()

    assert load().is_keyless


@pytest.mark.requirement("T121")
@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SSLKEYLOGFILE": "/nowhere/keys.log"}, "SSLKEYLOGFILE"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem", "SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_FILE"),
    ],
)
def test_a_variable_that_breaks_tls_is_named(refusal: Any, variables: Any, named: str) -> None:
    message = refusal(DATABASE_URL=NEON, BETTER_AUTH_SECRET=SECRET, **variables)

    line = message.splitlines()[1]
    assert line.startswith("DATABASE_URL asks for TLS, and ")
    assert named in line


@pytest.mark.requirement("T121")
def test_the_cas_are_loaded_once(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(**arguments: Any) -> ssl.SSLContext:
        made.append(arguments)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr("ssl.create_default_context", make)
    monkeypatch.setattr("ssl.SSLContext.cert_store_stats", lambda _: {"x509_ca": 1})
    settings = load(DATABASE_URL=NEON, BETTER_AUTH_SECRET=SECRET)

    assert settings.database is settings.database
    assert made == [{"cafile": None}]


@pytest.mark.requirement("T078")
def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path, refusal: Any) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")

    assert ".env is not UTF-8" in refusal()


@pytest.mark.requirement("T078")
def test_a_file_that_cannot_be_read_is_refused(refusal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied")

    # Simulated, since root can read any file.
    monkeypatch.setattr("config.Settings", refuse)

    assert ".env can't be read: Permission denied" in refusal()


@pytest.mark.requirement("T029")
def test_settings_never_show_a_secret(load: Any) -> None:
    settings = load(DATABASE_URL=NEON, BETTER_AUTH_SECRET=SECRET, METRICS_TOKEN=SECRET[::-1])

    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.database)):
        assert "hunter2" not in shown
        assert SECRET not in shown
        assert SECRET[::-1] not in shown


@pytest.mark.requirement("T096")
def test_the_metrics_token_is_visible_ascii(load: Any, refusal: Any) -> None:
    assert load().metrics_token is None
    assert load(METRICS_TOKEN="").metrics_token is None
    for value in ("!~" * 8, SECRET):
        assert load(METRICS_TOKEN=value).metrics_token.get_secret_value() == value
    for value in ("k" * 15, "k" * 16 + " ", "k k" * 16, "ké" * 16, "k" * 16 + "\n", "k\tk" * 16):
        message = refusal(METRICS_TOKEN=value)
        assert "\nMETRICS_TOKEN is not at least 16 visible ASCII characters; make one" in message
        assert "kk" not in message


@pytest.mark.requirement("T078")
def test_an_entry_that_is_no_origin_is_named_by_number(refusal: Any) -> None:
    message = refusal(ALLOWED_ORIGINS="https://a.example,hunter2")

    assert "ALLOWED_ORIGINS (or CORS_ORIGINS) has an entry, number 2, that" in message


@pytest.mark.requirement("T157")
@pytest.mark.parametrize("value", ["600/minute", "1/second", "10/second;5000/hour", "5 per 2 hours", "1000000000/year"])
def test_rates_are_taken(load: Any, value: str) -> None:
    assert load(RATE_LIMIT=value).rate_limit == value


@pytest.mark.requirement("T157")
@pytest.mark.parametrize(
    "value",
    [
        *("x", "600", "/minute", "0/minute", "00/minute", "1/0 minute", "1/00minute", "-1/minute", "1.5/minute"),
        *("1000000001/minute", "1/13 months", f"{'9' * 5000}/minute", f"1/{'9' * 5000} minutes", "1/fortnight"),
        *("600/minute;", "600/minute;x", "600/minute;0/hour", "600/minute or so", "\u0661/minute", "[]"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_rate_that_cannot_be_served_is_refused(refusal: Any, value: str) -> None:
    assert "\nRATE_LIMIT is no limit that can be kept; " in refusal(RATE_LIMIT=value)


@pytest.mark.requirement("T157")
@pytest.mark.parametrize(
    ("url", "pool"),
    [
        ("redis://:hunter2@cache.example:6380/1", "redis://:hunter2@cache.example:6380/1"),
        ("rediss://default:hunter2@cache.example", "rediss://default:hunter2@cache.example"),
        ("valkey://cache.example", "redis://cache.example"),
        ("redis://valkey@[::1]:6379", "redis://valkey@[::1]:6379"),
        # Without a host it is this machine, as in DATABASE_URL.
        ("redis:///2", "redis:///2"),
        ("memory://", "memory://"),
    ],
)
def test_stores_of_counts_are_taken(load: Any, url: str, pool: str) -> None:
    settings = load(RATE_LIMIT="600/minute", RATE_LIMIT_STORAGE=url)

    assert settings.rate_limit_storage.get_secret_value() == pool
    assert "hunter2" not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.requirement("T157")
@pytest.mark.parametrize(
    "url",
    [
        *("memcached://:hunter2@host:11211", "redis+sentinel://:hunter2@host:26379/main", "redis+cluster://host:7000"),
        *("mongodb://:hunter2@host", "valkeys://:hunter2@host", "unix:///hunter2", "async+redis://:hunter2@host"),
        *("hunter2", "redis:", "redis://", "redis:hunter2@host", "//:hunter2@host", "memory://hunter2", "REDIS://host"),
    ],
)
def test_another_store_of_counts_is_refused(refusal: Any, url: str) -> None:
    message = refusal(RATE_LIMIT="600/minute", RATE_LIMIT_STORAGE=url)

    assert "\nRATE_LIMIT_STORAGE is neither memory:// nor a URL of redis://, rediss:// or valkey://" in message
    assert "hunter2" not in message


@pytest.mark.requirement("T157")
@pytest.mark.parametrize(
    "url",
    [
        *("redis://:hunter2@host:notaport", "redis://:hunter2@host:65536", "redis://:hunter2@[::1", "redis://host:-1"),
        *("redis://host?socket_timeout=hunter2", "redis://host?hunter2=1", "rediss://host?ssl_cert_reqs=hunter2"),
    ],
)
def test_a_url_that_redis_cannot_read_is_refused(refusal: Any, url: str) -> None:
    # Also where nothing is counted, since it would fail on the day that something is.
    message = refusal(RATE_LIMIT_STORAGE=url)

    assert "\nRATE_LIMIT_STORAGE is no URL that redis-py can read" in message
    assert "hunter2" not in message


@pytest.mark.requirement("T153")
@pytest.mark.parametrize(
    ("url", "environment", "seconds"),
    [
        ("postgresql://u:hunter2@ep-x-pooler.eu.aws.neon.tech/todo", {}, 300),
        ("postgresql://u:hunter2@ep-x.neon.tech/todo", {"LIVE_IDLE": "0"}, 0),
        ("postgresql://u:hunter2@ep-x.aws.NEON.tech/todo", {"LIVE_IDLE": "7"}, 7),
        ("postgresql://u:hunter2@ep-x.aws.NEON.tech/todo", {}, 300),
        ("postgresql://u:hunter2@neon.tech.example/todo", {}, 0),
        ("postgresql://u:hunter2@notneon.tech/todo", {}, 0),
        ("postgresql://u:hunter2@db.example/todo", {"LIVE_IDLE": "60"}, 60),
        ("sqlite:///./todo.db", {}, 0),
    ],
)
def test_workers_stop_asking_by_default_on_neon_alone(
    load: Any, url: str, environment: dict[str, str], seconds: float
) -> None:
    assert load(DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET, **environment).seconds_until_idle == seconds


@pytest.mark.requirement("T160")
@pytest.mark.parametrize("name", ["user", "auth.user", " public.Users ", "User Table", "benutzer\u00e4", "x" * 63])
def test_names_of_a_user_table_are_taken(load: Any, name: str) -> None:
    settings = load(DATABASE_URL=NEON, BETTER_AUTH_SECRET=SECRET, USER_TABLE=name)

    assert settings.user_table == name.strip()


@pytest.mark.requirement("T160")
@pytest.mark.parametrize(
    "name", ['"user"', 'auth."user"', "'user'", "a.b.c", ".user", "auth.", ".", "x" * 64, 'user"; DROP TABLE task; --']
)
def test_what_names_no_table_is_refused(refusal: Any, name: str) -> None:
    message = refusal(DATABASE_URL=NEON, BETTER_AUTH_SECRET=SECRET, USER_TABLE=name)

    assert "\nUSER_TABLE is no name of a table; write user or schema.table, without quotes" in message


@pytest.mark.requirement("T160")
@pytest.mark.parametrize("environment", [{}, {"DATABASE_URL": "sqlite:///./other.db", "BETTER_AUTH_SECRET": SECRET}])
def test_a_user_table_on_sqlite_is_refused(refusal: Any, environment: dict[str, str]) -> None:
    assert "\nUSER_TABLE needs Postgres" in refusal(USER_TABLE="user", **environment)
