"""Reads `.env`, each value as it is written: pydantic-settings would replace `${…}` in a secret,
and pass over a line that it can't read.
"""
# [Task]: T077, T118 [From]: specs/api/rest-endpoints.md

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream


def read_env_file(names: Mapping[str, str]) -> dict[str, Any]:
    """What the file sets and the environment doesn't; `names` has the settings by their variables
    in lower case. An empty value is as if it weren't there, but for `DATABASE_URL`, in the
    environment too: the tasks would go where nobody expects them.

    Raises `OSError`, and `ValueError` for a line that can't be read.
    """
    file = parse_env_file(names)
    environment = {name.lower(): value for name, value in os.environ.items()}
    given = {names[name] for name, value in environment.items() if value and name in names}
    values = {
        names[name]: value for name, value in file.items() if value and name in names and names[name] not in given
    }
    if (file | environment).get("database_url") == "":
        values["database_url"] = ""
    return values


def parse_env_file(names: Iterable[str]) -> dict[str, str]:
    try:
        text = Path(".env").read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        return {}
    variables = {}
    for key, value, original, is_broken in parse_stream(io.StringIO(text)):
        statement = original.string.lstrip()
        # A quote that is open may find its end in the next one, some lines below.
        _, *further = statement.split("\n")
        starts = (line.partition("=")[0].strip().removeprefix("export ") for line in further)
        if is_broken or not {start.strip().lower() for start in starts}.isdisjoint(names):
            number = original.line + original.string.count("\n") - statement.count("\n")
            raise ValueError(f"can't be read at line {number}: write NAME=value, and close every quote")
        if key is not None:
            variables[key.lower()] = value or ""
    return variables
