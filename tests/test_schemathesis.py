# [Task]: T063, T076 [From]: specs/api/rest-endpoints.md
"""Schemathesis reads the OpenAPI document and looks for requests whose answers break its word."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.search import EXAMPLES, SEED
from tests.server import INHERITED
from tests.service import bearer, make_token

CONFIG = Path(__file__).parent / "schemathesis.toml"


@pytest.mark.requirement("T063", "T076")
async def test_schemathesis_finds_nothing(live_port: int, tmp_path: Path) -> None:
    peers = tmp_path / "peers.json"
    headers = {name: bearer(make_token(name)).items() for name in ("alice", "bob")}
    users = [
        {"name": user, "fixedHeaders": [{"name": name, "value": value} for name, value in items]}
        for user, items in headers.items()
    ]
    peers.write_text(json.dumps({"schemaVersion": "0.2.0", "auth": users}))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        *(f"http://127.0.0.1:{live_port}/openapi.json", "--checks", "all"),
        *("--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        cwd=tmp_path,
        env=INHERITED | {"PEERS": str(peers)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert b"No issues found" in output
    # It followed what one answer says to the next request, and didn't only knock at the door.
    assert b"Stateful" in output
