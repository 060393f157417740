"""Runs and checks TypeScript: the example app's client, and the snippets of the documentation."""
# [Task]: T165 [From]: specs/features/frontend.md

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import ROOT

EXAMPLE = ROOT / "examples/nextjs"
CLIENT = {path.name: path.read_text() for path in (EXAMPLE / "lib/todo-api").glob("*.ts") if ".d." not in path.name}
NODE_MODULES = EXAMPLE / "node_modules"
TSC = NODE_MODULES / ".bin/tsc"


def has_node() -> bool:
    script = "const [a, b] = process.versions.node.split('.'); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)"
    return bool(shutil.which("node")) and subprocess.run(["node", "-e", script], check=False).returncode == 0


HAS_NODE = has_node()

needs_typescript = pytest.mark.skipif(
    not HAS_NODE or not TSC.exists(),
    reason="TypeScript needs Node.js 20.19+ and: npm ci --prefix examples/nextjs --ignore-scripts",
)

TRANSPILE = """
const ts = require("typescript");
const compilerOptions = { target: "es2023", module: "commonjs", esModuleInterop: true };
for (const [name, text] of Object.entries(JSON.parse(process.argv[1])))
  ts.sys.writeFile(name.replace(".ts", ".js"), ts.transpileModule(text, { compilerOptions }).outputText);
"""


def transpile(folder: Path, sources: dict[str, str]) -> None:
    """Writes sources into a folder as JavaScript that Node.js runs there; nothing checks their types."""
    (folder / "node_modules").symlink_to(NODE_MODULES)
    write_javascript(folder, sources)


def write_javascript(folder: Path, sources: dict[str, str]) -> None:
    """The same, for a folder that has the packages already."""
    subprocess.run(["node", "--eval", TRANSPILE, json.dumps(sources)], cwd=folder, check=True)
