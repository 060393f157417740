"""The documentation names what the code has, its links lead somewhere, and its snippets are sound."""
# [Task]: T077, T087 [From]: specs/api/rest-endpoints.md, specs/reliability.md

import ast
import re
import shutil
import subprocess
from collections.abc import Mapping

import pytest

from backends.faults import Fault
from config import Settings
from main import create_app
from tests.server import ROOT
from tests.service import make_settings
from tests.snippets import FENCED, PAGES, snippets
from tests.test_layout import FOLDERS
from tests.typescript import EXAMPLE, NODE_MODULES, TSC, needs_typescript

SETTINGS = sorted(Settings.model_fields)
ENDPOINTS = [
    f"{method.upper()} {path}"
    for path, operations in create_app(make_settings()).openapi()["paths"].items()
    for method in operations
]
MODULES = [
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    if folder != "migrations/"  # a row of its own
    for path in sorted(ROOT.glob(f"{folder}[a-z]*.py"))
]
LINKS = [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)]

TYPESCRIPT = snippets("ts", "tsx")
EXCERPT = re.compile(r"// (examples/nextjs/\S+)\n")
EXCERPTS = [name for name, text in TYPESCRIPT.items() if EXCERPT.match(text)]
OTHERS = [name for name in TYPESCRIPT if name not in EXCERPTS]
PYTHON = snippets("py")
SHELL = snippets("sh")


def first_cells(page: str, heading: str) -> set[str]:
    section = PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.MULTILINE))))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.requirement("T077")
@pytest.mark.parametrize("name", SETTINGS)
def test_the_readme_has_the_setting(name: str) -> None:
    assert name.upper() in first_cells("README.md", "Settings")


@pytest.mark.requirement("T077")
def test_the_readme_has_no_other_setting() -> None:
    assert first_cells("README.md", "Settings") <= {name.upper() for name in SETTINGS} | {"CORS_ORIGINS"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_readme_has_the_endpoint(endpoint: str) -> None:
    assert f"`{endpoint}`" in PAGES["README.md"]


@pytest.mark.parametrize("module", MODULES)
def test_the_architecture_has_the_module(module: str) -> None:
    assert f"`{module}`" in PAGES["ARCHITECTURE.md"].partition("\n## A request")[0]


def test_the_architecture_has_no_other_module() -> None:
    assert set(re.findall(r"`([a-z_/]+\.py)`", PAGES["ARCHITECTURE.md"].partition("\n## A request")[0])) <= set(MODULES)


@pytest.mark.requirement("T087")
@pytest.mark.parametrize("fault", list(Fault))
def test_the_fault_is_explained(fault: Fault) -> None:
    assert str(fault) in first_cells("docs/reliability.md", "Every fault has a name")


@pytest.mark.requirement("T087")
def test_no_other_fault_is_explained() -> None:
    assert first_cells("docs/reliability.md", "Every fault has a name") <= set(map(str, Fault))


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_the_link_leads_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page

    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text())


@pytest.mark.parametrize("name", EXCERPTS)
def test_the_excerpt_is_of_the_example(name: str) -> None:
    """Lines of only `…` stand for what is left out."""
    first, _, excerpt = TYPESCRIPT[name].partition("\n")
    rest = (ROOT / first.removeprefix("// ")).read_text()
    for part in re.split(r"^ *…\n", excerpt, flags=re.MULTILINE):
        _, found, rest = rest.partition(part)
        assert found == part


@pytest.fixture(scope="module")
def type_errors(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """What `tsc` says of each TypeScript snippet, as a file of the example app."""
    folder = tmp_path_factory.mktemp("frontend")
    shutil.copytree(EXAMPLE / "lib", folder / "lib")
    shutil.copy(EXAMPLE / "tsconfig.json", folder)
    (folder / "node_modules").symlink_to(NODE_MODULES)
    for name in OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(TYPESCRIPT[name])

    process = subprocess.run([TSC, "--pretty", "false"], cwd=folder, capture_output=True, text=True, check=False)
    errors = {name: re.findall(rf"^{re.escape(name)}\(.*", process.stdout, re.MULTILINE) for name in OTHERS}
    assert bool(process.returncode) == any(errors.values()), process.stdout
    return errors


@needs_typescript
@pytest.mark.parametrize("name", OTHERS)
def test_the_typescript_is_strict(type_errors: Mapping[str, list[str]], name: str) -> None:
    assert type_errors[name] == []


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_can_be_parsed(name: str) -> None:
    ast.parse(PYTHON[name])


@pytest.mark.parametrize("name", SHELL)
def test_the_shell_commands_can_be_parsed(name: str) -> None:
    subprocess.run(["bash", "-n"], input=SHELL[name], text=True, check=True)
