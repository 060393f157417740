"""What compose.yaml says, with its variables set."""
# [Task]: T175 [From]: specs/features/hosting.md

import re
from typing import Any

import yaml  # type: ignore[import-untyped] # schemathesis brings it, without types

from tests.server import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
# ${NAME:-default} or ${NAME:?why it has to be set}
VARIABLE = re.compile(r"\$\{(?P<name>\w+):(?:-(?P<default>[^}]*)|\?(?P<reason>[^}]*))\}")


def composed(**variables: str) -> dict[str, Any]:
    """The file as Compose reads it. Raises `KeyError` if a variable without a default isn't set: Compose ends then."""

    def value(variable: re.Match[str]) -> str:
        name, default = variable["name"], variable["default"]
        return variables[name] if default is None else variables.get(name) or default

    content: dict[str, Any] = yaml.safe_load(VARIABLE.sub(value, TEXT))
    return content
