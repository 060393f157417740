"""`REQUIRE_HTTPS`: no answers to plain HTTP, and `Strict-Transport-Security` by HTTPS."""
# [Task]: T158 [From]: specs/features/limits.md

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from auth.access import verify_user_access
from main import create_app
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import exchange, head, serving, uvicorn_process
from tests.service import Service, StartService, User, bearer, make_settings, make_token, running

HTTPS_REQUIRED = (403, {"detail": "HTTPS required"})
HSTS = "Strict-Transport-Security"
A_YEAR = "max-age=31536000"
METRICS_TOKEN = "a-token-of-the-scraper"
ALLOWED = "http://localhost:3000"
PREFLIGHT = {
    "Origin": ALLOWED,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization",
}


@pytest.fixture(scope="module")
async def strict(make_database: MakeDatabase) -> AsyncIterator[Service]:
    """A service that requires HTTPS; its client speaks plain HTTP."""
    settings = {"require_https": True, "metrics_token": METRICS_TOKEN, "rate_limit": "3/hour"}
    async with running(make_settings(database_url=await make_database("sqlite"), **settings)) as service:
        yield service


def client_of(service: Service, scheme: str, root_path: str = "") -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """A client of that scheme. What the application raises is answered, as by a server."""
    transport = httpx.ASGITransport(service.app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://testserver")


async def never_sent() -> AsyncIterator[bytes]:
    pytest.fail("the body was read")
    yield b""


REQUESTS = [
    *(("GET", "/api/alice/tasks"), ("POST", "/api/alice/tasks"), ("DELETE", "/api/alice/tasks?status=all")),
    *(("PUT", "/api/alice/tasks/1"), ("PATCH", "/api/alice/tasks/1/complete"), ("POST", "/api/alice/tasks/bulk")),
    *(("GET", "/api/alice/tasks/events"), ("GET", "/api/tasks"), ("OPTIONS", "/api/tasks"), ("BREW", "/api/tasks")),
    *(("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nothing"), ("GET", "/health/x")),
    *(("GET", "/health/"), ("GET", "/api/health"), ("GET", "/Health"), ("GET", "/health%0A"), ("GET", "//health")),
]


@pytest.mark.requirement("T158")
@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_plain_http_is_403_whatever_the_token(strict: Service, method: str, path: str) -> None:
    tokens = [
        {},
        bearer("x"),
        bearer(make_token("alice", key=SECRET[::-1])),
        bearer(make_token("alice")),
        bearer(make_token("bob")),
    ]
    for headers in tokens:
        answer = await strict.client.request(method, path, content=never_sent(), headers={"Origin": ALLOWED} | headers)

        assert (answer.status_code, answer.json()) == HTTPS_REQUIRED
        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert answer.headers["X-Request-ID"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not {"location", "www-authenticate", "ratelimit", HSTS.lower()} & answer.headers.keys()


@pytest.mark.requirement("T158")
async def test_plain_http_does_not_count(strict: Service) -> None:
    user = strict.user()
    for _ in range(5):
        assert (await user.get()).status_code == 403

    async with client_of(strict, "https") as client:
        assert (await User(client, user.id).get()).headers["RateLimit"].startswith('"per-3600s";r=2;')


@pytest.mark.requirement("T158")
async def test_a_preflight_by_plain_http_is_403(strict: Service) -> None:
    # A browser then doesn't send the token in the clear.
    answer = await strict.client.options("/api/tasks", headers=PREFLIGHT)

    assert (answer.status_code, answer.json()) == HTTPS_REQUIRED
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED


@pytest.mark.requirement("T158")
@pytest.mark.parametrize(("root_path", "prefix"), [("", ""), ("/v1", "/v1"), ("/v1", "")])
async def test_what_a_host_asks_is_answered_by_plain_http(strict: Service, root_path: str, prefix: str) -> None:
    async with client_of(strict, "http", root_path) as client:
        for path, headers in [("/health", {}), ("/ready", {}), ("/metrics", bearer(METRICS_TOKEN))]:
            for method in ("GET", "HEAD", "OPTIONS"):
                answer = await client.request(method, prefix + path, headers=headers)
                assert answer.status_code == (204 if method == "OPTIONS" else 200)
                assert HSTS not in answer.headers
            preflight = await client.options(prefix + path, headers=PREFLIGHT)
            assert preflight.status_code == 200
        assert (await client.get(f"{prefix}/metrics")).status_code == 401
        answer = await client.get(f"{prefix}/api/tasks")
        assert (answer.status_code, answer.json()) == HTTPS_REQUIRED


@pytest.mark.requirement("T158")
async def test_every_answer_by_https_says_to_stay_there(strict: Service) -> None:
    own = "/api/alice/tasks"
    requests: list[tuple[int, str, str, dict[str, Any]]] = [
        (200, "GET", "/health", {}),
        (200, "HEAD", "/health", {}),
        (404, "GET", "/nothing", {}),
        (405, "PUT", own, {}),
        (204, "OPTIONS", own, {}),
        (200, "OPTIONS", own, PREFLIGHT),
        (204, "OPTIONS", own, PREFLIGHT | {"Origin": "https://evil.example"}),
        (401, "GET", own, {}),
        (200, "GET", own, bearer(make_token("alice"))),
        (403, "GET", own, bearer(make_token("bob"))),
        (422, "GET", f"{own}?limit=x", bearer(make_token("alice"))),
        (415, "POST", own, bearer(make_token("alice"))),
        (429, "GET", own, bearer(make_token("alice"))),
    ]
    async with client_of(strict, "https") as client:
        for status, method, path, headers in requests:
            answer = await client.request(method, path, headers=headers)

            assert (answer.status_code, answer.headers[HSTS]) == (status, A_YEAR), (method, path)


@pytest.mark.requirement("T158")
async def test_an_unforeseen_error_by_https_says_so_too(start: StartService) -> None:
    service = await start(require_https=True)

    def is_unforeseen() -> None:
        raise LookupError

    service.app.dependency_overrides[verify_user_access] = is_unforeseen
    async with client_of(service, "https") as client:
        answer = await User(client).get()

    assert (answer.status_code, answer.headers[HSTS]) == (500, A_YEAR)


@pytest.mark.requirement("T158")
async def test_without_the_setting_both_schemes_are_served(plain_service: Service) -> None:
    for scheme in ("http", "https"):
        async with client_of(plain_service, scheme) as client:
            answer = await User(client).get()

            assert answer.status_code == 200
            assert HSTS not in answer.headers


@pytest.mark.requirement("T158")
async def test_a_proxy_that_is_trusted_says_what_the_scheme_was(tmp_path: Path) -> None:
    arguments = ("--root-path", "/v1")
    settings = {"BETTER_AUTH_SECRET": SECRET, "REQUIRE_HTTPS": "true", "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    async with (
        uvicorn_process(tmp_path, *arguments, **settings) as server,
        httpx.AsyncClient(base_url=await server.url()) as client,
    ):
        user = User(client)
        secure = await user.get(headers={"X-Forwarded-Proto": "https"})
        assert (secure.status_code, secure.headers[HSTS]) == (200, A_YEAR)
        for headers in ({}, {"X-Forwarded-Proto": "http"}, {"Forwarded": "proto=https"}):
            answer = await user.get(headers=headers)
            assert (answer.status_code, answer.json()) == HTTPS_REQUIRED
        assert (await client.get("/health")).status_code == 200


@pytest.mark.requirement("T158")
async def test_a_proxy_that_is_not_trusted_is_not_believed(tmp_path: Path) -> None:
    settings = {"BETTER_AUTH_SECRET": SECRET, "REQUIRE_HTTPS": "true", "FORWARDED_ALLOW_IPS": "10.0.0.1"}
    async with (
        uvicorn_process(tmp_path, **settings) as server,
        httpx.AsyncClient(base_url=await server.url()) as client,
    ):
        answer = await User(client).get(headers={"X-Forwarded-Proto": "https"})
        assert (answer.status_code, answer.json()) == HTTPS_REQUIRED
        assert HSTS not in answer.headers
        assert (await client.get("/health")).status_code == 200


@pytest.mark.requirement("T158")
async def test_a_body_that_never_comes_is_not_waited_for(make_database: MakeDatabase) -> None:
    app = create_app(make_settings(database_url=await make_database("sqlite"), require_https=True))
    with serving(app) as port:
        answer = exchange(port, head("POST", "/api/tasks", "Content-Type: application/json", "Content-Length: 100"))

    assert (answer.status_code, answer.json()) == HTTPS_REQUIRED
