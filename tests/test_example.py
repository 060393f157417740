"""The command that runs the example app: a person signs up and has a task, and one Ctrl+C ends all of it."""
# [Task]: T172 [From]: specs/features/frontend.md

import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.leaks import watch
from tests.server import ROOT, Process, pick_port, running_process
from tests.service import bearer
from tests.typescript import EXAMPLE, needs_typescript
from tests.waiting import until

pytestmark = [pytest.mark.requirement("T172"), needs_typescript]


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that Postgres's user can enter, too, where the tests are root's."""
    with suppress(FileNotFoundError):
        if psutil.pid_exists(json.loads((EXAMPLE / ".next/dev/lock").read_text())["pid"]):
            pytest.skip("the example is running, and Next.js runs once in a folder")
    with tempfile.TemporaryDirectory(prefix="todo-api-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def example(data: Path, port: int, api_port: int, **environment: str) -> AbstractAsyncContextManager[Process]:
    """The command in a process group of its own, as in a terminal."""
    command = (sys.executable, "examples/run.py", "--data", str(data), "--port", str(port), "--api-port", str(api_port))
    return running_process(*command, cwd=ROOT, env=os.environ | environment, start_new_session=True)


def programs_of(process: Process) -> list[psutil.Process]:
    """The programs that the command has started, and their own."""
    return psutil.Process(process.process.pid).children(recursive=True)


async def create_task(origin: str, api: str) -> None:
    """Signs up and creates a task, as a browser does."""
    account = {"name": "Ada", "email": "ada@example.com", "password": "correct horse"}
    async with httpx.AsyncClient(trust_env=False, headers={"Origin": origin}, timeout=60) as client:
        answer = await client.post(f"{origin}/api/auth/sign-up/email", json=account)
        assert answer.status_code == 200, answer.text
        token = watch.issue((await client.get(f"{origin}/api/auth/token")).json()["token"])
        answer = await client.post(f"{api}/api/tasks", json={"title": "Buy milk"}, headers=bearer(token))
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (201, origin)


async def test_a_person_signs_up_and_ctrl_c_ends_all_of_it(data: Path) -> None:
    port, api_port = pick_port(), pick_port()
    of_another_service = {"DATABASE_URL": "sqlite://", "BETTER_AUTH_URL": "http://other.example", "DEBUG": "neither"}
    async with example(data, port, api_port, **of_another_service) as running:
        opened = await running.wait_for(r"Open (http://localhost:\d+)")
        programs = programs_of(running)
        assert {"postgres", "node"} <= {program.name() for program in programs}

        await create_task(opened[1], f"http://127.0.0.1:{api_port}")

        for ports, taken in (((port, pick_port()), port), ((pick_port(), api_port), api_port)):
            async with example(data, *ports) as second:
                assert await second.end() == 1
            assert re.fullmatch(rf"Error: Port {taken} is taken by another program\. .*\n", second.output)

        # A terminal sends it to the whole group.
        os.killpg(running.process.pid, signal.SIGINT)
        assert await running.end() == 0
    assert "Traceback" not in running.output
    secret = data / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text() not in running.output

    async def have_ended() -> bool:
        return not any(program.is_running() and program.status() != "zombie" for program in programs)

    await until(have_ended)
    for free in (port, api_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", free))


async def test_a_program_that_ends_by_itself_ends_the_rest(data: Path) -> None:
    async with example(data, pick_port(), pick_port()) as running:
        await running.wait_for("Ready in")
        programs = programs_of(running)
        next(program for program in programs if program.name() == "postgres").kill()

        assert await running.end() == 1
    assert running.output.endswith("Error: “db” ended by itself. Its last lines are above.\n")
    assert not any(program.is_running() and program.status() != "zombie" for program in programs)


@pytest.mark.parametrize(
    ("version", "error"),
    [("", r"There is no Node\.js with npm on the PATH\."), ("v18.20.1", r".*/node is too old: version 18\.20\.1\.")],
)
async def test_the_example_asks_for_a_fit_nodejs(data: Path, version: str, error: str) -> None:
    if version:
        (data / "node").write_text(f"#!/bin/sh\necho {version}\n")
        (data / "node").chmod(0o755)
    async with example(data, pick_port(), pick_port(), PATH=str(data)) as running:
        assert await running.end() == 1

    assert re.fullmatch(rf"Error: {error} Install Node\.js [\d.]+ or later: https://nodejs\.org\n", running.output)


@pytest.mark.parametrize("ports", [(0, 8000), (3000, 65_536), (3000, 3000)])
async def test_ports_that_cannot_be_are_refused(data: Path, ports: tuple[int, int]) -> None:
    async with example(data, *ports) as running:
        assert await running.end() == 2

    assert re.search(r"error: .*--(api-)?port", running.output)
