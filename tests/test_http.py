"""HTTP around the endpoints: methods, CORS, slashes, and errors of every kind."""
# [Task]: T002, T062, T066, T067, T068, T069, T072, T173 [From]: specs/features/task-crud.md, specs/api/rest-endpoints.md

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from tests.leaks import SECRET
from tests.server import uvicorn_process
from tests.service import Service, StartService, User, bearer, make_token

ORIGIN = "http://localhost:3000"
EXPOSED = (
    "Location, Idempotency-Replayed, ETag, Link, X-Total-Count, Retry-After, X-Request-ID, WWW-Authenticate,"
    " RateLimit, RateLimit-Policy"
)

ALLOWED = [
    ("/health", "GET, HEAD, OPTIONS"),
    ("/ready", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
    ("/", "GET, HEAD, OPTIONS"),
    ("/docs", "GET, HEAD, OPTIONS"),
    ("/docs/swagger-ui.css", "GET, HEAD, OPTIONS"),
    ("/api/somebody/tasks", "GET, POST, DELETE, HEAD, OPTIONS"),
    ("/api/somebody/tasks/1", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
    ("/api/somebody/tasks/x/", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
    ("/api/somebody/tasks/1/complete", "PATCH, OPTIONS"),
]


@pytest.mark.requirement("T062")
@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/", "/api/a", "/api/a/tasks/1/2", "/api//tasks", "/health/"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "BREW"])
async def test_an_unknown_path_is_404(plain_service: Service, path: str, method: str) -> None:
    response = await plain_service.client.request(method, path)

    assert response.status_code == 404
    assert response.json() == {"detail": "Not Found"}


@pytest.mark.requirement("T062")
@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/docs", "/api/somebody/tasks"])
async def test_a_line_break_at_the_end_is_another_path(plain_service: Service, path: str) -> None:
    user = plain_service.user("somebody")

    for end in ("%0A", "%0A%0A", "%0A/"):
        assert (await plain_service.client.get(path + end)).status_code == 404
    response = await user.request("POST", "/api/somebody/tasks%0A", json={"title": "x"})
    assert response.status_code == 404
    assert (await user.get("/1%0A")).status_code == 422
    assert (await user.request("PATCH", "/1/complete%0A")).status_code == 404


@pytest.mark.requirement("T068", "T071")
async def test_a_proxys_prefix_is_kept_in_locations(service: Service) -> None:
    user = service.user()
    transport = httpx.ASGITransport(service.app, root_path="/v1")
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        headers = bearer(make_token(user.id))
        path = f"/v1{user.tasks_path}/"
        created = await client.post(path, headers=headers, json={"title": "x"})

        assert created.headers["Cache-Control"] == "private, no-cache"
        assert created.headers["Location"] == f"/v1{user.tasks_path}/{created.json()['id']}"
        again = await client.get(created.headers["Location"], headers=headers)
        assert again.json() == created.json()


@pytest.mark.requirement("T002", "T068", "T173")
@pytest.mark.parametrize(("root_path", "prefix"), [("/v1", "/v1"), ("/v1/", "/v1"), ("/", "")])
async def test_a_location_has_no_double_slash(tmp_path: Path, root_path: str, prefix: str) -> None:
    arguments = ("--root-path", root_path)
    async with (
        uvicorn_process(tmp_path, *arguments, BETTER_AUTH_SECRET=SECRET) as server,
        httpx.AsyncClient(base_url=await server.url()) as client,
    ):
        user = User(client, "me")
        location = (await user.post({"title": "x"})).headers["Location"]

        assert location == f"{prefix}/api/me/tasks/1"
        assert (await client.get("/")).headers["Location"] == f"{prefix}/docs"
        # The proxy takes its prefix off again.
        assert (await user.get(location.removeprefix(prefix))).status_code == 200


@pytest.mark.requirement("T066")
@pytest.mark.parametrize(("path", "allow"), ALLOWED)
async def test_a_wrong_method_is_told_the_allowed_ones(plain_service: Service, path: str, allow: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "BREW"} - set(allow.split(", ")):
        response = await plain_service.client.request(method, path)
        assert response.status_code == 405
        assert response.json() == {"detail": "Method Not Allowed"}
        assert response.headers["Allow"] == allow


@pytest.mark.requirement("T066")
@pytest.mark.parametrize(("path", "allow"), ALLOWED)
async def test_options_names_the_allowed_methods(plain_service: Service, path: str, allow: str) -> None:
    response = await plain_service.client.options(path)

    assert response.status_code == 204
    assert response.headers["Allow"] == allow
    assert response.content == b""


@pytest.mark.requirement("T067")
@pytest.mark.parametrize("path", ["", "/{id}", "/x", "/4611686018427387904", "?limit=0"])
async def test_head_is_get_without_the_body(alice: User, path: str) -> None:
    task = await alice.new_task()
    path = path.format(id=task["id"])

    head, get = [await alice.request(method, path) for method in ("HEAD", "GET")]

    assert head.status_code == get.status_code
    assert head.content == b""
    changing = {"x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in get.headers.items() if k not in changing
    }


@pytest.mark.requirement("T067")
async def test_head_is_refused_where_get_is(plain_service: Service) -> None:
    response = await plain_service.client.head("/api/somebody/tasks/1/complete")

    assert response.status_code == 405
    assert response.headers["Allow"] == "PATCH, OPTIONS"


@pytest.mark.requirement("T068")
async def test_a_trailing_slash_changes_nothing(alice: User) -> None:
    created = await alice.request("POST", "/", json={"title": "x"})
    task = created.json()
    path = f"/{task['id']}"

    assert created.status_code == 201
    assert created.headers["Location"] == f"{alice.tasks_path}{path}"
    assert (await alice.get("/")).json() == [task]
    assert (await alice.get("/?limit=1")).json() == [task]
    assert (await alice.get(path + "/")).json() == task
    assert (await alice.request("PUT", path + "/", json={})).json() == task
    assert (await alice.request("PATCH", path + "/complete/")).json()["completed"] is True
    assert (await alice.get(path + "//")).status_code == 404
    assert (await alice.request("DELETE", path + "/")).status_code == 204


@pytest.mark.requirement("T069")
async def test_a_preflight_of_an_allowed_origin_is_granted(plain_service: Service) -> None:
    response = await plain_service.client.options(
        "/api/somebody/tasks/1",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization,content-type,x-anything",
        },
    )

    assert response.status_code in {200, 204}
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PUT" in response.headers["Access-Control-Allow-Methods"].split(", ")
    assert "authorization" in response.headers["Access-Control-Allow-Headers"]
    assert response.headers["Allow"] == "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"
    assert response.headers["X-Request-ID"]


@pytest.mark.requirement("T069")
@pytest.mark.parametrize(("method", "allowed"), [("HEAD", True), ("GET", True), ("BREW", False)])
async def test_a_preflight_names_the_known_methods_alone(
    plain_service: Service,
    method: str,
    allowed: bool,  # noqa: FBT001 - a case
) -> None:
    response = await plain_service.client.options(
        "/health", headers={"Origin": ORIGIN, "Access-Control-Request-Method": method}
    )

    assert response.status_code in {200, 204}
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert (method in response.headers["Access-Control-Allow-Methods"].split(", ")) is allowed


@pytest.mark.requirement("T069")
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", ORIGIN + "/", ORIGIN + ".evil.example", "http://localhost"]
)
async def test_another_origin_is_not_allowed(plain_service: Service, origin: str) -> None:
    preflight = await plain_service.client.options(
        "/api/somebody/tasks", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    simple = await plain_service.client.get("/health", headers={"Origin": origin})

    assert preflight.status_code == 204
    assert preflight.headers["Allow"] == "GET, POST, DELETE, HEAD, OPTIONS"
    for response in (preflight, simple):
        assert "Access-Control-Allow-Origin" not in response.headers
        assert "Origin" in response.headers["Vary"]


@pytest.mark.requirement("T069")
async def test_the_allowed_origins_are_those_of_the_setting(start: StartService) -> None:
    origins = ["https://a.example", "https://b.example"]
    other = await start(allowed_origins=origins)
    for origin in origins:
        response = await other.client.get("/health", headers={"Origin": origin})
        assert response.headers["Access-Control-Allow-Origin"] == origin
    response = await other.client.get("/health", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in response.headers


def fail_in_every_way(service: Service) -> None:
    @service.app.get("/unforeseen")
    async def unforeseen() -> None:
        raise ValueError("secret detail")

    @service.app.get("/gone")
    async def gone() -> None:
        raise ClientDisconnect


@pytest.mark.requirement("T069", "T070", "T071")
async def test_every_answer_has_the_headers(database_url: str, start: StartService) -> None:
    service = await start(database_url=database_url)
    fail_in_every_way(service)
    user = service.user()
    task = await user.new_task()
    json, origin = {"Content-Type": "application/json"}, {"Origin": ORIGIN}
    requests = [
        ("GET", "", 200, {}),
        ("POST", "", 422, json),
        ("POST", "", 415, {}),
        ("POST", "", 413, json | {"Content-Length": "70000"}),
        ("PUT", "", 405, {}),
        ("OPTIONS", "", 204, {}),
        ("OPTIONS", "", 200, {"Access-Control-Request-Method": "POST"}),
        ("GET", "/x", 422, {}),
        ("GET", "/999999", 404, {}),
        ("GET", "", 401, {"Authorization": ""}),
        ("GET", "/api/somebody/tasks", 403, {}),
        ("DELETE", f"/{task['id']}", 204, {}),
    ]
    for method, path, status, headers in requests:
        response = await user.request(method, path, headers=origin | headers)
        assert response.status_code == status
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert len(response.headers["X-Request-ID"]) == 32
        if "Access-Control-Request-Method" not in headers:
            assert response.headers["Access-Control-Expose-Headers"] == EXPOSED

    for path, status in [("/health", 200), ("/unforeseen", 500), ("/nothing", 404)]:
        response = await service.client.get(path, headers=origin)
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert len(response.headers["X-Request-ID"]) == 32
        assert "Cache-Control" not in response.headers


@pytest.mark.requirement("T072")
async def test_an_unforeseen_error_is_500_and_logged(caplog: pytest.LogCaptureFixture, start: StartService) -> None:
    service = await start()
    fail_in_every_way(service)

    response = await service.client.get("/unforeseen", headers={"X-Request-ID": "find-me"})

    assert response.status_code == 500
    assert response.json() == {"detail": "Internal server error"}
    assert response.headers["X-Request-ID"] == "find-me"
    record, line = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.getMessage().startswith("GET /unforeseen 500 ")
    assert record.exc_info is not None
    assert "secret detail" in caplog.text


@pytest.mark.requirement("T072")
async def test_a_lost_client_is_not_logged_as_an_error(caplog: pytest.LogCaptureFixture, start: StartService) -> None:
    service = await start()
    fail_in_every_way(service)

    assert (await service.client.get("/gone")).status_code == 400

    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.requirement("T072")
async def test_a_failure_in_mid_answer_is_left_to_the_server(start: StartService) -> None:
    async def broken_off() -> AsyncIterator[str]:
        yield "half"
        raise ZeroDivisionError

    service = await start()
    service.app.add_route("/half", lambda _: StreamingResponse(broken_off()))

    with pytest.raises(ZeroDivisionError):
        await service.client.get("/half")
