"""Logs at start which settings are in force, and which may be mistakes."""
# [Task]: T118, T119 [From]: specs/api/rest-endpoints.md

import logging
from pathlib import Path

from config import Settings

logger = logging.getLogger(__name__)

# The last four come from word processors and chats.
QUOTES = "\"'`\u201c\u201d\u2018\u2019"


def report_settings(settings: Settings) -> None:
    """Logs the settings in force on one line, without a secret, a user or a password, and likely mistakes."""
    target, algorithm = settings.database, settings.jwt_algorithm
    keys = {
        f"the secret of BETTER_AUTH_SECRET ({algorithm})": settings.better_auth_secret,
        f"the keys published at {settings.published_keys_url}": settings.published_keys_url,
        f"the development secret ({algorithm})": settings.is_keyless,
    }
    rules = {
        f"; a user may make {settings.rate_limit} requests": settings.rate_limit,
        "; plain HTTP is refused": settings.require_https,
        f"; tasks go with their user in {settings.user_table}": settings.user_table,
    }
    logger.info(
        "In force: the database is %s; tokens are verified by %s; browsers may call from %s%s; /docs describes the API",
        f"{target.place} ({target.url.get_driver_name()})",
        " and ".join(key for key, is_used in keys.items() if is_used),
        ", ".join(settings.allowed_origins) or "nowhere",
        "".join(rule for rule, is_used in rules.items() if is_used),
    )
    warn_of_mistakes(settings)


def warn_of_mistakes(settings: Settings) -> None:
    """Logs a WARNING for each setting that may be a mistake."""
    if "database_url" not in settings.model_fields_set and not settings.is_keyless:
        logger.warning(
            "No DATABASE_URL is set, or its name is misspelt: the tasks are in the SQLite file %s",
            Path(settings.database.url.database or "").resolve(),
        )
    for name in ("better_auth_secret", "metrics_token"):
        secret = getattr(settings, name)
        if secret and (text := secret.get_secret_value()) != text.strip().strip(QUOTES):
            logger.warning("%s has quotes or white space around it: drop them if the other side has none", name.upper())
