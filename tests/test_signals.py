"""The handlers that uvicorn sets for SIGTERM and SIGINT, and what the service makes of them."""
# [Task]: T092, T113, T151 [From]: specs/features/live-changes.md, specs/reliability.md

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from runtime.signals import calling_at_stop, ending_at_once, limit_stop


@contextmanager
def handled_by(server: uvicorn.Server) -> Iterator[None]:
    """Sets the signal handlers that this server sets when it runs the process."""
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        assert signal.signal(number, handler) == server.handle_exit


@pytest.mark.requirement("T113")
def test_a_stop_that_uvicorn_has_noted_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    server = uvicorn.Server(uvicorn.Config("main:app", log_config=None))
    raised: list[int] = []
    monkeypatch.setattr("signal.raise_signal", raised.append)
    with handled_by(server):
        for stops, expected in ((False, []), (True, [signal.SIGTERM])):
            server.should_exit = stops
            with ending_at_once():
                assert raised == expected
            assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == server.handle_exit


@pytest.mark.requirement("T151")
async def test_a_handler_that_was_set_meanwhile_stays() -> None:
    before, calls = signal.getsignal(signal.SIGTERM), list[str]()
    with handled_by(server := uvicorn.Server(uvicorn.Config("main:app", log_config=None))):
        with calling_at_stop(lambda: calls.append("stop")):
            signal.raise_signal(signal.SIGINT)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) == server.handle_exit
        assert signal.signal(signal.SIGTERM, server.handle_exit) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == before
    await asyncio.sleep(0)
    assert server.should_exit
    assert calls == ["stop"]


@pytest.mark.requirement("T092")
@pytest.mark.parametrize(("given", "limit"), [(None, 2), (7, 7)])
def test_uvicorn_limits_a_stop_unless_it_was_told_its_own(given: int | None, limit: int) -> None:
    config = uvicorn.Config("main:app", log_config=None, timeout_graceful_shutdown=given)
    with handled_by(uvicorn.Server(config)):
        limit_stop(1.5)

    assert config.timeout_graceful_shutdown == limit
