"""Specifications, code and tests refer to each other by the ids of requirements."""
# [Task]: T079 [From]: specs/api/rest-endpoints.md

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIREMENT = re.compile(r"^- \*\*(T\d{3})\*\* ", re.MULTILINE)
HEADER = re.compile(r"(?:#!.*\n)?(?:#|//) \[Task\]: (T\d{3}(?:, T\d{3})*) \[From\]: (\S+\.md(?:, \S+\.md)*)\n")
MARKER = re.compile(r"mark\.requirement\(([^)]*)\)")

SPECS = {
    path.relative_to(ROOT).as_posix(): REQUIREMENT.findall(path.read_text()) for path in ROOT.glob("specs/**/*.md")
}
CODE = [
    path
    for folder in (
        *("", "auth/", "backends/", "middleware/", "migrations/**/", "routes/", "runtime/", "commands/", "benchmarks/"),
        *("tests/", "tests/browser/", "tests/faults/", "examples/"),
    )
    for pattern in ("*.py", "*.mako")
    for path in ROOT.glob(folder + pattern)
]
CODE += [ROOT / ".ci/run", *ROOT.glob("tests/b*/*.mjs")]
CODE += [
    path
    for folder in ("app", "components", "lib")
    for path in ROOT.glob(f"examples/nextjs/{folder}/**/*.ts*")
    if path.name != "schema.d.ts"  # which is generated
]


@pytest.mark.requirement("T079")
def test_each_requirement_is_stated_once() -> None:
    ids = [requirement for ids in SPECS.values() for requirement in ids]

    assert len(SPECS) == 12
    assert len(ids) == len(set(ids)) > 0


@pytest.mark.requirement("T079")
@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_code_file_names_its_requirements(path: Path) -> None:
    text = path.read_text()
    # The docstring comes first, since tools show the beginning of a module.
    docstring = ast.get_docstring(ast.parse(text), clean=False) if path.suffix == ".py" else None
    header = HEADER.match(text, text.index(f'{docstring}"""\n') + len(docstring) + 4 if docstring else 0)
    assert header
    ids, specs = header[1].split(", "), header[2].split(", ")
    assert set(specs) <= set(SPECS)
    assert set(ids) <= {requirement for spec in specs for requirement in SPECS[spec]}
    for spec in specs:
        assert set(ids) & set(SPECS[spec])


@pytest.mark.requirement("T079")
def test_each_requirement_is_shown_by_a_test() -> None:
    shown = {
        requirement
        for path in ROOT.glob("tests/**/test_*.py")
        for marker in MARKER.findall(path.read_text())
        for requirement in re.findall(r"T\d{3}", marker)
    }

    assert shown == {requirement for ids in SPECS.values() for requirement in ids}
