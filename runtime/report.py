"""What a start says of its settings: what is in force, and what may not be meant so."""
# [Task]: T118, T119 [From]: specs/api/rest-endpoints.md

import logging
from pathlib import Path

from config import Settings

logger = logging.getLogger(__name__)

# White space aside. The last four come from word processors and chats.
QUOTES = "\"'`\u201c\u201d\u2018\u2019"


def report_settings(settings: Settings) -> None:
    """Logs one line of what is in force, without a secret, a user or a password."""
    logger.info(
        "In force: the database is %s; tokens are verified by %s; browsers may call from %s; /docs describes the API",
        describe_database(settings),
        " and ".join(describe_keys(settings)),
        ", ".join(settings.allowed_origins) or "nowhere",
    )
    warn_of_mistakes(settings)


def warn_of_mistakes(settings: Settings) -> None:
    """Logs a WARNING for each setting that may not be meant so."""
    if "database_url" not in settings.model_fields_set and not settings.is_keyless:
        logger.warning(
            "No DATABASE_URL is set, or its name is misspelt: the tasks are in the SQLite file %s",
            Path(settings.database.url.database or "").resolve(),
        )
    for name in ("better_auth_secret", "metrics_token"):
        secret = getattr(settings, name)
        text = secret.get_secret_value() if secret else ""
        if text != text.strip().strip(QUOTES):
            logger.warning(
                "%s has quotes or white space around it, which are taken as a part of it: remove"
                " them if the other side has none",
                name.upper(),
            )


def describe_database(settings: Settings) -> str:
    target = settings.database
    driver, name = target.url.get_driver_name(), target.url.database
    if target.is_sqlite:
        return f"the file {name} ({driver})"
    hosts = ", ".join(map(str, target.hosts))
    return f"{name or 'named as its user'} at {hosts} ({driver})"


def describe_keys(settings: Settings) -> list[str]:
    """By what tokens are verified."""
    by = []
    if settings.better_auth_secret is not None:
        by.append(f"the secret of BETTER_AUTH_SECRET ({settings.jwt_algorithm})")
    if settings.published_keys_url is not None:
        by.append(f"the keys published at {settings.published_keys_url}")
    return by or [f"the development secret ({settings.jwt_algorithm})"]
