"""The service as a newcomer runs it: `uvicorn main:app`, in a process of its own."""
# [Task]: T030, T052, T114, T115, T128 [From]: specs/features/authentication.md, specs/database/schema.md, specs/reliability.md

import asyncio
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

import main
from main import run_in_background
from runtime.development import listening_address
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import uvicorn_process
from tests.service import User

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - [\w.]+ - [A-Z]+ - .+")


async def run_curl(line: str) -> str:
    process = await asyncio.create_subprocess_shell(f"{line} --silent --show-error --fail", stdout=subprocess.PIPE)
    return (await process.communicate())[0].decode()


def list_kept(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".dev-secret*")]


@pytest.mark.requirement("T030")
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="plain"),
        pytest.param(("--host", "0.0.0.0"), id="all-interfaces"),
        pytest.param(("--workers", "2"), id="workers"),
        pytest.param(("--reload",), id="reload"),
        pytest.param(("--uds", "todo.sock"), id="unix-socket"),
        pytest.param(("--uds", "todo.sock", "--workers", "2"), id="unix-socket-and-workers"),
        pytest.param(("--host", "::1"), id="ipv6"),
    ],
)
async def test_the_printed_link_and_curl_line_work(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    async with uvicorn_process(tmp_path, *arguments) as server:
        line = (await server.wait_for(r"\n(curl .+)\n"))[1]
        assert '"title":"Try the API"' in await run_curl(line)
        link = re.search(r" (http://\S+/docs), ", server.output)
        # No browser opens a Unix socket.
        assert (link is None) == ("--uds" in arguments)
        assert link is None or "swagger-ui" in await run_curl(f"curl {shlex.quote(link[1])}")
        secret_file = tmp_path / ".dev-secret"
        assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
        assert secret_file.read_text() not in server.output
        assert server.output.count(" - WARNING - ") == 1


@pytest.mark.requirement("T030")
async def test_a_token_is_valid_after_a_new_start(tmp_path: Path) -> None:
    async with uvicorn_process(tmp_path) as server:
        line = (await server.wait_for(r"\n(curl .+)\n"))[1]
    name, value = next(word for word in shlex.split(line) if word.startswith("Authorization")).split(": ")

    async with (
        uvicorn_process(tmp_path) as server,
        httpx.AsyncClient(base_url=await server.url(), headers={name: value}) as client,
    ):
        assert (await client.get("/api/demo/tasks")).json() == []


@pytest.mark.requirement("T128")
async def test_workers_and_their_successors_print_one_token(tmp_path: Path) -> None:
    async with uvicorn_process(tmp_path, "--workers", "2") as server:
        await server.wait_for(r"(?s)(?:startup complete.*){2}")
        await server.wait_for(r"\ncurl .+\n")
        worker = re.findall(r"server process \[(\d+)\]", server.output)[0]
        os.kill(int(worker), signal.SIGKILL)
        await server.wait_for(r"(?s)(?:startup complete.*){3}")
        await asyncio.sleep(0.5)  # for lines that should not come

    assert len(re.findall(r"\ncurl ", server.output)) == 1
    assert server.output.count(" - WARNING - Development mode") == 1


@pytest.mark.requirement("T128")
async def test_a_token_is_printed_once_a_start_not_once_a_reload(tmp_path: Path) -> None:
    for _ in range(2):
        async with uvicorn_process(tmp_path, "--reload", WATCHFILES_FORCE_POLLING="1") as server:
            await server.wait_for(r"\ncurl .+\n")
            (tmp_path / "changed.py").write_text("")
            await server.wait_for(r"(?s)(?:startup complete.*){2}")
            await asyncio.sleep(0.5)  # for lines that should not come
            (tmp_path / "changed.py").unlink()

        assert len(re.findall(r"\ncurl ", server.output)) == 1
        assert server.output.count(" - WARNING - Development mode") == 1

    # Only the mark of the last start is kept.
    assert len(list_kept(tmp_path)) == 2


@pytest.mark.requirement("T030")
async def test_there_is_no_demo_with_a_secret(tmp_path: Path) -> None:
    async with uvicorn_process(tmp_path, BETTER_AUTH_SECRET=SECRET) as server:
        await server.url()

    assert not (tmp_path / ".dev-secret").exists()
    assert (tmp_path / "todo.db").exists()
    assert "curl" not in server.output
    assert SECRET not in server.output


@pytest.mark.requirement("T030")
@pytest.mark.parametrize("content", ["", "too short", "\xff"])
async def test_a_damaged_development_secret_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / ".dev-secret").write_text(content, encoding="latin-1")

    async with uvicorn_process(tmp_path) as server:
        assert await server.end() != 0

    assert ".dev-secret" in server.output
    assert "Traceback" not in server.output


