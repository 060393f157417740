"""The paths without a user's id, which serve the token's own user, on both databases."""
# [Task]: T144 [From]: specs/features/task-crud.md

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from main import create_app
from tests.service import Service, User, bearer, make_settings, make_token

OWN = "/api/tasks"


@pytest.mark.requirement("T144")
async def test_each_endpoint_has_an_own_path(alice: User) -> None:
    created = await alice.request("POST", OWN, json={"title": "a"})
    task = created.json()
    path = f"{OWN}/{task['id']}"

    assert created.status_code == 201
    assert task["user_id"] == alice.id
    assert created.headers["Location"] == path
    assert created.headers["ETag"] == f'"{task["updated_at"]}"'
    assert (await alice.get(path)).json() == (await alice.get(f"/{task['id']}")).json() == task

    for method, rest, content, change in (
        ("PUT", "", {"title": "b"}, {"title": "b"}),
        ("PATCH", "", {"description": "c"}, {"description": "c"}),
        ("PATCH", "/complete", {"completed": True}, {"completed": True}),
        ("PATCH", "/complete", {}, {"completed": False}),
    ):
        response = await alice.request(method, path + rest, json=content)
        assert response.status_code == 200
        task |= change | {"updated_at": response.json()["updated_at"]}
        assert response.json() == (await alice.get(f"/{task['id']}")).json() == task

    assert (await alice.request("DELETE", path)).status_code == 204
    assert (await alice.get(path)).status_code == 404


@pytest.mark.requirement("T144")
async def test_bulk_has_an_own_path(alice: User, bob: User) -> None:
    his = await bob.new_task()
    made = await alice.request("POST", f"{OWN}/bulk", json={"tasks": [{"title": "a"}, {"title": "b"}]})
    ids = [task["id"] for task in made.json()]

    assert made.status_code == 201
    assert (await alice.get()).json() == made.json()
    done = await alice.request("PATCH", f"{OWN}/bulk", json={"ids": [*ids, his["id"]], "completed": True})
    assert [(task["id"], task["completed"]) for task in done.json()] == [(task_id, True) for task_id in ids]
    named = await alice.request("DELETE", f"{OWN}?ids={ids[0]},{his['id']}")
    assert named.json() == {"ids": ids[:1]}
    cleared = await alice.request("DELETE", f"{OWN}?status=all")
    assert cleared.json() == {"ids": ids[1:]}
    assert (await bob.get()).json() == [his]


@pytest.mark.requirement("T144")
@pytest.mark.parametrize(
    "query", ["", "?limit=1", "?limit=2&offset=1&count=true", "?sort=title&order=desc&search=t", "?status=completed"]
)
async def test_both_paths_have_the_same_list(alice: User, bob: User, query: str) -> None:
    await bob.new_task()
    for number in range(4):
        task = await alice.new_task(f"Task {number}")
    await alice.toggle(task["id"])

    long, short = await alice.get(query), await alice.get(OWN + query)

    assert short.status_code == 200
    assert short.content == long.content
    for name in ("ETag", "X-Total-Count", "Cache-Control"):
        assert short.headers.get(name) == long.headers.get(name)
    unchanged = await alice.get(OWN + query, headers={"If-None-Match": long.headers["ETag"]})
    assert unchanged.status_code == 304


@pytest.mark.requirement("T132", "T144")
async def test_links_lead_on_at_the_own_path(alice: User) -> None:
    tasks = [await alice.new_task(str(number)) for number in range(5)]
    reference: str | None = f"{OWN}?limit=2&sort=title"
    seen: list[dict[str, Any]] = []
    while reference:
        response = await alice.get(reference)
        seen += response.json()
        link = response.headers.get("Link")
        reference = link and link.partition("<")[2].partition(">")[0]
        if reference:
            parts = urlsplit(reference)
            assert (parts.scheme, parts.netloc, parts.path) == ("", "", OWN)
            assert {"limit": "2", "sort": "title"}.items() <= dict(parse_qsl(parts.query)).items()

    assert seen == tasks


