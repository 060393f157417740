"""The layout that ARCHITECTURE.md describes: imports go one way, modules are short, dependencies are declared."""
# [Task]: T079 [From]: specs/api/rest-endpoints.md

import ast
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("", "auth/", "backends/", "middleware/", "migrations/", "routes/", "runtime/", "commands/")
# The folders with the product's modules, beside those at the root.
PACKAGES = [folder.removesuffix("/") for folder in FOLDERS if folder]
# From top to bottom: a module imports from its own layer and those below.
LAYERS = (
    {"main", "migrations.env"},
    {"routes", "middleware", "runtime", "commands"},
    {"auth", "readiness", "migrations"},
    {"live", "db", "statements", "schemas"},
    {"backends", "models", "config", "env_file", "origins", "rates"},
    {"errors", "logs", "metrics"},
)
LINES = 250

MODULES = {
    path.relative_to(ROOT).as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
    for folder in FOLDERS
    for path in sorted(ROOT.glob(f"{folder}*.py"))
}


def imported_by(module: str) -> set[str]:
    """The full names that a module imports, in its functions, too."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute"
            # `from backends import faults` names a module, `from db import Database` something in it.
            names |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return names


IMPORTS = {module: imported_by(module) for module in MODULES}
OWN_IMPORTS = {module: names & MODULES.keys() for module, names in IMPORTS.items()}
THIRD_PARTY = {
    name.partition(".")[0] for names in IMPORTS.values() for name in names - MODULES.keys()
} - sys.stdlib_module_names


def layer_of(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if {module, module.partition(".")[0]} & layer)


def distribution(requirement: str) -> str:
    """The name of a requirement, as PyPI normalizes it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


DECLARED = {
    distribution(requirement)
    for requirement in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
}


@pytest.mark.parametrize("module", MODULES)
def test_the_module_is_short(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= LINES


@pytest.mark.parametrize("module", MODULES)
def test_the_module_imports_nothing_from_above(module: str) -> None:
    assert [name for name in OWN_IMPORTS[module] if layer_of(name) < layer_of(module)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(OWN_IMPORTS).prepare()


@pytest.mark.parametrize("name", sorted(THIRD_PARTY))
def test_the_import_is_a_declared_dependency(name: str) -> None:
    assert DECLARED & {distribution(name) for name in packages_distributions()[name]}
