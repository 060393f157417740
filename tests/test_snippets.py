"""The snippets of the documentation work as they are written."""
# [Task]: T077 [From]: specs/api/rest-endpoints.md

import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import redis
import yaml  # type: ignore[import-untyped] # schemathesis brings it, without types
from prometheus_client.parser import text_string_to_metric_families

from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.redis import redis_server
from tests.server import Process, running_process, uvicorn_process
from tests.service import Service, StartService, make_settings, make_token, running
from tests.snippets import FIRST_STEPS, MOUNTED, NEXT_ID, PROSE, RAISE_VERSIONS, READ_TOKEN, SCRAPE

pytestmark = pytest.mark.requirement("T077")

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")


def shell(script: str, folder: Path) -> AbstractAsyncContextManager[Process]:
    """A script as somebody pastes it into a terminal."""
    return running_process("bash", "-euc", script, cwd=folder)


async def run_shell(script: str, folder: Path) -> str:
    async with shell(script, folder) as process:
        assert await process.end() == 0, process.output
    return process.output


@needs_curl
async def test_the_first_steps_work_in_their_order(tmp_path: Path) -> None:
    async with uvicorn_process(tmp_path) as server:
        printed = (await server.wait_for(r"\n(curl .+)\n"))[1]
        token = re.findall(r"Bearer ([\w.-]+)", printed)[0]
        start, commands = FIRST_STEPS.split("\n\n")
        start = start.replace("TOKEN=…", f"TOKEN={token}").replace("http://127.0.0.1:8000", await server.url())
        assert f"TOKEN={token}" in start
        *steps, stream = commands.splitlines()
        # Each status, after the body.
        told = "curl() { command curl -sS -w '\\n%{http_code}\\n' \"$@\"; }"

        answers = []
        for step in [printed, *steps]:
            *body, status = (await run_shell(f"{told}\n{start}\n{step}", tmp_path)).splitlines()
            answers.append((int(status), json.loads("".join(body))))

        first, listed, second, described, completed, cleared = answers
        assert [status for status, _ in answers] == [201, 200, 201, 200, 200, 200]
        assert listed[1] == [first[1]]
        assert (second[1]["title"], described[1]["description"]) == ("Buy milk", "Two litres")
        assert completed[1]["completed"] is True
        assert cleared[1] == {"ids": [1]}
        async with shell(f"{start}\nexec {stream}", tmp_path) as process:
            await process.wait_for("event: ready")
            await run_shell(f"{start}\n{steps[1]}", tmp_path)
            await process.wait_for("event: changed")


async def test_the_command_shows_what_a_token_contains(tmp_path: Path) -> None:
    claims: dict[str, Any] = {"name": "Ada ☕", "exp": 1}
    token = make_token("ada", **claims)

    shown = await run_shell(f"TOKEN={token}\n{READ_TOKEN}", tmp_path)

    assert json.loads(shown) == {"sub": "ada"} | claims