@pytest.mark.requirement("T144")
async def test_a_trailing_slash_changes_nothing_at_the_own_path(alice: User) -> None:
    created = await alice.request("POST", f"{OWN}/", json={"title": "a"})
    task = created.json()

    assert created.status_code == 201
    assert created.headers["Location"] == f"{OWN}/{task['id']}"
    assert (await alice.get(f"{OWN}/?limit=1")).json() == [task]
    assert (await alice.get(f"{OWN}/{task['id']}/")).json() == task
    assert (await alice.request("PATCH", f"{OWN}/{task['id']}/complete/")).json()["completed"] is True
    assert (await alice.request("DELETE", f"{OWN}/?completed=true")).json() == {"ids": [task["id"]]}


@pytest.mark.requirement("T144")
async def test_a_proxys_prefix_is_kept_at_the_own_path(service: Service, alice: User) -> None:
    await alice.new_task()
    transport = httpx.ASGITransport(service.app, root_path="/v1")
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        headers = bearer(make_token(alice.id))
        created = await client.post(f"/v1{OWN}/", headers=headers, json={"title": "x"})
        listed = await client.get(f"/v1{OWN}?limit=1", headers=headers)

        assert created.headers["Location"] == f"/v1{OWN}/{created.json()['id']}"
        assert listed.headers["Link"].startswith(f"</v1{OWN}?")
        assert (await client.get(created.headers["Location"], headers=headers)).json() == created.json()


@pytest.mark.requirement("T144")
async def test_a_key_is_the_same_at_both_paths(alice: User) -> None:
    headers = {"Idempotency-Key": "1"}
    first = await alice.post({"title": "x"}, headers=headers)
    again = await alice.request("POST", OWN, json={"title": "x"}, headers=headers)
    many = {"tasks": [{"title": "x"}]}
    long = await alice.request("POST", "/bulk", json=many, headers=headers)
    short = await alice.request("POST", f"{OWN}/bulk", json=many, headers=headers)

    assert again.json() == first.json()
    assert short.json() == long.json()
    for response in (again, short):
        assert response.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"{OWN}/{first.json()['id']}"


@pytest.mark.requirement("T144")
async def test_conditions_hold_at_the_own_path(alice: User) -> None:
    task = await alice.new_task()
    path, tag = f"{OWN}/{task['id']}", f'"{task["updated_at"]}"'

    assert (await alice.get(path, headers={"If-None-Match": tag})).status_code == 304
    done = await alice.request("PUT", path, json={"title": "b"}, headers={"If-Match": tag})
    assert done.status_code == 200
    for method, content in (("PUT", {"title": "c"}), ("PATCH", {"title": "c"}), ("DELETE", None)):
        body = {} if content is None else {"json": content}
        refused = await alice.request(method, path, headers={"If-Match": tag}, **body)
        assert (refused.status_code, refused.headers["ETag"]) == (412, done.headers["ETag"])


@pytest.mark.requirement("T135", "T144")
async def test_a_tag_at_the_own_path_is_one_users(alice: User, bob: User, service: Service) -> None:
    # A browser keeps one answer for a path, and sends its tag whoever is signed in by now.
    newcomers = [service.user() for _ in range(2)]
    await alice.new_task()
    await bob.new_task()

    for users in ((alice, bob), newcomers):
        answers = [await user.get(OWN) for user in users]
        tags = [answer.headers["ETag"] for answer in answers]
        assert tags[0] != tags[1]
        for user, answer, tag in zip(users, answers, tags[::-1], strict=True):
            again = await user.get(OWN, headers={"If-None-Match": tag})
            assert (again.status_code, again.json()) == (200, answer.json())


@pytest.mark.requirement("T144")
@pytest.mark.parametrize(
    ("method", "rest", "content"),
    [
        ("GET", "/{id}", None),
        ("PUT", "/{id}", {"title": "Mine now"}),
        ("PATCH", "/{id}", {"title": "Mine now"}),
        ("DELETE", "/{id}", None),
        ("PATCH", "/{id}/complete", {"completed": True}),
        ("PATCH", "/{id}/complete", None),
    ],
)
async def test_another_users_task_is_not_at_the_own_path(
    alice: User, bob: User, method: str, rest: str, content: Any
) -> None:
    task = await alice.new_task()
    body = {} if content is None else {"json": content}

    response = await bob.request(method, OWN + rest.format(id=task["id"]), **body)

    assert (response.status_code, response.json()) == (404, {"detail": "Task not found"})
    assert (await alice.get(f"/{task['id']}")).json() == task


