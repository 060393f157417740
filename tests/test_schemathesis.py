"""Schemathesis reads the OpenAPI document and looks for requests whose answers break its word."""
# [Task]: T063, T076 [From]: specs/api/rest-endpoints.md

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.search import EXAMPLES, SEED
from tests.service import make_token

CONFIG = Path(__file__).parent / "schemathesis.toml"


def credentials(user_id: str) -> dict[str, Any]:
    """A user, as the Web Fuzzing Commons write it down."""
    value = f"Bearer {make_token(user_id)}"
    return {"name": user_id, "fixedHeaders": [{"name": "Authorization", "value": value}]}


@pytest.mark.requirement("T063", "T076")
def test_schemathesis_finds_nothing(live_port: int, tmp_path: Path) -> None:
    peers = tmp_path / "peers.json"
    users = [credentials("alice"), credentials("bob")]
    peers.write_text(json.dumps({"schemaVersion": "0.2.0", "auth": users}))

    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
            *(f"http://127.0.0.1:{live_port}/openapi.json", "--checks", "all"),
            *("--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        ],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PEERS": str(peers),
            "PYTHONPATH": str(CONFIG.parent.parent),
            "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
        },
        capture_output=True,
        check=False,
        text=True,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "No issues found" in run.stdout
    # It went on from answers to further requests, and didn't only knock at the door.
    assert re.search(r"API Links:\s+[1-9]\d* covered", run.stdout), run.stdout