async def test_the_service_runs_inside_another_application(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(MOUNTED)
    environment = {"BETTER_AUTH_SECRET": SECRET, "PYTHONPATH": f"{tmp_path}"}
    async with (
        uvicorn_process(tmp_path, app="other:app", **environment) as server,
        httpx.AsyncClient(
            base_url=await server.url(), headers={"Authorization": f"Bearer {make_token('u')}"}
        ) as client,
    ):
        made = await client.post("/todo/api/u/tasks", json={"title": "A task"})

        assert made.status_code == 201
        assert (await client.get(made.headers["Location"])).json() == made.json()


@pytest.fixture
async def served(make_database: MakeDatabase) -> AsyncIterator[tuple[Service, asyncpg.Connection]]:
    """The service on Postgres, and somebody who types SQL there."""
    url = await make_database("postgresql")
    admin = await asyncpg.connect(url)
    async with running(make_settings(database_url=url)) as service:
        yield service, admin
    await admin.close()


async def test_the_sequence_is_advanced_after_copying(served: tuple[Service, asyncpg.Connection]) -> None:
    service, admin = served
    user = service.user()
    task = await user.new_task()
    await admin.execute(
        "INSERT INTO task (id, user_id, title, completed, created_at, updated_at) OVERRIDING SYSTEM VALUE"
        f" SELECT n, 'ada', 'A copy', false, now(), now() FROM generate_series({task['id'] + 1}, 99) n"
    )
    assert (await user.post({"title": "New"})).status_code == 503

    await admin.execute(NEXT_ID)

    assert (await user.new_task())["id"] == 100


async def test_versions_are_raised_after_changes_without_triggers(served: tuple[Service, asyncpg.Connection]) -> None:
    service, admin = served
    ada, bob = service.user("ada"), service.user("bob")
    await ada.new_task()
    tags = {user: (await user.get()).headers["ETag"] for user in (ada, bob)}
    await admin.execute(
        "SET session_replication_role = replica;"
        "INSERT INTO task (user_id, title, completed, created_at, updated_at)"
        " SELECT who, 'Restored', false, now(), now() FROM unnest(ARRAY['ada', 'bob']) who;"
        "RESET session_replication_role"
    )
    for user, tag in tags.items():
        assert (await user.get(headers={"If-None-Match": tag})).status_code == 304

    await admin.execute(RAISE_VERSIONS)

    titles = []
    for user, tag in tags.items():
        answer = await user.get(headers={"If-None-Match": tag})
        titles.append([task["title"] for task in answer.json()])
    assert titles == [["A task", "Restored"], ["Restored"]]


@pytest.mark.parametrize("statement", re.findall(r"`((?:GRANT|ALTER ROLE) [^`]*)`", PROSE["docs/operations.md"]))
async def test_postgres_takes_the_statement(served: tuple[Service, asyncpg.Connection], statement: str) -> None:
    _, admin = served
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute(statement.replace("…", "CURRENT_USER"))
    await transaction.rollback()


async def test_a_rate_limit_is_told_as_in_the_example(start: StartService) -> None:
    page = PROSE["docs/operations.md"]
    rate, policy = re.findall(r"`RATE_LIMIT=([^`]+)`", page)[0], re.findall(r"`RateLimit-Policy: ([^`]+)`", page)[0]
    told = re.findall(r"`RateLimit: ([^`]+)`", page)[0]
    user = (await start(rate_limit=rate)).user()

    await user.get()
    answer = await user.get()

    assert answer.headers["RateLimit-Policy"] == policy
    # The seconds that are left of the window aside.
    assert answer.headers["RateLimit"].rpartition("=")[0] == told.rpartition("=")[0]


async def test_redis_needs_no_more_rights_than_these(start: StartService) -> None:
    rights = re.findall(r"`(~LIMITS[^`]+)`", PROSE["docs/servers.md"])[0].split()
    with redis_server() as server:
        password = "a-password-of-the-service"
        redis.Redis.from_url(server.url).acl_setuser(
            "todo", enabled=True, passwords=[f"+{password}"], keys=[rights[0].removeprefix("~")], commands=rights[1:]
        )
        storage = f"redis://todo:{password}@127.0.0.1:{server.port}"
        user = (await start(rate_limit="2/hour", rate_limit_storage=storage)).user()

        assert [(await user.get()).status_code for _ in range(3)] == [200, 200, 429]


async def test_prometheus_finds_the_metrics(start: StartService) -> None:
    token = "a-token-of-the-scraper"
    (scrape,) = yaml.safe_load(SCRAPE)["scrape_configs"]
    # Prometheus's own defaults: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config
    assert scrape.keys() == {"job_name", "authorization", "static_configs"}
    assert scrape["authorization"].keys() == {"credentials_file"}
    service = await start(metrics_token=token)

    (target,) = scrape["static_configs"][0]["targets"]
    answer = await service.client.get(f"http://{target}/metrics", headers={"Authorization": f"Bearer {token}"})

    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert "todo_http_requests_seconds" in names