PATHS = [
    ("GET", ""),
    ("HEAD", ""),
    ("POST", ""),
    ("DELETE", "?status=all"),
    ("POST", "/bulk"),
    ("PATCH", "/bulk"),
    ("GET", "/1"),
    ("PUT", "/1"),
    ("PATCH", "/1"),
    ("DELETE", "/1"),
    ("PATCH", "/1/complete"),
]


@pytest.mark.requirement("T144")
@pytest.mark.parametrize(("method", "rest"), PATHS)
async def test_the_own_path_wants_a_token(plain_service: Service, method: str, rest: str) -> None:
    for headers in ({}, {"Authorization": "Basic eA=="}):
        response = await plain_service.client.request(method, OWN + rest, headers=headers, content=b"{")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.headers["Cache-Control"] == "private, no-cache"
    for token in ("x", make_token("x", exp=1), make_token("x", key="y" * 32), make_token("")):
        response = await plain_service.client.request(method, OWN + rest, headers=bearer(token), content=b"{")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.requirement("T144")
@pytest.mark.parametrize(
    ("method", "rest", "status"),
    [
        ("GET", "?limit=0", 422),
        ("GET", "?colour=red", 422),
        ("DELETE", "", 422),
        ("GET", "/0", 422),
        ("GET", "/x", 422),
        ("GET", "/+1", 422),
        ("GET", f"/{2**63}", 422),
        ("GET", f"/{2**63 - 1}", 404),
        ("GET", "/1/complete", 405),
        ("PUT", "", 405),
        ("PATCH", "", 405),
        ("POST", "/1", 405),
        ("GET", "/bulk", 405),
        ("PUT", "/bulk", 405),
        ("DELETE", "/bulk", 405),
        ("PATCH", "/bulk/complete", 422),
        ("GET", "/1/unknown", 404),
        ("GET", "/1/complete/more", 404),
        ("GET", "/bulk/more", 404),
        ("POST", "/bulk", 415),
        ("PUT", "/1", 415),
    ],
)
async def test_both_paths_refuse_alike(plain_service: Service, method: str, rest: str, status: int) -> None:
    user = plain_service.user()

    long = await user.request(method, user.tasks_path + rest)
    short = await user.request(method, OWN + rest)

    assert short.status_code == long.status_code == status
    assert short.json() == long.json()
    assert short.headers.get("Allow") == long.headers.get("Allow")
    assert short.headers["Cache-Control"] == long.headers["Cache-Control"]


@pytest.mark.requirement("T144")
@pytest.mark.parametrize("rest", ["", "/", "/1", "/bulk", "/1/complete"])
async def test_options_are_those_of_the_long_path(plain_service: Service, rest: str) -> None:
    long = await plain_service.client.options(f"/api/somebody/tasks{rest}")
    short = await plain_service.client.options(OWN + rest)

    assert short.status_code == long.status_code
    assert short.headers["Allow"] == long.headers["Allow"]
    unknown = await plain_service.client.request("BREW", OWN + rest)
    assert (unknown.status_code, unknown.headers["Allow"]) == (405, long.headers["Allow"])


# Paths that can be read both ways


@pytest.mark.requirement("T144")
async def test_a_user_may_be_called_tasks(service: Service, alice: User) -> None:
    user = service.user("tasks")
    await user.request("DELETE", "?status=all")
    mine = await alice.new_task()

    created = await user.request("POST", "/api/tasks/tasks", json={"title": "a"})
    task = created.json()
    assert created.headers["Location"] == f"/api/tasks/tasks/{task['id']}"
    for path in ("/api/tasks/tasks", "/api/tasks", "/api/tasks/tasks/", "/api/tasks/"):
        assert (await user.get(path)).json() == [task]
    for path in (f"/api/tasks/tasks/{task['id']}", f"/api/tasks/{task['id']}"):
        assert (await user.get(path)).json() == task
        assert (await user.request("PATCH", f"{path}/complete")).json()["title"] == "a"
        task = (await user.get(path)).json()
    # The first form counts: this is the user's list, not a task of whoever asks.
    for method in ("GET", "HEAD", "POST", "DELETE"):
        response = await alice.request(method, "/api/tasks/tasks", content=b"{")
        assert response.status_code == 403
    for rest in (f"/{task['id']}", f"/{mine['id']}"):
        assert (await alice.get(f"/api/tasks/tasks{rest}")).status_code == 403
    assert (await alice.request("POST", "/api/tasks/tasks/bulk", json={"tasks": [{"title": "x"}]})).status_code == 403
    many = await user.request("POST", "/api/tasks/tasks/bulk", json={"tasks": [{"title": "x"}]})
    assert many.status_code == 201
    assert [deleted["id"] for deleted in (await user.get()).json()] == [task["id"], many.json()[0]["id"]]
    await user.request("DELETE", "/api/tasks/tasks?status=all")
    assert (await alice.get()).json() == [mine]


