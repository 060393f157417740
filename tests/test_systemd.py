"""The unit of deploy/, as systemd understands it, and what it starts."""
# [Task]: T176 [From]: specs/features/hosting.md

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path

import pytest

import live
from tests.leaks import SECRET
from tests.server import INHERITED, ROOT, pick_port, running_process
from tests.service import make_settings

ANALYZE = shutil.which("systemd-analyze")
UNIT = ROOT / "deploy/todo-api@.service"
# How exposed systemd may find the service, in tenths: from 0 to 100.
THRESHOLD = "12"
# Forbids memory that can be written and executed, as MemoryDenyWriteExecute does. A kernel before 6.3 ignores it.
CONFINED = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"

pytestmark = [
    pytest.mark.requirement("T176"),
    pytest.mark.skipif(ANALYZE is None, reason="systemd isn't installed"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed"),
]


def unit() -> str:
    """The unit, with the folders of this clone."""
    text = UNIT.read_text()
    text = text.replace("/opt/todo-api/current/.venv/bin", f"{Path(sys.executable).parent}")
    return text.replace("/opt/todo-api/current", f"{ROOT}")


def setting(name: str) -> str:
    parser = RawConfigParser(strict=False)
    parser.read_string(unit())
    return parser["Service"][name]


Analyze = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def analyze(tmp_path: Path) -> Analyze:
    def run(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / UNIT.name
        file.write_text(text)
        return subprocess.run([f"{ANALYZE}", *arguments, file], capture_output=True, text=True, check=False)

    return run


def test_systemd_has_nothing_to_say_against_the_unit(analyze: Analyze) -> None:
    checked = analyze(unit(), "verify", "--man=no")

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize(("right", "wrong"), [("PrivateTmp", "PrivateTemp"), ("/bin/sh -c", "/bin/no-shell -c")])
def test_systemd_tells_what_is_wrong_with_a_unit(analyze: Analyze, right: str, wrong: str) -> None:
    assert right in unit()

    assert wrong.partition(" ")[0] in analyze(unit().replace(right, wrong), "verify", "--man=no").stderr


def test_the_service_is_hardly_exposed(analyze: Analyze) -> None:
    security = ("security", "--offline=true", "--no-pager", f"--threshold={THRESHOLD}")
    without = re.sub(r"^(Protect|Private|Restrict|SystemCall|Capability).*\n", "", unit(), flags=re.MULTILINE)

    checked = analyze(unit(), *security)
    assert checked.returncode == 0, checked.stdout
    assert analyze(without, *security).returncode != 0


async def test_what_the_unit_starts_serves_and_stops(tmp_path: Path) -> None:
    port = pick_port()
    start, wait = (shlex.split(setting(name).replace("%i", f"{port}")) for name in ("ExecStart", "ExecStartPost"))
    settings = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/todo.db"}
    environment = INHERITED | dict([setting("Environment").split("=")]) | settings
    confined = (sys.executable, "-c", CONFINED, *start)
    async with running_process(*confined, cwd=Path(setting("WorkingDirectory")), env=environment) as server:
        known = INHERITED | {"MAINPID": f"{server.process.pid}"}
        async with running_process(*wait, cwd=tmp_path, env=known) as waiting:
            assert await waiting.end() == 0, server.output
        assert "GET /ready 200" in server.output
        server.process.terminate()
        await server.end()
        # Neither does it wait for one that has ended.
        async with running_process(*wait, cwd=tmp_path, env=known) as waiting:
            assert await waiting.end() == 1


def test_systemd_waits_for_longer_than_the_service() -> None:
    assert float(setting("TimeoutStopSec")) > make_settings().shutdown_timeout
    assert setting("TimeoutStartSec") == "infinity"
    # A connection for each stream, and those of the requests and the database.
    assert int(setting("LimitNOFILE")) > 2 * live.MOST_STREAMS


def test_a_connection_outlives_the_proxys_wish_to_keep_it() -> None:
    kept = int(re.findall(r"--timeout-keep-alive (\d+)", setting("ExecStart"))[0])
    (nginx,) = re.findall(r"keepalive_timeout (\d+)s;", (ROOT / "deploy/nginx.conf").read_text())
    (caddy,) = re.findall(r"keepalive (\d+)s\n", (ROOT / "deploy/Caddyfile").read_text())

    assert kept > max(int(nginx), int(caddy))
