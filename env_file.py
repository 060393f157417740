"""Reads `.env`, each value as it is written: pydantic-settings would replace `${…}` in a secret, and skip
a line that it can't read.
"""
# [Task]: T077, T118 [From]: specs/api/rest-endpoints.md

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from errors import StartupError


def read_env_file(names: Mapping[str, str]) -> dict[str, Any]:
    """Returns the settings that the file has and the environment hasn't; `names` maps variables, in lower
    case, to settings. An empty value counts as absent, except that of `DATABASE_URL`, in the environment
    too: the tasks would go to an unexpected place.

    Raises `StartupError` for a line that can't be read, `UnicodeDecodeError` and `OSError`.
    """
    text = ""
    with suppress(FileNotFoundError, IsADirectoryError):
        text = Path(".env").read_text(encoding="utf-8")
    file = {}
    for key, value, original, is_broken in parse_stream(io.StringIO(text)):
        statement = original.string.lstrip()
        # A quote that was left open may end at one some lines below.
        starts = [line.partition("=")[0].strip().removeprefix("export ") for line in statement.split("\n")[1:]]
        if is_broken or any(start.strip().lower() in names for start in starts):
            number = original.line + original.string.count("\n") - statement.count("\n")
            raise StartupError(f".env can't be read at line {number}: write NAME=value, and close every quote.")
        file[(key or "").lower()] = value or ""
    environment = {name.lower(): value for name, value in os.environ.items()}
    given = {names.get(name) for name, value in environment.items() if value}
    values = {names[key]: value for key, value in file.items() if value and key in names and names[key] not in given}
    if (file | environment).get("database_url") == "":
        values["database_url"] = ""
    return values
