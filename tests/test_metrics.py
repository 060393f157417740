"""The metrics: access, formats and values."""
# [Task]: T096 [From]: specs/reliability.md

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from sqlalchemy import Pool, event
from starlette.responses import StreamingResponse

from metrics import DATABASE_FAULTS, TIMEOUTS
from tests.conftest import BACKENDS
from tests.databases import MakeDatabase
from tests.leaks import SECRET, watch
from tests.server import uvicorn_process
from tests.service import Service, StartService, bearer, make_settings, make_token, running, sign_raw
from tests.streams import ready, watching
from tests.waiting import until

METRICS_TOKEN = watch.issue("a-token-of-the-tests-for-the-metrics")
SCRAPER = bearer(METRICS_TOKEN)
INVALID = 'Bearer error="invalid_token", error_description="The token is invalid"'
TASKS = "/api/{user_id}/tasks"
TASK = "/api/{user_id}/tasks/{task_id}"

# The numbers are those of the process, and include earlier tests.
Numbers = dict[str, float]


@pytest.fixture(scope="module", params=BACKENDS)
async def measured(request: pytest.FixtureRequest, make_database: MakeDatabase) -> AsyncIterator[Service]:
    url = await make_database(request.param)
    async with running(make_settings(database_url=url, metrics_token=METRICS_TOKEN)) as service:
        yield service


async def scrape(service: Service) -> Numbers:
    """Returns the project's samples by the beginnings of their lines."""
    response = await service.client.get("/metrics", headers=SCRAPER)
    assert response.status_code == 200, response.text
    return read_numbers(response.text)


def read_numbers(text: str) -> Numbers:
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("todo_"))
    return {name: float(value) for name, _, value in lines}


def count_of(route: str, method: str, status: int) -> str:
    labels = f'method="{method}",route="{route}",status="{status}"'
    return f"todo_http_requests_seconds_count{{{labels}}}"


def growth(before: Numbers, after: Numbers, beginning: str) -> Numbers:
    """The samples of a metric that changed, and by how much."""
    return {
        name: after[name] - before.get(name, 0)
        for name in after
        if name.startswith(beginning) and after[name] != before.get(name, 0)
    }


@pytest.mark.requirement("T096")
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
async def test_without_metrics_token_there_is_no_such_path(plain_service: Service, method: str) -> None:
    for headers in ({}, SCRAPER, bearer(make_token("somebody")), bearer("None")):
        assert (await plain_service.client.request(method, "/metrics", headers=headers)).status_code == 404


