"""The service's settings, from the environment and from `.env`, and the refusals to start."""
# [Task]: T029, T077, T078, T096 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md, specs/reliability.md

import re
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import urlsplit

from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError
from pydantic import AliasChoices, Field, SecretStr, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url

from backends.url import WRAPPING, DatabaseTarget, parse_database_url
from env_file import read_env_file
from errors import StartupError
from origins import is_allowable, is_fetchable, origin_of, read_http_url

EMBEDDED_DATABASE = "sqlite+aiosqlite:///./todo.db"
PLACEHOLDER_SECRET = "replace-me-with-the-secret-of-your-better-auth-server"  # noqa: S105 - refused below
BETTER_AUTH_DEVELOPMENT_SECRET = "better-auth-secret-12345678901234567890"  # noqa: S105 - likewise

# RFC 7518, section 3.2: a key of at least the size of the hash.
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
METRICS_TOKEN = re.compile(r"[!-~]{16,}")
NEW_SECRET = "make one with `openssl rand -hex 32`"  # noqa: S105 - a command, no secret

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What can be set, with its default; README.md says what each is for."""

    model_config = SettingsConfigDict(
        # `JWKS_URL=` means that it isn't set.
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        populate_by_name=True,
        validate_default=True,
    )

    database_url: SecretStr = SecretStr(EMBEDDED_DATABASE)
    db_migrate_on_start: bool = True
    db_pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    db_max_overflow: Annotated[int, Field(ge=0, le=1000)] = 20
    db_pool_timeout: Seconds = 5
    db_pool_recycle: Seconds = 240
    db_connect_timeout: Seconds = 15
    db_statement_timeout: Seconds = 10
    allowed_origins: Annotated[
        list[str], NoDecode, Field(validation_alias=AliasChoices("ALLOWED_ORIGINS", "CORS_ORIGINS"))
    ] = ["http://localhost:3000"]
    body_timeout: Seconds = 10
    request_timeout: Seconds = 30
    send_timeout: Seconds = 30
    shutdown_timeout: Seconds = 35
    debug: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    metrics_token: SecretStr | None = None
    jwt_algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    better_auth_url: str | None = None
    jwks_url: str | None = None
    # Last, since its check looks at what was set before it.
    better_auth_secret: SecretStr | None = None

    @cached_property
    def database(self) -> DatabaseTarget:
        """What `DATABASE_URL` says; the CAs it trusts are loaded once."""
        return parse_database_url(self.database_url.get_secret_value())

    @property
    def is_keyless(self) -> bool:
        """Whether this is the development start: the embedded database and no key of any kind."""
        return self.better_auth_secret is None and self.better_auth_url is None

    @property
    def published_keys_url(self) -> str | None:
        if self.better_auth_url is None:
            return None
        base = self.better_auth_url.rstrip("/").removesuffix("/api/auth")
        return self.jwks_url or f"{base}/api/auth/jwks"

    @property
    def better_auth_origin(self) -> str | None:
        """What Better Auth writes into `iss` and `aud`."""
        return None if self.better_auth_url is None else origin_of(urlsplit(self.better_auth_url))

    @field_validator("database_url")
    @classmethod
    def check_database_url(cls, value: SecretStr) -> SecretStr:
        parse_database_url(value.get_secret_value())
        return value

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def split_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return TypeAdapter(list[str]).validate_json(value)
            except ValidationError:
                raise ValueError("is neither a comma-separated nor a JSON list") from None
        return [entry.strip() for entry in value.split(",") if entry.strip()]

    @field_validator("allowed_origins")
    @classmethod
    def check_origins(cls, value: list[str]) -> list[str]:
        value = [entry.removesuffix("/") for entry in value]
        for position, entry in enumerate(value, start=1):
            if not is_allowable(entry):
                raise ValueError(
                    f"has an entry, number {position}, that is no origin: write it as a browser"
                    " does, https://app.example.com or http://localhost:3000, in lower case, with"
                    " no path and no default port; * may be a part of the host, but not in its last"
                    " two labels"
                )
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def fold_log_level(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("metrics_token")
    @classmethod
    def check_metrics_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not METRICS_TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError(f"is not at least 16 visible ASCII characters; {NEW_SECRET}")
        return value

    @field_validator("better_auth_url", "jwks_url")
    @classmethod
    def check_http_url(cls, value: str | None) -> str | None:
        if value is not None and not (is_fetchable(value) and origin_of(read_http_url(value))):
            raise ValueError(
                "is no http:// or https:// URL with a host and without user name, query or"
                " fragment; write it as https://app.example.com"
            )
        return value

    @field_validator("jwks_url")
    @classmethod
    def check_keys_have_an_issuer(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("better_auth_url", "") is None:
            raise ValueError("needs BETTER_AUTH_URL, whose origin the tokens are checked against")
        return value

    @field_validator("better_auth_secret")
    @classmethod
    def check_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            database_url: SecretStr | None = info.data.get("database_url")
            # One that is refused says enough by itself.
            is_embedded = database_url is None or (
                parse_database_url(database_url.get_secret_value()).url == make_url(EMBEDDED_DATABASE)
            )
            if not is_embedded and info.data.get("better_auth_url", "") is None:
                raise ValueError(
                    "is not set, nor is BETTER_AUTH_URL, and a database of your own needs one of"
                    " them: set it to the secret of your Better Auth server, or BETTER_AUTH_URL to"
                    " its origin"
                )
            return value
        text = value.get_secret_value()
        if text.strip(WRAPPING) in {PLACEHOLDER_SECRET, BETTER_AUTH_DEVELOPMENT_SECRET}:
            raise ValueError(
                f"is a publicly known value; {NEW_SECRET} and give both sides the same, or delete"
                " the line where BETTER_AUTH_URL alone is to verify tokens"
            )
        algorithm = info.data.get("jwt_algorithm", "HS256")
        if len(text.encode(errors="replace")) < SECRET_BYTES[algorithm]:
            raise ValueError(
                f"is too short for {algorithm}, which takes at least {SECRET_BYTES[algorithm]}"
                f" bytes (RFC 7518, section 3.2); {NEW_SECRET} and give both sides the same"
            )
        try:
            HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(text)
        except (InvalidKeyError, UnicodeEncodeError):
            raise ValueError(f"is no shared secret but a key file's content; {NEW_SECRET}") from None
        return value


# By the names of their variables in lower case.
NAMES = {name: name for name in Settings.model_fields} | {"cors_origins": "allowed_origins"}


def load_settings() -> Settings:
    """Reads the settings from the environment and `.env`. Raises `StartupError`."""
    try:
        return Settings(**read_env_file(NAMES))
    except ValidationError as error:
        faults = [describe_fault(fault) for fault in error.errors(include_url=False)]
    except UnicodeDecodeError:
        faults = [".env is not UTF-8 text; write it anew from .env.example."]
    except OSError as error:
        faults = [f".env can't be read: {error.strerror}."]
    except ValueError as error:
        faults = [f".env {error}."]
    raise StartupError(*faults)


def describe_fault(fault: ErrorDetails) -> str:
    """One plain line. A fault's `input` may be a secret, and is left alone."""
    variable = str(fault["loc"][0]).upper()
    if variable == "ALLOWED_ORIGINS":
        variable = "ALLOWED_ORIGINS (or CORS_ORIGINS)"
    if fault["type"] == "value_error":
        return f"{variable} {fault['ctx']['error']}."
    return f"{variable} is not valid: {fault['msg'][0].lower()}{fault['msg'][1:]}."
