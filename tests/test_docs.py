"""The documentation names what the code has."""
# [Task]: T077, T087 [From]: specs/api/rest-endpoints.md, specs/reliability.md

import re
from pathlib import Path

import pytest

from backends.faults import Fault
from config import Settings
from main import create_app
from tests.service import make_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
RELIABILITY = (ROOT / "RELIABILITY.md").read_text()


@pytest.mark.requirement("T077")
def test_the_readme_has_every_setting_and_no_other() -> None:
    table = README.partition("## Settings")[2].partition("\n## ")[0]
    first_cells = "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE))
    named = {name.lower() for name in re.findall(r"`([A-Z_]+)`", first_cells)}

    assert named - {"cors_origins"} == set(Settings.model_fields)


def test_the_readme_has_every_endpoint() -> None:
    for path, operations in create_app(make_settings()).openapi()["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in README


def test_the_architecture_has_every_module() -> None:
    folders = ("", "auth/", "backends/", "middleware/", "routes/", "runtime/")
    modules = {path.relative_to(ROOT).as_posix() for folder in folders for path in ROOT.glob(f"{folder}[a-z]*.py")}

    assert modules == set(re.findall(r"`([a-z_/]+\.py)`", ARCHITECTURE.partition("## Dec")[0]))


@pytest.mark.requirement("T087")
def test_every_fault_is_explained() -> None:
    table = RELIABILITY.partition("## Every fault has a name")[2].partition("\n## ")[0]
    first_cells = "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE))

    assert set(re.findall(r"`(\w+)`", first_cells)) == set(Fault)


def test_links_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text()):
            assert (path.parent / link.partition("#")[0]).exists(), (path.name, link)