@pytest.mark.requirement("T096")
@pytest.mark.parametrize("authorization", [None, "", f"Basic {METRICS_TOKEN}", METRICS_TOKEN])
async def test_reading_the_metrics_takes_a_token(measured: Service, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    response = await measured.client.get("/metrics", headers=headers)

    assert response.status_code == 401
    assert response.json() == {"detail": "Not authenticated"}
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.requirement("T096")
@pytest.mark.parametrize(
    "authorization",
    [
        [f"Bearer {METRICS_TOKEN}x"],
        [f"Bearer {METRICS_TOKEN[:-1]}"],
        [f"Bearer  {METRICS_TOKEN}"],
        [f"Bearer {METRICS_TOKEN.upper()}"],
        ["Bearer None"],
        ["Bearer "],
        ["Bearer é"],
        [f"Bearer {METRICS_TOKEN}", f"Bearer {METRICS_TOKEN}"],
        [f"Bearer {METRICS_TOKEN}", "Bearer x"],
        [f"Bearer {make_token('somebody')}"],
    ],
    ids=lambda values: " and ".join(values)[:40],
)
async def test_another_token_does_not_open_the_metrics(measured: Service, authorization: list[str]) -> None:
    headers = [(b"Authorization", value.encode()) for value in authorization]

    response = await measured.client.get("/metrics", headers=headers)

    assert response.status_code == 401
    assert response.json() == {"detail": "Invalid token"}
    assert response.headers["WWW-Authenticate"] == INVALID


@pytest.mark.requirement("T096")
async def test_the_metrics_token_opens_nothing_else(measured: Service) -> None:
    for path in ("/api/somebody/tasks", f"/api/{METRICS_TOKEN}/tasks"):
        response = await measured.client.get(path, headers=SCRAPER)

        assert response.status_code == 401
        assert response.json() == {"detail": "Invalid token"}
    # It was in the path, which the log shows.
    assert watch.take()


@pytest.mark.requirement("T096")
async def test_metrics_are_served_like_any_other_path(measured: Service) -> None:
    got = await measured.client.get("/metrics", headers={"Authorization": f"bearer {METRICS_TOKEN}"})
    head = await measured.client.head("/metrics", headers=SCRAPER)
    options = await measured.client.options("/metrics")
    refused = await measured.client.post("/metrics", headers=SCRAPER)

    assert got.status_code == head.status_code == 200
    assert got.headers["Cache-Control"] == head.headers["Cache-Control"] == "no-store"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert head.content == b""
    assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "/metrics" not in measured.app.openapi()["paths"]


@pytest.mark.requirement("T096")
@pytest.mark.parametrize(
    ("accept", "media_type", "parse"),
    [
        (None, "text/plain; version=0.0.4", parse_text),
        ("*/*", "text/plain; version=0.0.4", parse_text),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain; version=1.0.0", parse_text),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0",
            parse_openmetrics,
        ),
        # No number, and none that fits an integer.
        ("text/plain;version=x", "text/plain; version=0.0.4", parse_text),
        ("application/openmetrics-text;version=é", "text/plain; version=0.0.4", parse_text),
        (f"text/plain;version={'9' * 5000}", "text/plain; version=0.0.4", parse_text),
    ],
)
async def test_a_scraper_gets_the_format_it_asks_for(
    measured: Service, accept: str | None, media_type: str, parse: Any
) -> None:
    headers = [(name.encode(), value.encode()) for name, value in SCRAPER.items()]
    if accept is not None:
        headers.append((b"Accept", accept.encode()))

    response = await measured.client.get("/metrics", headers=headers)

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(media_type)
    names = {family.name for family in parse(response.text)}
    assert {
        "todo_http_requests_seconds",
        "todo_pool_connections_in_use",
        "todo_pool_requests_waiting",
        "todo_timeouts",
        "todo_database_faults",
        "todo_token_verdicts",
        "todo_limits_reached",
        "todo_open_streams",
        "todo_events_told",
    } <= names


@pytest.mark.requirement("T096")
@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "", TASKS, 200),
        ("GET", "/", TASKS, 200),
        ("GET", "?limit=0", TASKS, 422),
        ("POST", "", TASKS, 415),
        ("GET", "/999999", TASK, 404),
        ("DELETE", "/999999", TASK, 404),
        ("PATCH", "/999999/complete", f"{TASK}/complete", 404),
        ("PUT", "/999999/complete", f"{TASK}/complete", 405),
        ("GET", "/api/somebody/tasks", TASKS, 403),
        ("GET", "/api/somebody/nothing", "other", 404),
    ],
)
async def test_a_request_is_counted_by_its_route(
    measured: Service, method: str, path: str, route: str, status: int
) -> None:
    before = await scrape(measured)

    response = await measured.user().request(method, path)

    assert response.status_code == status
    after = await scrape(measured)
    counted = growth(before, after, "todo_http_requests_seconds_count")
    scrapes = count_of("/metrics", "GET", 200)
    assert counted == {count_of(route, method, status): 1, scrapes: 1}
    spent = growth(before, after, "todo_http_requests_seconds_sum")
    assert all(seconds > 0 for seconds in spent.values())


@pytest.mark.requirement("T096")
async def test_head_is_counted_as_get(measured: Service) -> None:
    before = await scrape(measured)

    await measured.client.head("/health")
    await measured.client.options("/health")

    counted = growth(before, await scrape(measured), "todo_http_requests_seconds_count")
    assert counted == {
        count_of("/health", "GET", 200): 1,
        count_of("/health", "OPTIONS", 204): 1,
        count_of("/metrics", "GET", 200): 1,
    }


@pytest.mark.requirement("T096")
async def test_a_stream_counts_as_open_and_not_as_a_request(measured: Service) -> None:
    user, refused = measured.user(), "/api/somebody/tasks/events"
    before = await scrape(measured)

    async with watching(measured.app, user) as stream:
        await ready(stream)
        await user.new_task()
        await stream.next()
        assert (await scrape(measured))["todo_open_streams"] == 1
        async with watching(measured.app, user, path=refused) as other:
            assert other.response.status_code == 403
    await user.request("HEAD", "/events")

    after = await scrape(measured)
    assert growth(before, after, "todo_open_streams") == {}
    assert growth(before, after, "todo_events_told_total") == {"todo_events_told_total": 1}
    counted = growth(before, after, "todo_http_requests_seconds_count")
    assert counted == {
        count_of(TASKS, "POST", 201): 1,
        count_of(f"{TASKS}/events", "GET", 403): 1,
        count_of("/metrics", "GET", 200): 2,
    }


