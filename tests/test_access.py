"""The authorization matrix, over every route of the application."""
# [Task]: T020, T021, T028, T144 [From]: specs/features/authentication.md, specs/features/task-crud.md

import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Annotated, Any

import pytest
from fastapi import Header, HTTPException
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import event

import statements
from auth.access import UserDatabase, verify_user_access
from auth.tokens import TokenVerifier, VerifiedToken
from main import create_app
from routes import events, tasks
from routes.docs import FILES
from tests.leaks import SECRET
from tests.service import Service, User, bearer, make_settings, make_token

PUBLIC = {"/health", "/ready", "/openapi.json", "/", "/docs", *(f"/docs/{name}" for name in FILES)}
# A query and a body that every route takes: the others pass over what one of them needs.
QUERY = {"status": "all"}
BODY = {"title": "x", "completed": True, "tasks": [{"title": "x"}], "ids": [1]}
INVALID = 'Bearer error="invalid_token", error_description="The token is invalid"'
EXPIRED = 'Bearer error="invalid_token", error_description="The token has expired"'


def guarded_routes() -> list[tuple[str, str]]:
    """Every method and path but the public ones, as they are declared: with the user in the path."""
    routes = iter_route_contexts(create_app(make_settings()).routes)
    return sorted(
        (method, route.path)
        for route in routes
        if route.path is not None and route.path not in PUBLIC
        for method in route.methods or ()
    )


LONG_ROUTES = guarded_routes()
SHORT_ROUTES = [(method, path.replace("/{user_id}", "")) for method, path in LONG_ROUTES]

every_guarded_route = pytest.mark.parametrize(("method", "path"), [*LONG_ROUTES, *SHORT_ROUTES])


async def never_sent() -> AsyncIterator[bytes]:
    pytest.fail("the body was read")
    yield b""


async def ask(service: Service, method: str, path: str, user_id: str, **kwargs: Any) -> Any:
    url = path.format(user_id=user_id, task_id=1)
    return await service.client.request(method, url, params=QUERY, json=BODY, **kwargs)


@pytest.mark.requirement("T020")
def test_the_matrix_has_all_eleven_task_routes() -> None:
    assert LONG_ROUTES == [
        ("DELETE", "/api/{user_id}/tasks"),
        ("DELETE", "/api/{user_id}/tasks/{task_id}"),
        ("GET", "/api/{user_id}/tasks"),
        ("GET", "/api/{user_id}/tasks/events"),
        ("GET", "/api/{user_id}/tasks/{task_id}"),
        ("PATCH", "/api/{user_id}/tasks/bulk"),
        ("PATCH", "/api/{user_id}/tasks/{task_id}"),
        ("PATCH", "/api/{user_id}/tasks/{task_id}/complete"),
        ("POST", "/api/{user_id}/tasks"),
        ("POST", "/api/{user_id}/tasks/bulk"),
        ("PUT", "/api/{user_id}/tasks/{task_id}"),
    ]


@pytest.mark.requirement("T020")
def test_each_route_declares_verify_user_access() -> None:
    for route in (*tasks.router.routes, *events.router.routes):
        assert isinstance(route, APIRoute)
        assert verify_user_access in {depends.call for depends in route.dependant.dependencies}