@pytest.mark.requirement("T144")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "BREW"])
@pytest.mark.parametrize("path", ["/api/tasks/tasks", "/api/tasks/tasks/"])
async def test_the_list_of_a_user_called_tasks_is_no_task(plain_service: Service, method: str, path: str) -> None:
    for user in (plain_service.user(), plain_service.user("tasks")):
        response = await user.request(method, path, json={"title": "x"})
        assert response.status_code == 405
        assert set(response.headers["Allow"].split(", ")) == {"GET", "POST", "DELETE", "HEAD", "OPTIONS"}


@pytest.mark.requirement("T144")
@pytest.mark.parametrize("name", ["bulk", "events", "complete", "1", "api", "tasks ", "health"])
async def test_the_first_form_counts_for_any_user(service: Service, alice: User, name: str) -> None:
    user = service.user(name)
    await user.request("DELETE", "?status=all")
    path = f"/api/{name.replace(' ', '%20')}/tasks"
    task = (await user.request("POST", path, json={"title": "a"})).json()

    assert task["user_id"] == name
    assert (await user.get(path)).json() == (await user.get(OWN)).json() == [task]
    assert (await user.get(f"{path}/{task['id']}")).json() == task
    assert (await alice.get(path)).status_code == 403
    assert (await alice.get(f"{path}/{task['id']}")).status_code == 403
    assert (await alice.get(OWN)).json() == []


@pytest.mark.requirement("T144")
@pytest.mark.parametrize("path", ["/api/tasks/tasks/complete", "/api/tasks/tasks/bulk", "/api/tasks/tasks/tasks"])
async def test_what_follows_a_user_called_tasks_is_theirs(plain_service: Service, path: str) -> None:
    assert (await plain_service.user().request("PATCH", path, json={})).status_code == 403
    assert (await plain_service.user("tasks").request("PATCH", path, json={})).status_code == 422


@pytest.mark.requirement("T144")
@pytest.mark.parametrize("name", ["a/b", "/", "..", ".", "a?b#c", "%2F", "ü😀", "tasks/1", "../tasks", "a b\n"])
async def test_a_user_of_any_name_has_an_own_path(service: Service, name: str) -> None:
    client, headers = service.client, bearer(make_token(name))
    await client.delete(f"{OWN}?status=all", headers=headers)
    made = [await client.post(OWN, json={"title": title}, headers=headers) for title in "ab"]

    assert [response.status_code for response in made] == [201, 201]
    assert [response.json()["user_id"] for response in made] == [name, name]
    first = await client.get(f"{OWN}?limit=1", headers=headers)
    assert first.json() == [made[0].json()]
    reference = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert (await client.get(reference, headers=headers)).json() == [made[1].json()]
    found = await client.get(made[0].headers["Location"], headers=headers)
    assert found.json() == made[0].json()


@pytest.mark.requirement("T144")
@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api//tasks", "/tasks", "/api/task", "/api/tasksx", "/api/a/b/tasks", "/api/Tasks", "/api/x"],
)
async def test_no_other_path_is_ones_own(plain_service: Service, path: str) -> None:
    response = await plain_service.client.get(path, headers=bearer(make_token("somebody")))

    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


@pytest.mark.requirement("T144")
def test_the_document_has_the_first_form_alone() -> None:
    paths = create_app(make_settings()).openapi()["paths"]

    assert [path for path in paths if path.startswith("/api/") and not path.startswith("/api/{user_id}/tasks")] == []
    assert {path.removeprefix("/api/{user_id}/tasks") for path in paths if "{user_id}" in path} >= {
        "",
        "/bulk",
        "/{task_id}",
        "/{task_id}/complete",
    }
