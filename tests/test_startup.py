# [Task]: T030, T052 [From]: specs/features/authentication.md, specs/database/schema.md
"""What a server is told of a start, and the demo where no server is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware

import development
from development import development_secret, print_demo
from faults import StartupError
from middleware.startup import PlainStartupErrors


async def start(
    error: Exception | None = None, *, at_end: Exception | None = None
) -> tuple[list[Any], BaseException | None]:
    """What a server gets from an application whose start, or whose end, is in this error."""

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
async def test_a_start_that_succeeds() -> None:
    sent, raised = await start()

    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert raised is None


@pytest.mark.requirement("T052")
async def test_a_start_that_is_refused_is_told_in_its_own_words() -> None:
    sent, raised = await start(StartupError("plain words"))

    assert sent == [{"type": "lifespan.startup.failed", "message": "plain words"}]
    assert raised is None


@pytest.mark.requirement("T052")
async def test_a_start_that_fails_unforeseen_keeps_its_traceback() -> None:
    sent, raised = await start(ValueError("unforeseen"))

    (message,) = sent
    assert message["type"] == "lifespan.startup.failed"
    assert message["message"].startswith("Traceback")
    assert isinstance(raised, ValueError)


@pytest.mark.requirement("T052")
async def test_an_end_that_fails_is_reported_once() -> None:
    sent, raised = await start(at_end=ValueError("unforeseen"))

    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.failed",
    ]
    assert isinstance(raised, ValueError)


@pytest.mark.requirement("T030")
async def test_without_a_server_there_is_no_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(development, "LISTEN_PATIENCE_SECONDS", 0)
    monkeypatch.setattr(development, "listening_address", lambda: None)

    await print_demo("secret" * 10, "HS256")

    assert capsys.readouterr().out == ""


@pytest.mark.requirement("T030")
def test_the_development_secret_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    first = development_secret()
    (tmp_path / ".dev-secret").chmod(0o644)

    assert development_secret() == first
    assert [path.name for path in tmp_path.iterdir()] == [".dev-secret"]
    assert (tmp_path / ".dev-secret").stat().st_mode & 0o777 == 0o600
