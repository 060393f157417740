"""The command that computes how many connections a deployment opens."""
# [Task]: T179 [From]: specs/features/hosting.md

import asyncio
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest

from commands.connections import compute, read_arguments
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import INHERITED, ROOT, running_process, uvicorn_process
from tests.service import User, make_settings

pytestmark = pytest.mark.requirement("T179")


def count(arguments: str, **settings: int) -> tuple[bool, list[str]]:
    return compute(read_arguments(arguments.split()), make_settings(**settings))


def test_a_worker_and_its_successor_fit_neons_smallest_database() -> None:
    assert count("--workers 1 --replicas 1 --limit 104 --reserved 7") == (
        True,
        [
            "A worker opens at most 31: DB_POOL_SIZE=10 and DB_MAX_OVERFLOW=20, and 1 for /ready.",
            "Workers in all: 1. They open at most 31, and 11 at rest.",
            "New workers in a deploy: 1. All then open at most 62.",
            "Left by the database: 97, without 7 reserved and 0 of others.",
            "They fit, and 35 are left.",
        ],
    )


def test_settings_that_would_fit_are_named() -> None:
    fits, lines = count("--workers 2 --replicas 2 --limit 104 --reserved 7 --others 5")

    assert not fits
    assert lines[-1] == "They would fit with DB_POOL_SIZE=10 and DB_MAX_OVERFLOW=0."
    assert count("--workers 2 --replicas 2 --limit 104 --reserved 7 --others 5", db_max_overflow=0)[0]
    # One more would be one too many.
    assert not count("--workers 2 --replicas 2 --limit 104 --reserved 7 --others 5", db_max_overflow=1)[0]


def test_a_deploy_of_one_replica_after_the_other_needs_less() -> None:
    at_once = "--workers 1 --replicas 3 --limit 100 --others 2"

    assert count(at_once)[1][-1] == "They would fit with DB_POOL_SIZE=10 and DB_MAX_OVERFLOW=4."
    assert count(f"{at_once} --surge 0")[0]


def test_more_workers_than_connections_can_not_fit() -> None:
    fits, lines = count("--workers 4 --replicas 10 --limit 100")

    assert not fits
    assert lines[-1] == "They can't fit: use a pooler, fewer workers, or a database with more connections."


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        ("--limit 100", 0, "They fit"),
        ("--limit 20", 1, "They would fit"),
        ("--limit many", 2, "write a whole number"),
        ("--limit 9 --workers 0", 2, "write a whole number above 0"),
        ("", 2, "required: --limit"),
    ],
)
async def test_the_exit_code_says_whether_they_fit(tmp_path: Path, arguments: str, code: int, output: str) -> None:
    program = (sys.executable, "-m", "commands.connections", *arguments.split())
    async with running_process(*program, cwd=tmp_path, env=INHERITED | {"PYTHONPATH": str(ROOT)}) as process:
        assert await process.end() == code
    assert output in process.output


async def test_settings_that_are_refused_are_named(tmp_path: Path) -> None:
    program = (sys.executable, "-m", "commands.connections", "--limit", "100")
    environment = INHERITED | {"PYTHONPATH": str(ROOT), "DB_POOL_SIZE": "none"}
    async with running_process(*program, cwd=tmp_path, env=environment) as process:
        assert await process.end() == 1
    assert process.output.startswith("DB_POOL_SIZE is not valid")


async def test_a_crowd_opens_no_more_than_was_computed(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = await make_database("postgresql")
    settings = {"DB_POOL_SIZE": "2", "DB_MAX_OVERFLOW": "1", "DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET}
    counting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    highest = 0
    admin = await asyncpg.connect(url)
    async with (
        uvicorn_process(tmp_path, **settings) as server,
        httpx.AsyncClient(base_url=await server.url(), timeout=60, verify=False) as client,
    ):
        user = User(client)
        for _ in range(10):
            crowd = [user.get() for _ in range(30)] + [client.get("/ready")]
            answers = asyncio.gather(*crowd)
            while not answers.done():
                highest = max(highest, await admin.fetchval(counting))
            assert {answer.status_code for answer in await answers} == {200}
    await admin.close()
    fits, lines = count("--limit 11", db_pool_size=2, db_max_overflow=1)
    assert (fits, lines[0].partition(":")[0]) == (True, "A worker opens at most 4")
    assert 2 < highest <= 4
