# [Task]: T085 [From]: specs/performance.md
"""Two workers on one database, as `uvicorn --workers 2` runs them."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import uvicorn_process
from tests.service import User

BOTH_STARTED = (
    r"(?s)(?=.*server process \[(\d+)\].*server process \[(\d+)\])(?=(?:.*startup complete){2})"
)


@pytest.mark.requirement("T085")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_what_one_worker_has_acknowledged_the_other_shows(
    make_database: MakeDatabase, tmp_path: Path, backend: str
) -> None:
    settings = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": await make_database(backend)}
    async with (
        uvicorn_process(tmp_path, "--workers", "2", **settings) as server,
        AsyncExitStack() as stack,
    ):
        url = await server.url()
        workers = [
            psutil.Process(int(pid)) for pid in (await server.wait_for(BOTH_STARTED)).groups()
        ]
        port = httpx.URL(url).port

        async def connect() -> tuple[User, int]:
            """The user by a connection of its own, and which of the workers has it."""
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
        # Every one of them counts, and time never goes back.
        toggled = await asyncio.gather(
            *(user.toggle(task["id"]) for _ in range(11) for user in (one, other))
        )
        assert len({answer.json()["updated_at"] for answer in toggled}) == 22
        last = max(toggled, key=lambda answer: answer.json()["updated_at"]).json()
        assert last == (await one.get(path)).json() == (await other.get(path)).json()
        assert last["completed"] is False
        assert (await one.delete(task["id"])).status_code == 204
        assert (await other.get(path)).status_code == 404


def clients_of(worker: psutil.Process, port: int | None) -> set[int]:
    """The ports of the clients whose connections it has."""
    found = worker.net_connections("tcp")
    return {one.raddr.port for one in found if one.laddr.port == port and one.raddr}
