"""Two workers on one database, as `uvicorn --workers 2` runs them."""
# [Task]: T085, T110, T113 [From]: specs/performance.md, specs/reliability.md

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest
from sqlalchemy import make_url

from migrations import ADVISORY_LOCK
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.proxy import Proxy, proxy_to
from tests.server import ROOT, uvicorn_process
from tests.service import User

BOTH_STARTED = r"(?s)(?=.*server process \[(\d+)\].*server process \[(\d+)\])(?=(?:.*startup complete){2})"


@pytest.mark.requirement("T085")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_one_worker_shows_what_another_has_written(
    make_database: MakeDatabase, tmp_path: Path, backend: str
) -> None:
    settings = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": await make_database(backend)}
    async with uvicorn_process(tmp_path, "--workers", "2", **settings) as server, AsyncExitStack() as stack:
        url = await server.url()
        workers = [psutil.Process(int(pid)) for pid in (await server.wait_for(BOTH_STARTED)).groups()]
        port = httpx.URL(url).port

        async def connect() -> tuple[User, int]:
            """Connects the user anew. Returns it, and the worker that has the connection."""
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
            user = User(client, "one and the same")
            before = [clients_of(worker, port) for worker in workers]
            await user.get()
            after = [clients_of(worker, port) for worker in workers]
            return user, next(i for i in range(2) if after[i] - before[i])

        by_worker: dict[int, User] = {}
        for _ in range(200):
            user, worker = await connect()
            by_worker[worker] = user
            if len(by_worker) == 2:
                break
        one, other = by_worker.values()

        task = await one.new_task()
        path = f"/{task['id']}"
        assert (await other.get(path)).json() == task
        for number in range(10):
            changed = await other.put(task["id"], {"title": f"Title {number}"})
            assert (await one.get(path)).json() == changed.json()
        # Every toggle counts, and time never goes back.
        toggled = await asyncio.gather(*(user.toggle(task["id"]) for _ in range(11) for user in (one, other)))
        assert len({answer.json()["updated_at"] for answer in toggled}) == 22
        last = max(toggled, key=lambda answer: answer.json()["updated_at"]).json()
        assert last == (await one.get(path)).json() == (await other.get(path)).json()
        assert last["completed"] is False
        assert (await one.delete(task["id"])).status_code == 204
        assert (await other.get(path)).status_code == 404


def clients_of(worker: psutil.Process, port: int | None) -> set[int]:
    """The ports of the clients that are connected to this worker."""
    found = worker.net_connections("tcp")
    return {one.raddr.port for one in found if one.laddr.port == port and one.raddr}


class Deployed:
    """Two workers on a database of their own behind a proxy."""

    def __init__(self, proxy: Proxy, admin: asyncpg.Connection, role: str) -> None:
        self.proxy = proxy
        self.admin = admin
        self.role = role

    async def run(self, sql: str) -> None:
        await self.admin.execute(sql.format(role=self.role))

    async def cut_off(self) -> None:
        self.proxy.refuse()

    async def reconnect(self) -> None:
        await self.proxy.listen()


@pytest.fixture
async def deployed(make_database: MakeDatabase) -> AsyncIterator[Deployed]:
    url = await make_database("postgresql")
    role = f"todo_{uuid4().hex}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}")
    theirs = make_url(url).set(username=role).render_as_string(hide_password=False)
    async with proxy_to(theirs) as proxy:
        yield Deployed(proxy, admin, role)
    await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await admin.close()


@pytest.mark.requirement("T110")
@pytest.mark.parametrize(
    ("break_it", "line", "mend_it"),
    [
        pytest.param(Deployed.cut_off, "WARNING - .*refused", Deployed.reconnect, id="away"),
        pytest.param("ALTER ROLE {role} NOLOGIN", "ERROR - .*not permitted", "ALTER ROLE {role} LOGIN", id="login"),
        pytest.param(
            "ALTER TABLE task RENAME TO task_away",
            "ERROR - .*no table `task`",
            "ALTER TABLE task_away RENAME TO task",
            id="table",
        ),
        pytest.param(
            "UPDATE task_schema_version SET version_num = '0999'",
            "WARNING - .*later version, 0999",
            "SELECT 1",
            id="ahead",
        ),
    ],
)
async def test_a_worker_that_cannot_start_ends_no_other(
    deployed: Deployed, tmp_path: Path, break_it: Any, line: str, mend_it: Any
) -> None:
    """uvicorn's parent would end all workers with one whose start failed."""

    async def change(how: Any) -> None:
        await (deployed.run(how) if isinstance(how, str) else how(deployed))

    settings = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": deployed.proxy.url}
    async with uvicorn_process(tmp_path, "--workers", "2", **settings) as server:
        url = await server.url()
        killed, spared = (int(pid) for pid in (await server.wait_for(BOTH_STARTED)).groups())
        await change(break_it)
        psutil.Process(killed).kill()
        await server.wait_for(rf"runtime.startup - {line}")
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            assert (await client.get("/health")).status_code == 200
            assert psutil.pid_exists(spared)
        await change(mend_it)
        await server.wait_for(r"(?s)(?:.*startup complete){3}")
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            assert (await User(client).post({"title": "x"})).status_code == 201
    assert "Traceback" not in server.output


# A worker that is told to stop while it imports the application.
STOPPED_AT_IMPORT = f"""
import os, signal, sys
os.kill(os.getpid(), signal.SIGTERM)
del sys.modules["main"]
sys.path.insert(0, {str(ROOT)!r})
from main import app
"""


@pytest.mark.requirement("T113")
async def test_a_stop_during_the_import_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(STOPPED_AT_IMPORT)
    settings = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": "postgresql://u@127.0.0.1:9/todo"}
    arguments = ("--workers", "2", "--app-dir", str(tmp_path))
    async with uvicorn_process(tmp_path, *arguments, **settings) as server:
        await server.wait_for(r"Child process \[\d+\] died")

    assert "Trying again" not in server.output


@pytest.mark.requirement("T113")
@pytest.mark.parametrize(
    ("number", "arguments"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGTERM, ("--workers", "2"))],
    ids=["SIGINT", "SIGTERM", "two workers"],
)
@pytest.mark.parametrize("cause", ["away", "silent", "lock"])
async def test_a_stop_ends_a_waiting_start(
    make_database: MakeDatabase, tmp_path: Path, number: signal.Signals, arguments: tuple[str, ...], cause: str
) -> None:
    url = await make_database("postgresql")
    admin = await asyncpg.connect(url)
    async with proxy_to(url) as proxy:
        if cause == "away":
            proxy.refuse()
        elif cause == "silent":
            proxy.passes.clear()
        else:
            await admin.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
        settings = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": proxy.url}
        async with uvicorn_process(tmp_path, *arguments, **settings) as server:
            waiting = r"(?s)(?:.*Waiting for application startup){%d}"
            await server.wait_for(waiting % (2 if arguments else 1))
            if cause == "away":
                await server.wait_for("Trying again")
            elif cause == "silent":
                await proxy.has_connected.wait()
            else:
                await wait_for_lock(admin)
            server.process.send_signal(number)
            code = await server.end()
    await admin.close()

    assert code in {0, -number}
    assert "Traceback" not in server.output
    assert "startup complete" not in server.output


async def wait_for_lock(admin: asyncpg.Connection) -> None:
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    async with asyncio.timeout(60):
        while not await admin.fetchval(waiting):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.05)
