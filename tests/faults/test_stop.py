"""The stop of a service, its start, and a deploy, which is both at once."""
# [Task]: T092 [From]: specs/reliability.md

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from tests.databases import MakeDatabase
from tests.faults.deployment import Deployment
from tests.faults.postgres import PrivatePostgres
from tests.server import exchange, head
from tests.service import User

IN_FLIGHT = 6
CLIENTS = 8
OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
WAITING = f"SELECT count(*) FROM pg_stat_activity WHERE {OTHERS} AND wait_event_type = 'Lock'"
CONNECTED = f"SELECT count(*) FROM pg_stat_activity WHERE {OTHERS}"

both_ways = pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "two workers"])


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def wait_until(url: str, count: str, expected: int) -> None:
    """Waits on a connection of its own, since a transaction would go on seeing its first snapshot."""
    async with asyncio.timeout(30), connected(url) as admin:
        while await admin.fetchval(count) != expected:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)


async def wait_until_deaf(service: Deployment) -> None:
    """Waits until none of its workers takes new connections."""
    workers = service.workers() or [psutil.Process(service.process.process.pid)]
    async with asyncio.timeout(30):
        while any(is_listening(worker, service.port) for worker in workers):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


def is_listening(worker: psutil.Process, port: int) -> bool:
    with suppress(psutil.NoSuchProcess):  # one with nothing in flight ends at once
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in worker.net_connections("tcp"))
    return False


@both_ways
@pytest.mark.requirement("T092")
async def test_a_stop_answers_only_what_is_in_flight(
    make_database: MakeDatabase, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    url = await make_database("postgresql")
    async with (
        Deployment(tmp_path, *arguments, DATABASE_URL=url) as service,
        connected(url) as admin,
        AsyncExitStack() as stack,
    ):
        users = []
        for _ in range(IN_FLIGHT):
            client = httpx.AsyncClient(base_url=service.url, timeout=30)
            users.append(User(await stack.enter_async_context(client)))
        tasks = [await user.new_task() for user in users]
        async with admin.transaction():
            await admin.execute("SELECT FROM task FOR UPDATE")
            in_flight = [asyncio.create_task(user.toggle(task["id"])) for user, task in zip(users, tasks, strict=True)]
            await wait_until(url, WAITING, IN_FLIGHT)

            service.process.process.terminate()
            await wait_until_deaf(service)
            late = asyncio.create_task(users[0].post({"title": "late"}))

        answers = await asyncio.gather(*in_flight)
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json()["completed"] for answer in answers)
        assert await service.process.end() in {0, -signal.SIGTERM}
        # It was never accepted, so that it can be sent again.
        with pytest.raises(httpx.TransportError):
            await late
        await wait_until(url, CONNECTED, 1)  # that of `admin`
        rows = await admin.fetch("SELECT completed FROM task")
        assert [row["completed"] for row in rows] == [True] * IN_FLIGHT


@both_ways
@pytest.mark.requirement("T092")
async def test_a_deploy_loses_nothing_and_repeats_nothing(
    make_database: MakeDatabase, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    url = await make_database("postgresql")
    async with (
        Deployment(tmp_path, *arguments, DATABASE_URL=url) as old,
        Deployment(tmp_path, *arguments, DATABASE_URL=url) as new,
    ):
        clients = [MovingClient(old.url, new.url) for _ in range(CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
            await asyncio.sleep(1)
            assert await old.stop() in {0, -signal.SIGTERM}
            await asyncio.sleep(0.5)
            for client in clients:
                client.is_over = True
    written = [title for client in clients for title in client.written]
    async with connected(url) as admin:
        rows = await admin.fetch("SELECT title FROM task")
    assert all(client.has_moved for client in clients)
    assert sorted(row["title"] for row in rows) == sorted(written)


class MovingClient:
    """Writes one task after the other, to the old service until that takes no more, and then to the new
    one. Sends no request again that a service has taken.
    """

    def __init__(self, old: str, new: str) -> None:
        self._url = old
        self._new = new
        self.written: list[str] = []
        self.has_moved = False
        self.is_over = False

    async def run(self) -> None:
        while not self.is_over:
            async with httpx.AsyncClient(base_url=self._url, timeout=30) as client:
                await self._write(User(client))

    async def _write(self, user: User) -> None:
        """Writes until the end, or until this service takes no more requests."""
        while not self.is_over:
            title = f"{user.id} {len(self.written)}"
            try:
                answer = await user.post({"title": title})
            except httpx.TransportError:
                if self.has_moved:
                    raise
                self.has_moved, self._url = True, self._new
                return
            assert answer.status_code == 201, answer.text
            self.written.append(title)


@pytest.mark.requirement("T092")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_services_that_start_at_once_share_one_schema(
    make_database: MakeDatabase, tmp_path: Path, backend: str
) -> None:
    settings = {"DATABASE_URL": await make_database(backend), "LOG_LEVEL": "INFO"}
    services = [Deployment(tmp_path, "--workers", "2", **settings) for _ in range(2)]
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(service) for service in services))
        for service in services:
            await service.process.wait_for("(?s)(?:.*startup complete){2}")
            answer = exchange(service.port, head("GET", "/ready", "Connection: close"))
            assert answer.status_code == 200
    output = "".join(service.output for service in services)
    assert output.count("Running upgrade  ->") == 1
    assert "Traceback" not in output


@pytest.mark.requirement("T092")
async def test_a_service_waits_for_its_database_to_start(killable: PrivatePostgres, tmp_path: Path) -> None:
    url = killable.url(await killable.make_database())
    await killable.stop()
    async with AsyncExitStack() as stack:
        service = Deployment(tmp_path, "--workers", "2", DATABASE_URL=url)
        stack.push_async_exit(service)
        await service.launch()
        await service.process.wait_for("Trying again")
        await killable.start()
        await service.wait_until_ready()
