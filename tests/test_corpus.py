"""The corpus of hostile requests, sent as bytes to a real uvicorn on both databases."""
# [Task]: T020, T022, T023, T028, T063, T071, T134, T137 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md, specs/features/task-crud.md

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from db import Database, Row
from main import create_app
from tests.corpus import AUTHORIZED, CANARY, CORPUS, MALLORY, VICTIM, Case
from tests.databases import MakeDatabase
from tests.server import exchange, serving
from tests.service import Service, make_settings, running

EVERYBODYS_TASKS = text("SELECT * FROM task ORDER BY id")


class Target:
    """The service under attack, and its database."""

    def __init__(self, port: int, database: Database) -> None:
        self.port = port
        self._database = database

    async def rows(self) -> list[Row]:
        return await self._database.fetch(EVERYBODYS_TASKS, {})


@pytest.fixture(scope="module", params=[("sqlite", "h11"), ("postgresql", "httptools")], ids=lambda p: p[0])
async def target(request: pytest.FixtureRequest, make_database: MakeDatabase) -> AsyncIterator[Target]:
    """Both databases, and both of uvicorn's parsers."""
    backend, parser = request.param
    settings = make_settings(database_url=await make_database(backend))
    async with running(settings) as service:
        victim, mallory = service.user(VICTIM), service.user(MALLORY)
        await victim.new_task("The victim's", description="Secret")
        await victim.new_task("The victim's other")
        await mallory.new_task("Mallory's")
        with serving(create_app(settings), parser) as port:
            yield Target(port, service.app.state.database)


def check_form(answer: httpx.Response, request: bytes) -> None:
    """Checks what every answer has in common."""
    path = request.split(b" ", 2)[1]
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    if path.startswith(b"/api/"):
        assert answer.headers["cache-control"] == "private, no-cache"
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if answer.status_code == 405:
        assert answer.headers["allow"]
    if answer.status_code in {304, 412}:
        assert answer.headers["etag"]
    assert set(re.findall(rb'"user_id":"([^"]*)"', answer.content)) <= {MALLORY.encode()}
    if answer.status_code >= 400:
        assert CANARY.encode() not in answer.content
        assert answer.headers["content-type"] == "application/json"
        assert request.startswith(b"HEAD") or list(answer.json()) == ["detail"]


def check_detail(answer: httpx.Response, expected: str | list[Any]) -> None:
    detail = answer.json()["detail"]
    if isinstance(expected, str):
        assert detail == expected
    else:
        assert all(list(fault) == ["loc", "msg", "type"] for fault in detail)
        assert [fault["loc"] for fault in detail] == [expected]


@pytest.mark.requirement("T012", "T013", "T020", "T021", "T022", "T023", "T028")
@pytest.mark.requirement("T062", "T063", "T064", "T065", "T066", "T070", "T071", "T134", "T137")
@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
async def test_a_hostile_request_has_its_answer(target: Target, case: Case) -> None:
    before = await target.rows()

    answer = exchange(target.port, case.request)

    assert answer.status_code == case.status
    check_form(answer, case.request)
    if case.expected is not None and not case.request.startswith(b"HEAD"):
        check_detail(answer, case.expected)
    after = await target.rows()
    if case.status >= 400:
        assert after == before
    else:
        others = [[row for row in rows if row["user_id"] != MALLORY] for rows in (before, after)]
        assert others[0] == others[1]


@pytest.mark.requirement("T134")
async def test_many_parameters_are_refused(plain_service: Service) -> None:
    user = plain_service.user()
    for query in ("&".join(f"x{n}=1" for n in range(2_000)), "limit=1&" * 2_000, "&" * 10_000 + "x"):
        response = await user.get(f"?{query}")
        assert response.status_code == 422
        assert len(response.content) < 2_000


async def test_the_victim_has_what_was_the_victims(target: Target) -> None:
    rows = [row for row in await target.rows() if row["user_id"] != MALLORY]

    names = ("id", "user_id", "title", "description", "completed")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (1, VICTIM, "The victim's", "Secret", False),
        (2, VICTIM, "The victim's other", None, False),
    ]


def test_the_corpus_is_large_and_repeats_nothing() -> None:
    assert len(CORPUS) >= 1500
    assert len({case.request for case in CORPUS}) == len(CORPUS)
    assert AUTHORIZED.encode() in CORPUS[-1].request