@pytest.mark.requirement("T073")
async def test_every_log_line_has_the_same_format(tmp_path: Path) -> None:
    async with uvicorn_process(tmp_path, BETTER_AUTH_SECRET=SECRET) as server:
        async with httpx.AsyncClient(base_url=await server.url()) as client:
            assert (await client.get("/health")).status_code == 200
        server.process.terminate()
        await server.end()

    lines = server.output.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), server.output
    assert len([line for line in lines if "GET /health 200" in line]) == 1


@pytest.mark.requirement("T073")
async def test_debug_logs_each_statement_once(tmp_path: Path) -> None:
    async with uvicorn_process(tmp_path, BETTER_AUTH_SECRET=SECRET, DEBUG="true") as server:
        async with httpx.AsyncClient(base_url=await server.url()) as client:
            await client.get("/ready", headers={"X-Request-ID": "mine"})
        server.process.terminate()
        await server.end()

    logged = [line for line in server.output.splitlines() if "[mine] SELECT " in line]
    assert len(logged) == 1
    assert LINE.fullmatch(logged[0])


@pytest.mark.requirement("T062")
@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_a_websocket_handshake_is_answered_as_http(tmp_path: Path, http: str) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    async with (
        uvicorn_process(tmp_path, "--http", http, BETTER_AUTH_SECRET=SECRET) as server,
        httpx.AsyncClient(base_url=await server.url(), headers=handshake) as client,
    ):
        health = await client.get("/health")
        stranger = await client.get("/api/somebody/tasks")

    assert health.json() == {"status": "healthy"}
    assert (stranger.status_code, stranger.json()) == (401, {"detail": "Not authenticated"})


@pytest.mark.requirement("T029", "T078")
async def test_refused_settings_end_the_start_plainly(tmp_path: Path) -> None:
    environment = {
        "DATABASE_URL": "postgresql://user:hunter2@host/todo?surprise=1",
        "BETTER_AUTH_SECRET": "hunter2",
        "ALLOWED_ORIGINS": "hunter2",
    }
    async with uvicorn_process(tmp_path, **environment) as server:
        assert await server.end() != 0

    lines = server.output.splitlines()
    assert lines[0] == "The service can't start."
    assert [line.split()[0] for line in lines[1:]] == [*("DATABASE_URL", "ALLOWED_ORIGINS", "BETTER_AUTH_SECRET")]
    assert "hunter2" not in server.output


@pytest.mark.requirement("T052", "T078")
async def test_a_missing_database_ends_the_start_plainly(tmp_path: Path, make_database: MakeDatabase) -> None:
    url = (await make_database("postgresql")).replace("todo_test", "no_such")
    async with uvicorn_process(tmp_path, DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET) as server:
        assert await server.end() != 0

    assert "The service can't start.\nThe database of DATABASE_URL can't be used" in server.output
    assert "Traceback" not in server.output


@pytest.mark.requirement("T067")
@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_head_keeps_a_connection_in_order(tmp_path: Path, http: str) -> None:
    async with uvicorn_process(tmp_path, "--http", http, BETTER_AUTH_SECRET=SECRET) as server:
        port = (await server.url()).rpartition(":")[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()

    heads = answer.split("HTTP/1.1 200 OK")[1:]
    assert [head.partition("\r\n\r\n")[2] for head in heads] == ["", "", '{"status":"healthy"}']
    assert all("content-length: 20" in head for head in heads)


@pytest.mark.requirement("T115")
def test_every_server_finds_the_application() -> None:
    """`fastapi run`, `fastapi dev` and hypercorn look into the module's namespace."""
    assert isinstance(vars(main)["app"], FastAPI)


@pytest.mark.requirement("T114")
async def test_a_server_without_a_lifespan_gets_503s(tmp_path: Path) -> None:
    async with (
        uvicorn_process(tmp_path, "--lifespan", "off", BETTER_AUTH_SECRET=SECRET) as server,
        httpx.AsyncClient(base_url=await server.url()) as client,
    ):
        user = User(client)
        answers = [await user.get(), await user.post({"title": "x"}), await client.get("/ready")]
        health = await client.get("/health")

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.text for answer in answers} == {'{"detail":"The service has not started"}'}
    assert all(answer.headers["Retry-After"] for answer in answers)
    assert health.status_code == 200
    assert "its server runs no lifespan" in server.output
    assert "Traceback" not in server.output


def test_the_search_for_the_address_leaks_no_descriptor() -> None:
    lowest_free = os.dup(0)
    os.close(lowest_free)

    listening_address()

    again = os.dup(0)
    os.close(again)
    assert again == lowest_free


async def test_a_background_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("unforeseen")

    async with AsyncExitStack() as stack:
        run_in_background(stack, fail())
        run_in_background(stack, asyncio.sleep(3600))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    (record,) = [one for one in caplog.records if one.name == "main"]
    assert record.levelname == "CRITICAL"
    assert record.exc_info is not None
