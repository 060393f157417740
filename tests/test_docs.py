"""The documentation names what the code has, its links lead somewhere, and its snippets are sound."""
# [Task]: T077, T087 [From]: specs/api/rest-endpoints.md, specs/reliability.md

import ast
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from backends.faults import Fault
from config import Settings
from main import create_app
from tests.service import make_settings

ROOT = Path(__file__).parent.parent
NODE_MODULES = ROOT / "tests/better_auth/node_modules"
TSC = NODE_MODULES / ".bin/tsc"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for pattern in ("*.md", "docs/**/*.md", "specs/**/*.md")
    for path in sorted(ROOT.glob(pattern))
}

SETTINGS = sorted(Settings.model_fields)
ENDPOINTS = [
    f"{method.upper()} {path}"
    for path, operations in create_app(make_settings()).openapi()["paths"].items()
    for method in operations
]
MODULES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("", "auth/", "backends/", "middleware/", "routes/", "runtime/")
    for path in sorted(ROOT.glob(f"{folder}[a-z]*.py"))
]
LINKS = [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)]

TSCONFIG = """{
  "compilerOptions": {
    "strict": true, "noEmit": true, "skipLibCheck": true,
    "target": "es2022", "lib": ["es2023", "dom", "dom.iterable"], "types": [],
    "module": "preserve", "moduleDetection": "force", "paths": { "@/*": ["./*"] }
  }
}"""
# To run them.
COMMONJS = ("--target", "es2022", "--module", "commonjs", "--moduleResolution", "bundler", "--types", "")
# What Next.js and React provide, and what the pages leave to the reader.
DECLARATIONS = """
declare const process: { env: Record<string, string | undefined> };
declare const userId: string;
declare const token: string;
declare module "next/headers" { export function headers(): Promise<Headers> }
declare module "react" {
  export function useEffect(effect: () => () => void, dependencies: unknown[]): void;
  export function useState<T>(): [T | undefined, (value: T) => void];
}
"""


def snippets(language: str) -> dict[str, str]:
    """The blocks of a language by their file, where the first line names one, or else by their page and line."""
    found = {}
    for page, text in PAGES.items():
        for block in re.finditer(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            path = re.match(rf"// (\S+\.{language})\b", block[1])
            line = text.count("\n", 0, block.start()) + 1
            found[path[1] if path else f"{page}-{line}.{language}"] = block[1]
    return found


TYPESCRIPT = snippets("ts")
PYTHON = snippets("py")
SHELL = snippets("sh")


def first_cells(page: str, heading: str) -> set[str]:
    section = PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.MULTILINE))))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
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


@pytest.fixture(scope="module")
def type_errors(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """What `tsc` says of each TypeScript snippet; they are compiled together, since they import each other."""
    folder = tmp_path_factory.mktemp("frontend")
    for name, text in {"tsconfig.json": TSCONFIG, "next.d.ts": DECLARATIONS, **TYPESCRIPT}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "node_modules").symlink_to(NODE_MODULES)

    process = subprocess.run([TSC, "--pretty", "false"], cwd=folder, capture_output=True, text=True, check=False)
    errors = {name: re.findall(rf"^{re.escape(name)}\(.*", process.stdout, re.MULTILINE) for name in TYPESCRIPT}
    assert bool(process.returncode) == any(errors.values()), process.stdout
    return errors


@pytest.mark.skipif(
    shutil.which("node") is None or not TSC.exists(),
    reason="TypeScript needs Node.js 20.19+ and: npm ci --prefix tests/better_auth",
)
@pytest.mark.parametrize("name", TYPESCRIPT)
def test_the_typescript_is_strict(type_errors: Mapping[str, list[str]], name: str) -> None:
    assert type_errors[name] == []


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_can_be_parsed(name: str) -> None:
    ast.parse(PYTHON[name])


@pytest.mark.parametrize("name", SHELL)
def test_the_shell_commands_can_be_parsed(name: str) -> None:
    subprocess.run(["bash", "-n"], input=SHELL[name], text=True, check=True)