@pytest.mark.requirement("T096")
async def test_no_request_can_make_a_series(measured: Service) -> None:
    async def send_odd_ones(number: int) -> None:
        user = measured.user(f"user-{number}")
        await user.request(f"BREW{number}", f"/{number}")
        await user.request(f"BREW{number}", f"/api/{number}/nothing")
        await user.get(f"/{number}/{number}")
        await user.get(f"/{number}")
        await measured.client.get(f"/api/{number}/tasks", headers=bearer(f"{number}"))

    await send_odd_ones(1)
    await scrape(measured)
    before = await scrape(measured)
    for number in range(2, 10):
        await send_odd_ones(number)
    after = await scrape(measured)

    assert before.keys() == after.keys()
    assert after[count_of(TASK, "other", 405)] >= 9
    assert after[count_of("other", "other", 404)] >= 9


@pytest.mark.requirement("T096")
@pytest.mark.parametrize(
    ("path", "headers", "verdict"),
    [
        ("/api/me/tasks", bearer(make_token("me")), "accepted"),
        ("/api/me/tasks?limit=0", bearer(make_token("me")), "accepted"),
        ("/api/me/tasks", bearer(make_token("me", exp=1)), "expired"),
        ("/api/me/tasks", bearer(make_token("me", key=SECRET[::-1])), "invalid"),
        ("/api/me/tasks", {}, "missing"),
        ("/api/you/tasks", bearer(make_token("me")), "forbidden"),
        ("/health", bearer("x"), None),
        ("/metrics", bearer("x"), None),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_verdicts_on_tokens_are_counted(
    measured: Service, path: str, headers: dict[str, str], verdict: str | None
) -> None:
    before = await scrape(measured)

    await measured.client.get(path, headers=headers)

    counted = growth(before, await scrape(measured), "todo_token_verdicts")
    one = {f'todo_token_verdicts_total{{verdict="{verdict}"}}': 1}
    assert counted == ({} if verdict is None else one)


@pytest.mark.requirement("T096")
async def test_without_keys_a_token_counts_as_unverifiable(make_database: MakeDatabase, start: StartService) -> None:
    service = await start(
        database_url=await make_database("sqlite"),
        # Nobody listens there.
        better_auth_url="http://127.0.0.1:1",
        metrics_token=METRICS_TOKEN,
    )
    before = await scrape(service)
    token = sign_raw('{"alg": "EdDSA", "kid": "x"}', '{"sub": "me", "exp": 9999999999}')

    answer = await service.client.get("/api/me/tasks", headers=bearer(token))

    assert answer.status_code == 503
    counted = growth(before, await scrape(service), "todo_token_verdicts")
    assert counted == {'todo_token_verdicts_total{verdict="unverifiable"}': 1}


@pytest.mark.requirement("T096")
async def test_failures_count_by_the_status_that_was_sent(start: StartService) -> None:
    async def broken_off() -> AsyncIterator[str]:
        yield "half"
        raise ZeroDivisionError

    service = await start(metrics_token=METRICS_TOKEN)

    @service.app.get("/half")
    async def half() -> StreamingResponse:
        return StreamingResponse(broken_off())

    @service.app.get("/unforeseen")
    async def unforeseen() -> None:
        raise ZeroDivisionError

    before = await scrape(service)
    with pytest.raises(ZeroDivisionError):
        await service.client.get("/half")
    await service.client.get("/unforeseen")

    after = await scrape(service)
    for name in (count_of("/half", "GET", 200), count_of("/unforeseen", "GET", 500)):
        assert after[name] == before.get(name, 0) + 1


@pytest.mark.requirement("T096")
async def test_connections_in_use_are_measured(measured: Service) -> None:
    engine = measured.app.state.database.engine
    name = "todo_pool_connections_in_use"

    assert (await scrape(measured))[name] == 0
    async with engine.connect(), engine.connect():
        assert (await scrape(measured))[name] == 2
    assert (await scrape(measured))[name] == 0


@pytest.mark.requirement("T096")
async def test_the_pool_is_measured_without_a_scrape(measured: Service) -> None:
    """The one of several workers that is scraped can't ask the others."""
    name = "todo_pool_connections_in_use"
    before = REGISTRY.get_sample_value(name) or 0
    async with measured.app.state.database.engine.connect():
        assert REGISTRY.get_sample_value(name) == before + 1
    assert REGISTRY.get_sample_value(name) == before


@pytest.mark.requirement("T096")
async def test_the_connection_of_ready_is_not_in_use(measured: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readiness.GOOD_FOR_SECONDS", 0)
    name = "todo_pool_connections_in_use"
    seen: list[float | None] = []

    def note(*_: object) -> None:
        seen.append(REGISTRY.get_sample_value(name))

    before = (await scrape(measured))[name]
    event.listen(Pool, "checkin", note)
    await measured.client.get("/ready")
    event.remove(Pool, "checkin", note)

    assert seen == [before]


@pytest.mark.requirement("T096")
async def test_requests_waiting_for_a_connection_are_measured(make_database: MakeDatabase, start: StartService) -> None:
    service = await start(
        database_url=await make_database("postgresql"), db_pool_size=1, db_max_overflow=0, metrics_token=METRICS_TOKEN
    )
    name = "todo_pool_requests_waiting"
    user, engine = service.user(), service.app.state.database.engine
    assert (await scrape(service))[name] == 0
    async with engine.connect():
        waiting = [asyncio.create_task(user.get()) for _ in range(3)]

        async def are_three() -> bool:
            return (await scrape(service))[name] == 3

        await until(are_three)
    for answer in await asyncio.gather(*waiting):
        assert answer.status_code == 200
    assert (await scrape(service))[name] == 0


@pytest.mark.requirement("T096")
async def test_a_body_that_comes_too_late_counts_as_a_timeout(start: StartService) -> None:
    async def never_ends() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    service = await start(body_timeout=0.01, metrics_token=METRICS_TOKEN)
    before = await scrape(service)

    headers = {"Content-Type": "application/json"}
    answer = await service.user().request("POST", content=never_ends(), headers=headers)

    assert answer.status_code == 408
    counted = growth(before, await scrape(service), "todo_timeouts")
    assert counted == {'todo_timeouts_total{limit="body"}': 1}


@pytest.mark.requirement("T096")
async def test_database_faults_and_timeouts_are_counted(measured: Service) -> None:
    before = await scrape(measured)

    TIMEOUTS.labels("pool").inc()
    DATABASE_FAULTS.labels("made up").inc()

    after = await scrape(measured)
    assert growth(before, after, "todo_timeouts") == {'todo_timeouts_total{limit="pool"}': 1}
    assert growth(before, after, "todo_database_faults_total") == {'todo_database_faults_total{fault="made up"}': 1}


@pytest.mark.requirement("T096")
async def test_two_workers_add_up_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    environment = {
        "BETTER_AUTH_SECRET": SECRET,
        "METRICS_TOKEN": METRICS_TOKEN,
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
    }
    async with uvicorn_process(tmp_path, "--workers", "2", **environment) as server:
        url = await server.url()
        await server.wait_for(r"(?s)(?:.*startup complete){2}")

        async def get(path: str) -> httpx.Response:
            # On a new connection, which either worker may accept.
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                return await client.get(path, headers=SCRAPER)

        def workers_that_served() -> int:
            """Counts the workers that measured requests, by their files."""
            return sum(b"/health" in path.read_bytes() for path in folder.glob("histogram_*.db"))

        sent = 0
        while sent < 500 and workers_that_served() < 2:
            assert (await get("/health")).status_code == 200
            sent += 1
        assert workers_that_served() == 2

        for _ in range(10):
            numbers = read_numbers((await get("/metrics")).text)
            assert numbers[count_of("/health", "GET", 200)] == sent
            assert numbers["todo_pool_connections_in_use"] == 0
            assert numbers['todo_timeouts_total{limit="pool"}'] == 0


@pytest.mark.requirement("T078", "T096")
@pytest.mark.parametrize("folder", ["", "no-such-folder", "/proc"])
async def test_an_unwritable_metrics_folder_refuses_the_start(tmp_path: Path, folder: str) -> None:
    async with uvicorn_process(tmp_path, PROMETHEUS_MULTIPROC_DIR=folder) as server:
        assert await server.end() != 0

    assert re.fullmatch(
        r"The service can't start\.\nPROMETHEUS_MULTIPROC_DIR is no folder to write to; .+\n", server.output
    )
