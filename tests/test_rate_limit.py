"""Rate limits: what counts, what a request over the limit costs, and where the requests are counted."""
# [Task]: T155, T156, T157 [From]: specs/features/limits.md

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import event

import rates
from auth.access import verify_user_access
from errors import ServiceUnavailable
from main import create_app
from rates import Memory
from tests.databases import MakeDatabase
from tests.keys import ORIGIN, USER, KeyServer, public_jwk, published_token
from tests.leaks import PASSWORD, SECRET
from tests.redis import RedisServer, redis_server
from tests.server import pick_port
from tests.service import Service, StartService, User, bearer, counted, make_settings, make_token, running
from tests.waiting import until

TOO_MANY = (429, {"detail": "Too many requests"})
# What a list of structured fields (RFC 9651) has for one rate of 100 an hour.
POLICY = '"per-3600s";q=100;w=3600'
QUOTA = re.compile(r'"per-3600s";r=(\d+);t=(\d+)')
ORIGIN_HEADER = {"Origin": "http://localhost:3000"}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def limited(start: StartService) -> Service:
    return await start(rate_limit="100/hour")


@pytest.fixture
def asks_the_store_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no request pass by because an earlier one found the store away."""
    monkeypatch.setattr(rates, "AWAY_SECONDS", 0)


def left(answer: httpx.Response) -> int:
    """How many requests the answer says are left."""
    quota = QUOTA.fullmatch(answer.headers["RateLimit"])
    assert quota
    return int(quota[1])


async def exhaust(user: User) -> httpx.Response:
    """Sends requests until one is over the limit, and returns its answer."""
    async with asyncio.timeout(60):
        while (answer := await user.get()).status_code == 200:
            pass
    return answer


async def never_sent() -> AsyncIterator[bytes]:
    pytest.fail("the body was read")
    yield b""


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "rates" and one.levelname == "WARNING"]


@pytest.mark.requirement("T155", "T156")
async def test_every_answer_to_a_good_token_counts(database_url: str, start: StartService) -> None:
    service = await start(database_url=database_url, rate_limit="100/hour")
    user = service.user()
    task = await user.new_task()
    own, one = user.tasks_path, f"{user.tasks_path}/{task['id']}"
    tag = (await user.get()).headers["ETag"]
    requests: list[tuple[int, str, str, dict[str, Any]]] = [
        (200, "GET", own, {}),
        (200, "HEAD", own, {}),
        (204, "OPTIONS", own, {}),
        (304, "GET", own, {"headers": {"If-None-Match": tag}}),
        (200, "GET", "/api/tasks", {}),
        (201, "POST", "/api/tasks", {"json": {"title": "x"}}),
        (200, "PATCH", f"{one}/complete", {}),
        (403, "GET", "/api/somebody/tasks", {}),
        (404, "GET", f"{own}/999999", {}),
        (404, "GET", "/api/nothing/at/all", {}),
        (405, "PUT", own, {}),
        (412, "PUT", one, {"json": {"title": "x"}, "headers": {"If-Match": '"x"'}}),
        (413, "POST", own, {"json": {"title": "x" * 70_000}}),
        (415, "POST", own, {"content": "x"}),
        (422, "POST", own, {"json": {}}),
        (422, "GET", own, {"params": {"limit": "x"}}),
        (204, "DELETE", one, {}),
    ]

    for number, (status, method, path, options) in enumerate(requests, start=3):
        answer = await user.request(method, path, **options)

        assert (answer.status_code, left(answer)) == (status, 100 - number), (method, path)
        assert answer.headers["RateLimit-Policy"] == POLICY


@pytest.mark.requirement("T155", "T156")
async def test_errors_of_the_service_have_the_quota_too(start: StartService) -> None:
    service = await start(rate_limit="100/hour", request_timeout=0.05)
    user = service.user()

    async def never_ends() -> None:
        await asyncio.Event().wait()

    def is_unforeseen() -> None:
        raise LookupError

    def is_unavailable() -> None:
        raise ServiceUnavailable("away", detail="Away")

    for number, (override, status) in enumerate([(is_unforeseen, 500), (is_unavailable, 503), (never_ends, 503)]):
        service.app.dependency_overrides[verify_user_access] = override
        answer = await user.get(headers=ORIGIN_HEADER)

        assert (answer.status_code, left(answer)) == (status, 99 - number)
        assert answer.headers["RateLimit-Policy"] == POLICY
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN_HEADER["Origin"]


@pytest.mark.requirement("T155")
async def test_a_stream_counts_when_it_is_opened(limited: Service) -> None:
    user = limited.user()
    # Such a token is accepted still, and its stream ends as soon as it has begun.
    expiring = bearer(make_token(user.id, exp=time.time()))

    opened = await user.get("/events", headers=expiring)

    assert opened.status_code == 200
    assert "event: ready" in opened.text
    assert left(opened) == 99
    assert left(await user.get()) == 98


@pytest.mark.requirement("T155")
async def test_public_paths_do_not_count(limited: Service) -> None:
    user = limited.user()

    for path in ("/health", "/ready", "/openapi.json", "/nothing"):
        headers = bearer(make_token(user.id))
        answer = await limited.client.get(path, headers=headers)
        assert "RateLimit" not in answer.headers

    assert left(await user.get()) == 99


@pytest.mark.requirement("T155")
async def test_without_the_setting_nothing_is_limited(service: Service, alice: User) -> None:
    answer = await alice.get()

    assert not {"ratelimit", "ratelimit-policy"} & answer.headers.keys()


@pytest.mark.requirement("T155")
async def test_a_bad_token_is_401_and_does_not_count(start: StartService) -> None:
    service = await start(rate_limit="2/hour")
    user = service.user()
    refused = [
        {},
        {"Authorization": "Basic dTpw"},
        bearer(make_token(user.id, key=SECRET[::-1])),
        bearer(make_token(user.id, exp=time.time() - 60)),
    ]

    async def ask_with_each() -> None:
        for headers in refused:
            answer = await service.client.get(user.tasks_path, headers=headers)
            assert answer.status_code == 401
            assert "RateLimit" not in answer.headers

    await ask_with_each()
    assert [(await user.get()).status_code for _ in range(3)] == [200, 200, 429]
    # Over the limit, too, the token comes first.
    await ask_with_each()


@pytest.mark.requirement("T155")
async def test_tokens_that_cannot_be_verified_do_not_count(key_server: KeyServer, start: StartService) -> None:
    key_server.keys = [public_jwk("ES256")]
    service = await start(better_auth_url=ORIGIN, jwks_url=key_server.url, rate_limit="100/hour")

    async def ask(key: str) -> httpx.Response:
        return await service.client.get(f"/api/{USER}/tasks", headers=bearer(published_token(key)))

    # The first look for an unknown key finds that there is none, and the next one comes too soon.
    for unknown, status in [("RS256", 401), ("RS256", 401), ("EdDSA", 503)]:
        answer = await ask(unknown)
        assert answer.status_code == status
        assert "RateLimit" not in answer.headers
    answer = await ask("ES256")
    assert (answer.status_code, left(answer)) == (200, 99)


@pytest.mark.requirement("T155")
async def test_a_service_that_was_not_started_limits_nobody() -> None:
    app = create_app(make_settings(rate_limit="1/hour"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        answer = await User(client).get()

    assert (answer.status_code, answer.json()) == (503, {"detail": "The service has not started"})


OVER: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "", {}),
    ("HEAD", "", {}),
    ("GET", "?limit=x", {}),
    ("GET", "/0", {}),
    ("GET", "/events", {}),
    ("GET", "/bulk", {}),
    ("GET", "/api/somebody/tasks", {}),
    ("GET", "/api/nothing/at/all", {}),
    ("GET", "/api/tasks", {}),
    ("POST", "", {"content": never_sent(), "headers": {"Content-Length": "10000000", "Content-Type": "text/plain"}}),
    ("POST", "/bulk", {"content": never_sent(), "headers": {"Content-Type": "application/json"}}),
    ("POST", "/api/somebody/tasks", {"content": never_sent()}),
    ("PUT", "/1", {"content": never_sent(), "headers": {"If-Match": "?"}}),
    ("PATCH", "/1/complete", {"content": never_sent()}),
    ("DELETE", "?status=all", {}),
]


@pytest.mark.requirement("T155", "T156")
async def test_over_the_limit_nothing_else_is_looked_at(database_url: str, start: StartService) -> None:
    service = await start(database_url=database_url, rate_limit="1/hour")
    user = service.user()
    assert (await user.get()).status_code == 200
    refused = counted("limits_reached", limit="rate")
    checkouts: list[object] = []
    event.listen(service.app.state.database.engine.sync_engine.pool, "checkout", lambda *_: checkouts.append(_))

    for method, path, options in OVER:
        headers = ORIGIN_HEADER | options.get("headers", {})
        answer = await user.request(method, path, **{**options, "headers": headers})

        assert answer.status_code == 429, (method, path)
        assert method == "HEAD" or answer.json() == TOO_MANY[1]
        assert 3000 < int(answer.headers["Retry-After"]) <= 3600
        quota = re.fullmatch(r'"per-3600s";r=0;t=(\d+)', answer.headers["RateLimit"])
        assert quota
        assert quota[1] == answer.headers["Retry-After"]
        assert answer.headers["RateLimit-Policy"] == '"per-3600s";q=1;w=3600'
        assert answer.headers["Cache-Control"] == "private, no-cache"
        # A browser's frontend can read them.
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN_HEADER["Origin"]
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed)

    assert checkouts == []
    assert counted("limits_reached", limit="rate") == refused + len(OVER)


@pytest.mark.requirement("T155")
async def test_each_user_has_a_limit_of_their_own(start: StartService) -> None:
    service = await start(rate_limit="2/hour")
    # Names that could be taken for each other's, or for a part of what they are counted by.
    names = ["a", "A", "a/1", "a/2/1/hour", "LIMITER/a", "é", "a:b", " a", "x" * 255]

    for user in map(service.user, names):
        assert [(await user.get("/api/tasks")).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.requirement("T155")
async def test_both_paths_of_a_user_are_one_limit(start: StartService) -> None:
    service = await start(rate_limit="2/hour")
    user = service.user()

    assert [(await user.get(path)).status_code for path in ("", "/api/tasks", "")] == [200, 200, 429]


@pytest.mark.requirement("T155", "T156")
async def test_several_rates_each_hold(start: StartService) -> None:
    service = await start(rate_limit="2/minute; 3 per 2 hours")
    user = service.user()

    answers = [await user.get() for _ in range(4)]

    policy = '"per-60s";q=2;w=60, "per-7200s";q=3;w=7200'
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {policy}
    quotas = [
        re.fullmatch(r'"per-60s";r=(\d);t=\d+, "per-7200s";r=(\d);t=\d+', one.headers["RateLimit"]) for one in answers
    ]
    assert [quota and quota.groups() for quota in quotas] == [("1", "2"), ("0", "1"), ("0", "0"), ("0", "0")]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    # It is time again when the last of the rates that are exceeded begins anew.
    assert int(answers[2].headers["Retry-After"]) <= 60
    assert int(answers[3].headers["Retry-After"]) > 3600


@pytest.mark.requirement("T155", "T157")
@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_a_window_passes_and_requests_do_again(store: str, redis: RedisServer, start: StartService) -> None:
    storage = {"rate_limit_storage": redis.url} if store == "redis" else {}
    user = (await start(rate_limit="1/second", **storage)).user()

    over = await exhaust(user)
    assert (over.status_code, over.json()) == TOO_MANY
    assert over.headers["Retry-After"] == "1"

    async def passes() -> bool:
        return (await user.get()).status_code == 200

    await until(passes)


@pytest.mark.requirement("T155", "T157")
@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_of_many_requests_at_once_just_those_pass(
    store: str, redis: RedisServer, start: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow machine may take long for all of them.
    monkeypatch.setattr(rates, "STORE_SECONDS", 60)
    storage = {"rate_limit_storage": redis.url} if store == "redis" else {}
    user = (await start(rate_limit="50/hour", **storage)).user()

    answers = await asyncio.gather(*(user.get() for _ in range(120)))

    assert sorted(answer.status_code for answer in answers) == [200] * 50 + [429] * 70


@pytest.mark.requirement("T157")
async def test_in_memory_each_worker_counts_for_itself(start: StartService) -> None:
    one, other = await start(rate_limit="1/hour"), await start(rate_limit="1/hour")

    for service in (one, other):
        user = service.user("one and the same")
        assert [(await user.get()).status_code for _ in range(2)] == [200, 429]


@pytest.mark.requirement("T157")
async def test_in_redis_all_workers_count_together(redis: RedisServer, start: StartService) -> None:
    # Valkey speaks the same protocol, so that a real Redis stands in for it.
    valkey = redis.url.replace("redis://", "valkey://")
    one = await start(rate_limit="100/hour", rate_limit_storage=redis.url)
    other = await start(rate_limit="100/hour", rate_limit_storage=valkey)
    user = one.user()
    same = other.user(user.id)

    assert [left(await each.get()) for each in (user, same, same, user)] == [99, 98, 97, 96]
    assert left(await one.user().get()) == 99


@pytest.mark.requirement("T157")
async def test_memory_forgets_windows_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SWEEP_SECONDS", 0)
    memory = Memory()
    for number in range(100):
        await memory.incr(f"user {number}", 0.001)

    async def are_forgotten() -> bool:
        await memory.incr("another", 3600)
        return len(memory.storage) == len(memory.expirations) == 1

    await until(are_forgotten)
    assert await memory.get("another") > 0


class CountedSearches(dict[str, float]):
    searches = 0

    def __iter__(self) -> Iterator[str]:
        self.searches += 1
        return super().__iter__()

    def keys(self) -> Any:
        self.searches += 1
        return super().keys()

    def items(self) -> Any:
        self.searches += 1
        return super().items()


@pytest.mark.requirement("T157")
async def test_memory_looks_at_one_user_a_request() -> None:
    memory = Memory()
    memory.expirations = expirations = CountedSearches()

    for count in (1, 2, 3):
        assert await memory.incr("a user", 3600) == count
        # Time for a task that it may have left behind.
        await asyncio.sleep(0)

    assert expirations.searches == 0


@pytest.mark.requirement("T157")
def test_a_store_that_is_away_costs_a_second_at_most() -> None:
    assert (rates.STORE_SECONDS, rates.WARNING_SECONDS) == (1, 60)
    # After that, the requests of so long don't wait for it at all.
    assert rates.AWAY_SECONDS == 1


@pytest.mark.requirement("T157")
@pytest.mark.parametrize("fault", ["refused", "password", "unknown host"])
async def test_a_store_that_is_away_refuses_nobody(
    fault: str,
    redis: RedisServer,
    start: StartService,
    caplog: pytest.LogCaptureFixture,
    asks_the_store_each_time: None,
) -> None:
    store = {
        "refused": f"redis://:{PASSWORD}@127.0.0.1:{pick_port()}",
        # In the log, tests/leaks.py looks for it.
        "password": redis.url.replace(PASSWORD, f"{PASSWORD}-of-before"),
        "unknown host": f"redis://:{PASSWORD}@store.invalid",
    }[fault]
    service = await start(rate_limit="1/hour", rate_limit_storage=store)
    user = service.user()

    for _ in range(3):
        answer = await user.get()
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers
    # One in a minute.
    [warning] = warnings(caplog)
    assert re.fullmatch(r"RATE_LIMIT_STORAGE can't be used, and no request is limited: \w+", warning)


@pytest.mark.requirement("T157")
async def test_a_store_that_stays_away_is_warned_of_again(
    start: StartService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    asks_the_store_each_time: None,
) -> None:
    monkeypatch.setattr(rates, "WARNING_SECONDS", 0)
    service = await start(rate_limit="1/hour", rate_limit_storage=f"redis://127.0.0.1:{pick_port()}")

    for _ in range(2):
        await service.user().get()

    assert len(warnings(caplog)) == 2


@pytest.mark.requirement("T157")
async def test_a_store_that_was_away_is_left_alone_for_a_while(
    start: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "AWAY_SECONDS", 3600)
    with redis_server() as redis:
        service = await start(rate_limit="1/hour", rate_limit_storage=redis.url)
        redis.kill()
        await service.user().get()
        redis.start()

        assert "RateLimit" not in (await service.user().get()).headers


@pytest.mark.requirement("T157")
async def test_a_start_does_not_wait_for_the_store(start: StartService) -> None:
    connections: list[asyncio.StreamWriter] = []
    # It accepts, and never answers.
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    store = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    service = await start(rate_limit="1/hour", rate_limit_storage=store)

    assert connections == []
    assert (await service.user().get()).status_code == 200
    assert len(connections) == 1
    connections[0].close()
    server.close()


@pytest.mark.requirement("T157")
async def test_a_silent_store_delays_requests_and_mixes_none_up(
    start: StartService, monkeypatch: pytest.MonkeyPatch, asks_the_store_each_time: None
) -> None:
    with redis_server() as redis:
        service = await start(rate_limit="100/hour", rate_limit_storage=redis.url)
        alice, bob = service.user(), service.user()
        assert [left(await alice.get()) for _ in range(10)] == list(range(99, 89, -1))
        assert left(await bob.get()) == 99

        redis.fall_silent()
        with monkeypatch.context() as patch:
            patch.setattr(rates, "STORE_SECONDS", 0.1)
            answers = await asyncio.gather(*(user.get() for user in (alice, bob) for _ in range(15)))
        assert {answer.status_code for answer in answers} == {200}
        assert not any("RateLimit" in answer.headers for answer in answers)
        redis.speak_again()

        async def counts_again() -> bool:
            return "RateLimit" in (await service.user().get()).headers

        await until(counts_again)
        # What it was asked meanwhile may have been counted, each for its own user.
        assert 90 - 16 <= left(await alice.get()) < 90
        assert 99 - 16 <= left(await bob.get()) < 99
        assert left(await service.user().get()) == 99


@pytest.mark.requirement("T157")
async def test_a_store_that_is_back_limits_again(
    start: StartService, caplog: pytest.LogCaptureFixture, asks_the_store_each_time: None
) -> None:
    with redis_server() as redis:
        service = await start(rate_limit="2/hour", rate_limit_storage=redis.url)
        user = service.user()
        assert (await exhaust(user)).status_code == 429

        redis.kill()
        assert [(await user.get()).status_code for _ in range(3)] == [200] * 3
        assert len(warnings(caplog)) == 1

        redis.start()
        # It has lost its counts, so that they begin anew.
        assert (await exhaust(user)).status_code == 429


@pytest.mark.requirement("T157")
async def test_a_store_that_restarts_unnoticed_is_not_away(
    start: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server() as redis:
        service = await start(rate_limit="100/hour", rate_limit_storage=redis.url)
        user = service.user()
        # Each over a connection of its own.
        await asyncio.gather(*(user.get() for _ in range(10)))

        redis.kill()
        redis.start()

        answers = await asyncio.gather(*(user.get() for _ in range(10)))
        # All are counted, and each is told what was left a moment later.
        assert min(map(left, answers)) == 90
        assert all("RateLimit" in answer.headers for answer in answers)
        assert warnings(caplog) == []


@pytest.mark.requirement("T157")
async def test_a_service_stops_while_its_store_is_silent(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"database_url": await make_database("sqlite"), "rate_limit": "100/hour"}
    with redis_server() as redis:
        async with running(make_settings(**settings, rate_limit_storage=redis.url)) as service:
            await service.user().get()
            redis.fall_silent()