@every_guarded_route
@pytest.mark.requirement("T020", "T028")
@pytest.mark.parametrize("authorization", [None, "", "Basic dTpw", "Token x", "bearertoken", "x"])
async def test_a_missing_token_is_401(
    plain_service: Service, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    response = await ask(plain_service, method, path, "somebody", headers=headers)

    assert response.status_code == 401
    assert response.json() == {"detail": "Not authenticated"}
    assert response.headers["WWW-Authenticate"] == "Bearer"


@every_guarded_route
@pytest.mark.requirement("T020", "T028")
async def test_an_invalid_token_is_401(plain_service: Service, method: str, path: str) -> None:
    headers = bearer(make_token("somebody", key=SECRET[::-1]))

    response = await ask(plain_service, method, path, "somebody", headers=headers)

    assert response.status_code == 401
    assert response.json() == {"detail": "Invalid token"}
    assert response.headers["WWW-Authenticate"] == INVALID


@every_guarded_route
@pytest.mark.requirement("T020", "T028")
async def test_an_expired_token_is_401(plain_service: Service, method: str, path: str) -> None:
    headers = bearer(make_token("somebody", exp=time.time() - 60))

    response = await ask(plain_service, method, path, "somebody", headers=headers)

    assert response.status_code == 401
    assert response.json() == {"detail": "Token has expired"}
    assert response.headers["WWW-Authenticate"] == EXPIRED


@pytest.mark.parametrize(("method", "path"), LONG_ROUTES)
@pytest.mark.requirement("T020")
async def test_another_users_token_is_403_without_sql(plain_service: Service, method: str, path: str) -> None:
    checkouts = 0

    def count(*_: object) -> None:
        nonlocal checkouts
        checkouts += 1

    pool = plain_service.app.state.database.engine.sync_engine.pool
    event.listen(pool, "checkout", count)
    try:
        headers = bearer(make_token("mallory"))
        response = await ask(plain_service, method, path, "somebody", headers=headers)
    finally:
        event.remove(pool, "checkout", count)

    assert response.status_code == 403
    assert response.json() == {"detail": "Cannot access another user's tasks"}
    assert checkouts == 0


@every_guarded_route
@pytest.mark.requirement("T020")
async def test_the_users_own_token_is_accepted(service: Service, method: str, path: str) -> None:
    headers = bearer(make_token("somebody", exp=time.time()))

    response = await ask(service, method, path, "somebody", headers=headers)

    assert response.status_code in {200, 201, 204, 404}


@pytest.mark.parametrize(("method", "path"), SHORT_ROUTES)
@pytest.mark.requirement("T020", "T144")
async def test_a_path_without_a_user_is_the_tokens_own(alice: User, bob: User, method: str, path: str) -> None:
    his = await bob.new_task("His")
    body = BODY | {"ids": [his["id"]]}

    headers = bearer(make_token(alice.id, exp=time.time()))
    response = await alice.request(method, path.format(task_id=his["id"]), params=QUERY, json=body, headers=headers)

    assert response.status_code in ({404} if "{task_id}" in path else {200, 201})
    assert bob.id not in response.text
    assert (await bob.get()).json() == [his]


@pytest.mark.requirement("T021")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/somebody/tasks"),
        ("PUT", "/api/somebody/tasks/0?limit=x"),
        ("PATCH", "/api/somebody/tasks/0/complete"),
        ("POST", "/api/somebody/tasks/bulk"),
        ("PATCH", "/api/somebody/tasks/bulk"),
        ("DELETE", "/api/somebody/tasks?status=x"),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
@pytest.mark.parametrize(("subject", "status"), [(None, 401), ("mallory", 403)], ids=["no-token", "another-user"])
async def test_the_token_is_judged_before_anything_else(
    plain_service: Service, method: str, path: str, content_type: str | None, subject: str | None, status: int
) -> None:
    headers = {"Content-Length": "10000000", "If-Match": "?", "Idempotency-Key": " "}
    if content_type is not None:
        headers["Content-Type"] = content_type
    if subject is not None:
        headers |= bearer(make_token(subject))

    response = await plain_service.client.request(method, path, content=never_sent(), headers=headers)

    assert response.status_code == status


@every_guarded_route
@pytest.mark.requirement("T020")
async def test_the_token_is_verified_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    verifier = service.app.state.token_verifier
    verified = []

    async def verify(token: str) -> VerifiedToken:
        verified.append(token)
        return await TokenVerifier.verify(verifier, token)

    monkeypatch.setattr(verifier, "verify", verify)
    headers = bearer(make_token("somebody", exp=time.time()))
    await ask(service, method, path, "somebody", headers=headers)

    assert len(verified) == 1


@pytest.mark.requirement("T020")
async def test_two_users_see_only_their_own(alice: User, bob: User) -> None:
    hers, his = await alice.new_task("Hers"), await bob.new_task("His")

    assert (await alice.get()).json() == [hers]
    assert (await bob.get()).json() == [his]
    response = await bob.get(f"{alice.tasks_path}/{hers['id']}")
    assert response.status_code == 403


@pytest.mark.requirement("T020")
@pytest.mark.parametrize(
    "user_id", ["x", "9f8e7d6c-5b4a-4c3d-9e8f-7a6b5c4d3e2f", "42", "auth0|a b", "zoë", "x" * 255, "a.b-c_d~e"]
)
async def test_user_ids_of_every_kind_are_served(service: Service, user_id: str) -> None:
    user = service.user(user_id)

    task = await user.new_task()

    assert task["user_id"] == user_id
    assert (await user.get(f"/{task['id']}")).json() == task


@pytest.mark.requirement("T014")
async def test_no_statement_runs_for_another_owner(service: Service, alice: User, bob: User) -> None:
    hers = await alice.new_task()
    his = UserDatabase(bob.id, service.app.state.database)

    assert await his.one(statements.GET_TASK, task_id=hers["id"], owner=alice.id) is None
    async with his.transaction() as transaction:
        assert await transaction.one(statements.DELETE_TASK, task_id=hers["id"], owner=alice.id) is None
    assert (await alice.get()).json() == [hers]


@pytest.mark.requirement("T014", "T050")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_transaction_is_all_or_nothing(service: Service, alice: User, *, fails: bool) -> None:
    tasks = [await alice.new_task() for _ in range(2)]
    hers = UserDatabase(alice.id, service.app.state.database)

    with nullcontext() if not fails else pytest.raises(LookupError):
        async with hers.transaction() as transaction:
            for task in tasks:
                assert await transaction.one(statements.DELETE_TASK, task_id=task["id"])
            if fails:
                raise LookupError

    assert (await alice.get()).json() == (tasks if fails else [])


@pytest.mark.requirement("T020")
async def test_an_override_of_the_access_holds_on_every_route(plain_service: Service) -> None:
    def nobody() -> None:
        raise HTTPException(418)

    plain_service.app.dependency_overrides[verify_user_access] = nobody
    try:
        for method, path in [*LONG_ROUTES, *SHORT_ROUTES]:
            answer = await ask(plain_service, method, path, "somebody")
            assert answer.status_code == 418, (method, path)
    finally:
        plain_service.app.dependency_overrides.clear()


@pytest.mark.requirement("T020")
async def test_an_override_may_let_a_user_in(service: Service) -> None:
    def user(user_id: str, content_type: Annotated[str | None, Header()] = None) -> UserDatabase:
        seen.append(content_type)
        return UserDatabase(user_id, service.app.state.database)

    seen: list[str | None] = []

    service.app.dependency_overrides[verify_user_access] = user
    try:
        made = await service.client.post("/api/overridden/tasks", json={"title": "x"})
        listed = await service.client.get("/api/overridden/tasks")
    finally:
        service.app.dependency_overrides.clear()

    assert made.status_code == 201
    assert listed.json() == [made.json()]
    assert seen == ["application/json", None]
