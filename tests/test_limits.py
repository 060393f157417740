"""Nothing waits for ever: every time limit holds."""
# [Task]: T051, T089, T092 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from migrations import upgrade_schema
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.proxy import Proxy, proxy_to
from tests.server import head, uvicorn_process
from tests.service import StartService, bearer, counted, make_settings, make_token

LATE = {"detail": "The request took too long, try again"}


@pytest.fixture
async def proxy(make_database: MakeDatabase) -> AsyncIterator[Proxy]:
    async with proxy_to(await make_database("postgresql")) as proxy:
        yield proxy


@pytest.mark.requirement("T089")
async def test_a_whole_request_has_a_limit(make_database: MakeDatabase, start: StartService) -> None:
    url = await make_database("postgresql")
    service = await start(database_url=url, request_timeout=0.5)
    user = service.user()
    task = await user.new_task()
    timeouts = counted("timeouts", limit="request")
    admin = await asyncpg.connect(url)
    async with admin.transaction():
        await admin.execute("SELECT * FROM task FOR UPDATE")
        answer = await user.toggle(task["id"], headers={"Origin": "http://localhost:3000"})

        assert (answer.status_code, answer.json()) == (503, LATE)
        assert int(answer.headers["Retry-After"]) > 0
        assert counted("timeouts", limit="request") == timeouts + 1
        assert "Access-Control-Allow-Origin" in answer.headers
        # The statement doesn't run on, and takes no effect.
        while await admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    await admin.close()
    assert (await user.get(f"/{task['id']}")).json() == task
    assert (await user.toggle(task["id"])).status_code == 200


@pytest.mark.requirement("T089")
async def test_a_silent_connection_costs_one_request_its_limit(proxy: Proxy, start: StartService) -> None:
    """No other request waits for it to close, even in a pool of one."""
    limits = {"db_statement_timeout": 0.5, "db_pool_timeout": 1, "db_pool_size": 1, "db_max_overflow": 0}
    service = await start(database_url=proxy.url, **limits)
    user = service.user()
    await user.get()
    # The open connection falls silent for good, and new ones work.
    proxy.silent_up_to = proxy.connections
    proxy.passes.clear()

    assert (await user.get()).status_code == 503
    assert service.app.state.database.engine.pool.checkedout() == 0
    # Closing it asks the silent server first, which takes longer than a request waits for a place.
    assert (await user.get()).status_code == 200


@pytest.mark.requirement("T089")
async def test_a_ping_of_a_connection_counts_for_the_limit(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, start: StartService
) -> None:
    monkeypatch.setattr("backends.postgres.TRUSTED_IDLE_SECONDS", 0)
    monkeypatch.setattr("backends.postgres.PING_TIMEOUT_SECONDS", 600)
    service = await start(database_url=proxy.url, request_timeout=0.3)
    user = service.user()
    await user.get()
    proxy.passes.clear()

    answer = await user.get()

    assert (answer.status_code, answer.json()) == (503, LATE)
    assert service.app.state.database.engine.pool.checkedout() == 0
    proxy.passes.set()
    assert (await user.get()).status_code == 200


@pytest.mark.requirement("T051", "T089")
async def test_connecting_has_a_limit(proxy: Proxy, start: StartService) -> None:
    await upgrade_schema(make_settings(database_url=proxy.url))
    service = await start(database_url=proxy.url, db_connect_timeout=0.3)
    proxy.cut()
    proxy.passes.clear()
    connections = proxy.connections
    timeouts = counted("timeouts", limit="connect")

    answer = await service.user().get()

    assert answer.status_code == 503
    assert counted("timeouts", limit="connect") == timeouts + 1
    # A connect that took all its time is not repeated.
    assert proxy.connections == connections + 1


@pytest.mark.requirement("T089")
async def test_sending_an_answer_has_a_limit(
    make_database: MakeDatabase, caplog: pytest.LogCaptureFixture, start: StartService
) -> None:
    url = await make_database("sqlite")
    service = await start(database_url=url, request_timeout=0.2)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": []}
    await service.app(scope | {"query_string": b""}, receive, send)

    assert "longer than REQUEST_TIMEOUT" in caplog.text


CLIENTS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest.mark.requirement("T092")
async def test_an_unread_answer_does_not_hold_up_a_stop(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = await make_database("postgresql")
    settings = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": url, "REQUEST_TIMEOUT": "600", "SHUTDOWN_TIMEOUT": "1"}
    async with uvicorn_process(tmp_path, **settings) as server:
        port = int((await server.url()).rpartition(":")[2])
        admin = await asyncpg.connect(url)
        await admin.execute(
            "INSERT INTO task (user_id, title, description, completed, created_at, updated_at)"
            " SELECT 'u', 'x', repeat('x', 1000), false, now(), now() FROM generate_series(1, 1000)"
        )
        with socket.create_connection(("127.0.0.1", port)) as client:
            request = head("GET", "/api/u/tasks?limit=1000", f"Authorization: {TOKEN}")
            for _ in range(20):  # more than the kernel takes
                client.sendall(request)
            await asyncio.sleep(1)
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                code = await server.end()
        async with asyncio.timeout(30):
            while await admin.fetchval(CLIENTS):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
        await admin.close()

    assert code == -signal.SIGTERM
    assert "timeout graceful shutdown exceeded" in server.output


TOKEN = bearer(make_token("u"))["Authorization"]


@pytest.mark.requirement("T092")
async def test_a_request_that_a_stop_cuts_off_is_503(tmp_path: Path) -> None:
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/todo.db", "BETTER_AUTH_SECRET": SECRET}
    limits = {"BODY_TIMEOUT": "600", "REQUEST_TIMEOUT": "600", "SHUTDOWN_TIMEOUT": "1"}
    async with uvicorn_process(tmp_path, **settings, **limits) as server:
        port = int((await server.url()).rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            lines = (f"Authorization: {TOKEN}", "Origin: http://localhost:3000", "Content-Type: application/json")
            client.sendall(head("POST", "/api/u/tasks", *lines, "Content-Length: 100"))
            await asyncio.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            answer = await asyncio.to_thread(lambda: b"".join(iter(lambda: client.recv(65536), b"")))
        code = await server.end()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"access-control-allow-origin: http://localhost:3000" in answer.lower()
    assert answer.endswith(b'{"detail":"The service is stopping, try again"}')
    assert code == -signal.SIGTERM
