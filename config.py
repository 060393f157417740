"""The service's settings, from the environment and `.env`, and why they are refused."""
# [Task]: T029, T077, T078, T096, T153, T157, T160 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md, specs/reliability.md, specs/features/live-changes.md, specs/features/limits.md, specs/features/user-deletion.md

import re
from typing import Annotated, Any, Literal

from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    Secret,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, from_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backends.url import WRAPPING, DatabaseTarget, parse_database_url
from env_file import read_env_file
from errors import StartupError
from origins import is_allowable, origin_of
from rates import IN_MEMORY, check_rates, check_store

EMBEDDED_DATABASE = "sqlite+aiosqlite:///./todo.db"
PLACEHOLDER_SECRET = "replace-me-with-the-secret-of-your-better-auth-server"  # noqa: S105 - refused below
BETTER_AUTH_DEVELOPMENT_SECRET = "better-auth-secret-12345678901234567890"  # noqa: S105 - likewise

# A key is at least as long as the hash (RFC 7518, section 3.2).
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
NEW_SECRET = "make one with `openssl rand -hex 32`, the same for both sides"  # noqa: S105 - a command, no secret


class DatabaseURL(Secret[str]):
    """A `DATABASE_URL`, parsed once, since that loads the CAs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.target = parse_database_url(text)


EMBEDDED = DatabaseURL(EMBEDDED_DATABASE)


def split_origins(value: Any) -> Any:
    try:
        return from_json(value) if isinstance(value, str) else value
    except ValueError:
        return [entry.strip() for entry in value.split(",") if entry.strip()]


def check_origins(entries: list[str]) -> list[str]:
    entries = [entry.removesuffix("/") for entry in entries]
    for number, entry in enumerate(entries, start=1):
        if not is_allowable(entry):
            raise ValueError(
                f"has an entry, number {number}, that is no origin: write it as https://app.example.com, in lower case,"
                " without a path or a default port; * may be a part of the host, but not in its last two labels"
            )
    return entries


def check_metrics_token(value: SecretStr) -> SecretStr:
    if not re.fullmatch("[!-~]{16,}", value.get_secret_value()):
        raise ValueError(f"is not at least 16 visible ASCII characters; {NEW_SECRET}")
    return value


def check_http_url(value: str) -> str:
    if origin_of(value) is None:
        raise ValueError("is no http:// or https:// URL; write https://app.example, without user, query or fragment")
    return value


def check_keys_have_an_issuer(value: str | None, info: ValidationInfo) -> str | None:
    if value and info.data.get("better_auth_url", "") is None:
        raise ValueError("needs BETTER_AUTH_URL, whose origin the tokens are checked against")
    return value


def check_secret(value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    if value is None:
        # A refused setting isn't among the data; its own message says enough.
        has_own_database = info.data.get("database_url", EMBEDDED).target != EMBEDDED.target
        if has_own_database and info.data.get("better_auth_url", "") is None:
            raise ValueError("is not set, nor is BETTER_AUTH_URL: set one of them for a database of your own")
        return None
    text, algorithm = value.get_secret_value(), info.data.get("jwt_algorithm", "HS256")
    if text.strip(WRAPPING) in {PLACEHOLDER_SECRET, BETTER_AUTH_DEVELOPMENT_SECRET}:
        raise ValueError(f"is a publicly known value; {NEW_SECRET}, or unset it for BETTER_AUTH_URL alone")
    if len(text.encode(errors="replace")) < (least := SECRET_BYTES[algorithm]):
        raise ValueError(f"is too short for {algorithm}, which takes at least {least} bytes; {NEW_SECRET}")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(text)
    except (InvalidKeyError, UnicodeEncodeError):
        raise ValueError(f"is no shared secret but a key file's content; {NEW_SECRET}") from None
    return value


def check_user_table(value: str, info: ValidationInfo) -> str:
    # A refused setting isn't among the data; its own message says enough.
    if (url := info.data.get("database_url")) and url.target.is_sqlite:
        raise ValueError("needs Postgres: on SQLite there is no table of Better Auth's")
    if not re.fullmatch(r"[^\0\"'.]{1,63}(\.[^\0\"'.]{1,63})?", value.strip()):
        raise ValueError("is no name of a table; write user or schema.table, without quotes")
    return value.strip()


Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
HTTPURL = Annotated[str, AfterValidator(check_http_url)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)]
Origins = Annotated[list[str], NoDecode, BeforeValidator(split_origins), AfterValidator(check_origins)]


class Settings(BaseSettings):
    """All settings, each with its default and its help, which README.md and `.env.example` repeat."""

    # An empty variable (`JWKS_URL=`) counts as unset.
    model_config = SettingsConfigDict(
        env_ignore_empty=True, hide_input_in_errors=True, use_attribute_docstrings=True, validate_default=True
    )

    database_url: DatabaseURL = EMBEDDED
    """Where the tasks are: any URL that a host hands out, or an SQLite file. It may not be empty. Of several hosts, the
    first that accepts writes serves."""
    db_migrate_on_start: bool = True
    """Brings the schema up to date at start; turn it off where a deploy runs `alembic upgrade head`."""
    db_pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    """Connections that each worker keeps at rest."""
    db_max_overflow: Annotated[int, Field(ge=0, le=1000)] = 20
    """Further connections that a worker opens under load, each closed when it has idled for 30 s."""
    db_pool_timeout: Seconds = 5
    """Seconds to wait for a free connection."""
    db_pool_recycle: Seconds = 240
    """Seconds until a connection is replaced, below the 300 after which Neon ends an idle one."""
    db_connect_timeout: Seconds = 15
    """Seconds to connect; Neon may have to wake."""
    db_statement_timeout: Seconds = 10
    """Seconds for a statement, in the server too, and to wait for SQLite's lock."""
    allowed_origins: Origins = Field(
        ["http://localhost:3000"], validation_alias=AliasChoices("allowed_origins", "cors_origins")
    )
    """Origins that browsers may call from, comma-separated or a JSON list; also read as `CORS_ORIGINS`. `*` is a label
    of the host or a part of one (`https://my-app-*.vercel.app`), never of its last two."""
    body_timeout: Seconds = 10
    """Seconds for a request's body to arrive, 64 KiB at most."""
    request_timeout: Seconds = 30
    """Seconds for a request as a whole; then it is a 503."""
    send_timeout: Seconds = 30
    """Seconds after which a client that reads nothing of its answer loses its connection (with uvicorn)."""
    shutdown_timeout: Seconds = 35
    """Seconds for the requests in flight when the service is told to stop (SIGTERM); its host has to wait longer."""
    rate_limit: Annotated[str, AfterValidator(check_rates)] | None = None
    """How many requests a user may make, such as `600/minute`, or `10/second;5000/hour`. If unset: any number."""
    rate_limit_storage: Annotated[Secret[str], AfterValidator(check_store)] = Secret(IN_MEMORY)
    """Where requests are counted: `memory://` in each worker, or for all workers together in Redis or Valkey
    (`redis://`, `rediss://`, `valkey://`)."""
    require_https: bool = False
    """Refuses requests that came by plain HTTP. Behind a proxy, uvicorn has to trust it (`FORWARDED_ALLOW_IPS`)."""
    live_interval: Annotated[float, Field(ge=0.5, le=60)] = 2
    """How often a worker with open streams asks the database what others have changed, in seconds, 0.5 to 60."""
    live_idle: Annotated[float, Field(ge=0, le=86_400)] | None = None
    """Seconds without a request that uses the database, after which a worker stops asking, so that the database can
    sleep; 0 is never. If unset: 300 on Neon's hosts, else 0."""
    user_table: Annotated[str, AfterValidator(check_user_table)] | None = None
    """Better Auth's table of users in the same Postgres, `user` or `schema.table`: tasks go when their user does."""
    debug: bool = False
    """Logs every SQL statement, without its values."""
    log_level: LogLevel = "INFO"
    """How much is logged: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`."""
    metrics_token: Annotated[SecretStr, AfterValidator(check_metrics_token)] | None = None
    """Turns on `/metrics`, guarded by this bearer token: at least 16 visible ASCII characters."""
    jwt_algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    """The algorithm of shared-secret tokens: `HS256`, `HS384` or `HS512`."""
    jwt_issuer: str | None = None
    """The expected `iss`. If unset: the origin of `BETTER_AUTH_URL`, and anything in shared-secret tokens."""
    jwt_audience: str | None = None
    """The expected `aud`. If unset: the origin of `BETTER_AUTH_URL`, and anything in shared-secret tokens."""
    better_auth_url: HTTPURL | None = None
    """The frontend's origin, with or without `/api/auth`; turns on verification by the keys that it publishes."""
    jwks_url: Annotated[HTTPURL | None, AfterValidator(check_keys_have_an_issuer)] = None
    """Where the published keys are, if not at `BETTER_AUTH_URL` + `/api/auth/jwks`."""
    # Last, since its check reads the settings above.
    better_auth_secret: Annotated[SecretStr | None, AfterValidator(check_secret)] = None
    """The secret shared with the frontend: at least 32 bytes (48 for HS384, 64 for HS512), by `openssl rand -hex 32`.
    Leave it out where `BETTER_AUTH_URL` alone verifies tokens. Docker's `--env-file` treats quotes as part of it."""

    @property
    def database(self) -> DatabaseTarget:
        return self.database_url.target

    @property
    def seconds_until_idle(self) -> float:
        """When a worker stops asking for changes, or 0 for never."""
        if self.live_idle is None:
            return 300 if any(host.name.lower().endswith(".neon.tech") for host in self.database.hosts) else 0
        return self.live_idle

    @property
    def is_keyless(self) -> bool:
        """Whether the service starts for development: with the embedded database, and no secret or published keys."""
        return self.better_auth_secret is None and self.better_auth_url is None

    @property
    def published_keys_url(self) -> str | None:
        if self.jwks_url or not self.better_auth_url:
            return self.jwks_url
        return f"{self.better_auth_url.rstrip('/').removesuffix('/api/auth')}/api/auth/jwks"

    @property
    def better_auth_origin(self) -> str | None:
        """The origin that Better Auth puts into `iss` and `aud`."""
        return self.better_auth_url and origin_of(self.better_auth_url)


# Settings by their environment variables, in lower case.
NAMES = {name: name for name in Settings.model_fields} | {"cors_origins": "allowed_origins"}


def load_settings() -> Settings:
    """Reads the settings from the environment and `.env`. Raises `StartupError`."""
    try:
        return Settings(**read_env_file(NAMES))
    except ValidationError as error:
        raise StartupError(*map(describe_fault, error.errors(include_url=False))) from None
    except UnicodeDecodeError:
        raise StartupError(".env is not UTF-8 text; write it anew from .env.example.") from None
    except OSError as error:
        raise StartupError(f".env can't be read: {error.strerror}.") from None


def describe_fault(fault: ErrorDetails) -> str:
    """Describes a fault in one line, without its `input`, which may be a secret."""
    variable = str(fault["loc"][0]).upper().replace("ALLOWED_ORIGINS", "ALLOWED_ORIGINS (or CORS_ORIGINS)")
    if fault["type"] == "value_error":
        return f"{variable} {fault['ctx']['error']}."
    return f"{variable} is not valid: {fault['msg'][0].lower()}{fault['msg'][1:]}."
