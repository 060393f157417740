"""The report of a start to the server, the development secret, and the demo."""
# [Task]: T030, T052, T128 [From]: specs/features/authentication.md, specs/database/schema.md

import multiprocessing
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware

from errors import StartupError
from middleware.startup import PlainStartupErrors
from runtime import development
from runtime.development import development_secret, listening_address, print_demo


async def start(
    error: BaseException | None = None, *, at_end: Exception | None = None
) -> tuple[list[Any], BaseException | None]:
    """Collects the messages to the server of an application whose start or shutdown raises this error."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if error is not None:
            raise error
        yield
        if at_end is not None:
            raise at_end

    app = FastAPI(lifespan=lifespan, middleware=[Middleware(PlainStartupErrors)])
    incoming = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": next(incoming)}

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    except ValueError as raised:
        return sent, raised
    return sent, None


@pytest.mark.requirement("T052")
async def test_a_start_that_succeeds_is_reported() -> None:
    sent, raised = await start()

    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert raised is None


@pytest.mark.requirement("T052")
async def test_a_refused_start_is_reported_in_plain_words() -> None:
    sent, raised = await start(StartupError("plain words"))

    assert sent == [{"type": "lifespan.startup.failed", "message": "The service can't start.\nplain words"}]
    assert raised is None


@pytest.mark.requirement("T052")
async def test_an_unforeseen_failure_keeps_its_traceback() -> None:
    sent, raised = await start(ValueError("unforeseen"))

    (message,) = sent
    assert message["type"] == "lifespan.startup.failed"
    assert message["message"].startswith("Traceback")
    assert isinstance(raised, ValueError)


@pytest.mark.requirement("T052")
async def test_a_shutdown_that_fails_is_reported_once() -> None:
    sent, raised = await start(at_end=ValueError("unforeseen"))

    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert isinstance(raised, ValueError)


@pytest.mark.requirement("T128")
async def test_the_demo_says_where_no_port_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(development, "LISTEN_PATIENCE_SECONDS", 0)
    monkeypatch.setattr(development, "listening_address", list)

    for _ in range(2):
        await print_demo("secret" * 10, "HS256")

    hint, _, line = capsys.readouterr().out.splitlines()[-4:-1]
    assert hint.startswith("Paste it into Authorize at http://127.0.0.1:8000/docs, or make a task with it, with your ")
    assert hint.endswith(" server's port in the place of 8000:")
    assert line.startswith("curl http://127.0.0.1:8000/api/demo/tasks -H 'Authorization: Bearer ey")


def find_listener(connection: Any, family: str, path: str) -> None:
    """Sends the address found before and while this process listens, and the real one."""
    address: Any = {"tcp": ("127.0.0.1", 0), "unix": path, "abstract": f"\0{path}"}[family]
    kind = socket.AF_INET if family == "tcp" else socket.AF_UNIX
    with socket.socket(kind) as listener:
        listener.bind(address)
        before = listening_address()
        listener.listen()
        connection.send((before, listening_address(), listener.getsockname()))


@pytest.mark.requirement("T128")
@pytest.mark.parametrize("family", ["tcp", "unix", "abstract"])
def test_the_address_of_a_listening_socket_is_found(tmp_path: Path, family: str) -> None:
    path = str(tmp_path / "here.sock")
    # In a process of its own: others of this run listen, too.
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=find_listener, args=(other, family, path))
    process.start()
    before, found, name = mine.recv()
    process.join()

    assert before == []
    assert (
        found
        == {
            "tcp": [f"http://127.0.0.1:{name[1]}"],
            "unix": ["--unix-socket", path, "http://localhost"],
            "abstract": [],  # `curl` has another option for it, and nobody serves on one by hand.
        }[family]
    )


@pytest.mark.requirement("T030")
def test_the_development_secret_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    first = development_secret()
    (tmp_path / ".dev-secret").chmod(0o644)

    assert development_secret() == first
    assert [path.name for path in tmp_path.iterdir()] == [".dev-secret"]
    assert (tmp_path / ".dev-secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.requirement("T128")
@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_only_a_regular_file_is_a_development_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file, elsewhere = tmp_path / ".dev-secret", tmp_path / "elsewhere"
    elsewhere.write_text("s" * 64)
    elsewhere.chmod(0o644)
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to({"link": elsewhere, "dangling": tmp_path / "nowhere"}[kind])

    with pytest.raises(StartupError, match=r"\.dev-secret can't be used .*Delete it"):
        development_secret()

    assert not (tmp_path / "nowhere").exists()
    assert elsewhere.stat().st_mode & 0o777 == 0o644


@pytest.mark.requirement("T128")
def test_a_start_that_can_leave_no_mark_is_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    assert development.is_first_of_start()
    assert development.is_first_of_start()
