"""The endpoints of single tasks, and the plain list, on both databases."""
# [Task]: T001, T002, T003, T004, T005, T006, T007, T013, T138, T139 [From]: specs/features/task-crud.md

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.service import Service, User

RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
NO_SUCH_TASK = {"detail": "Task not found"}

# PATCH on a task is another name of PUT.
EITHER_NAME = pytest.mark.parametrize("method", ["PUT", "PATCH"])


@pytest.mark.requirement("T002", "T007")
async def test_a_new_task_is_answered_whole(alice: User) -> None:
    response = await alice.post({"title": "Buy milk", "description": "Two litres"})

    assert response.status_code == 201
    task = response.json()
    assert list(task) == [*("id", "user_id", "title", "description"), *("completed", "created_at", "updated_at")]
    assert isinstance(task["id"], int)
    assert task["user_id"] == alice.id
    assert task["title"] == "Buy milk"
    assert task["description"] == "Two litres"
    assert task["completed"] is False
    assert task["created_at"] == task["updated_at"]
    assert RFC_3339_UTC.fullmatch(task["created_at"])
    age = datetime.now(UTC) - datetime.fromisoformat(task["created_at"])
    assert timedelta(0) <= age < timedelta(minutes=1)


@pytest.mark.requirement("T002", "T003")
async def test_location_names_the_new_task(alice: User) -> None:
    response = await alice.post({"title": "Find me"})

    assert response.headers["Location"] == f"{alice.tasks_path}/{response.json()['id']}"
    assert (await alice.get(response.headers["Location"])).json() == response.json()


@pytest.mark.requirement("T002")
async def test_location_is_encoded(service: Service) -> None:
    user = service.user("zoë ü/x".replace("/", "|"))
    response = await user.post({"title": "Find me"})

    assert response.status_code == 201
    assert response.headers["Location"].startswith("/api/zo%C3%AB%20%C3%BC%7Cx/tasks/")
    assert (await user.get(response.headers["Location"])).status_code == 200


@pytest.mark.requirement("T003", "T009")
async def test_a_task_without_description_has_null(alice: User) -> None:
    task = await alice.new_task("No more to say")

    assert (await alice.get(f"/{task['id']}")).json() == task
    assert task["description"] is None


@pytest.mark.requirement("T001")
async def test_the_list_is_a_bare_array_by_id(alice: User) -> None:
    assert (await alice.get()).json() == []

    tasks = [await alice.new_task(f"Task {number}") for number in range(3)]
    await alice.put(tasks[0]["id"], {"title": "Changed last"})

    response = await alice.get()
    assert response.status_code == 200
    assert [task["id"] for task in response.json()] == [task["id"] for task in tasks]


@pytest.mark.requirement("T001")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?limit=2", [0, 1]),
        ("?limit=2&offset=1", [1, 2]),
        ("?limit=2&skip=1", [1, 2]),
        ("?offset=4", [4]),
        ("?offset=5", []),
        (f"?offset={2**63 - 1}", []),
        ("?completed=true", [1, 3]),
        ("?completed=false", [0, 2, 4]),
        ("?completed=false&limit=1&offset=1", [2]),
    ],
)
async def test_the_list_is_filtered_and_paged(alice: User, query: str, expected: list[int]) -> None:
    ids = [(await alice.new_task(f"Task {number}"))["id"] for number in range(5)]
    for number in (1, 3):
        await alice.toggle(ids[number])

    response = await alice.get(query)

    assert [ids.index(task["id"]) for task in response.json()] == expected


@pytest.mark.requirement("T001")
async def test_the_list_has_a_hundred_tasks_unless_told(alice: User) -> None:
    for _ in range(101):
        await alice.new_task()

    assert len((await alice.get()).json()) == 100
    assert len((await alice.get("?limit=1000")).json()) == 101


@pytest.mark.requirement("T004", "T139")
@EITHER_NAME
@pytest.mark.parametrize(
    "change",
    [
        {"title": "New"},
        {"description": "New"},
        {"description": None},
        {"description": ""},
        {"completed": True},
        {"title": "New", "description": None, "completed": True},
    ],
)
async def test_an_update_changes_what_is_sent_and_nothing_else(
    alice: User, method: str, change: dict[str, Any]
) -> None:
    task = await alice.new_task("Old", description="Old")

    response = await alice.request(method, f"/{task['id']}", json=change)

    assert response.status_code == 200
    changed = response.json()
    assert changed == task | change | {"updated_at": changed["updated_at"]}
    assert changed["updated_at"] > task["updated_at"]
    assert (await alice.get(f"/{task['id']}")).json() == changed


@pytest.mark.requirement("T004", "T139")
@EITHER_NAME
@pytest.mark.parametrize("content", [{}, {"unknown": 1}])
async def test_an_empty_update_changes_nothing(alice: User, method: str, content: dict[str, Any]) -> None:
    task = await alice.new_task()

    response = await alice.request(method, f"/{task['id']}", json=content)

    assert response.status_code == 200
    assert response.json() == task


@pytest.mark.requirement("T004", "T139")
@EITHER_NAME
@pytest.mark.parametrize("field", ["title", "completed"])
async def test_only_the_description_can_be_null(alice: User, method: str, field: str) -> None:
    task = await alice.new_task()

    response = await alice.request(method, f"/{task['id']}", json={field: None, "description": "Not stored"})

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][:2] == ["body", field]
    assert (await alice.get(f"/{task['id']}")).json() == task


@pytest.mark.requirement("T004", "T010", "T139")
@EITHER_NAME
async def test_a_frontend_may_send_the_whole_task_back(alice: User, method: str) -> None:
    task = await alice.new_task()
    forged = {"id": task["id"] + 1, "user_id": "mallory", "created_at": "1999-01-01T00:00:00Z"}

    response = await alice.request(method, f"/{task['id']}", json=task | forged | {"completed": True, "extra": [1]})

    changed = response.json()
    assert changed == task | {"completed": True, "updated_at": changed["updated_at"]}


@pytest.mark.requirement("T010")
async def test_creation_ignores_what_the_server_sets(alice: User, bob: User) -> None:
    task = await alice.new_task(id=1, user_id=bob.id, created_at="1999-01-01T00:00:00Z")

    assert task["user_id"] == alice.id
    assert not task["created_at"].startswith("1999")


@pytest.mark.requirement("T139")
@pytest.mark.parametrize("completed", [True, False])
async def test_a_task_may_be_completed_from_the_start(alice: User, completed: bool) -> None:  # noqa: FBT001 - a case
    task = await alice.new_task("Done already", completed=completed)

    assert task["completed"] is completed
    assert task["created_at"] == task["updated_at"]
    assert (await alice.get(f"/{task['id']}")).json() == task
    assert (await alice.toggle(task["id"])).json()["completed"] is not completed


NO_BOOLEANS: list[Any] = [None, 0, 1, "", "true", "false", "yes", [], [True], {}, 1.0]


@pytest.mark.requirement("T138", "T139")
@pytest.mark.parametrize("value", NO_BOOLEANS)
async def test_completed_is_a_boolean_and_nothing_else(alice: User, value: Any) -> None:
    task = await alice.new_task()
    path = f"/{task['id']}"

    for response in (
        await alice.post({"title": "x", "completed": value}),
        await alice.put(task["id"], {"completed": value}),
        await alice.request("PATCH", path, json={"title": "x", "completed": value}),
        await alice.toggle(task["id"], json={"completed": value}),
    ):
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"][:2] == ["body", "completed"]
    assert (await alice.get()).json() == [task]


@pytest.mark.requirement("T005")
async def test_a_deleted_task_is_gone(alice: User) -> None:
    task = await alice.new_task()

    response = await alice.delete(task["id"])

    assert response.status_code == 204
    assert response.content == b""
    assert "Content-Type" not in response.headers
    assert (await alice.get(f"/{task['id']}")).json() == NO_SUCH_TASK
    assert (await alice.delete(task["id"])).status_code == 404


@pytest.mark.requirement("T005")
async def test_an_id_is_never_given_twice(alice: User) -> None:
    first = await alice.new_task()
    await alice.delete(first["id"])

    assert (await alice.new_task())["id"] > first["id"]


@pytest.mark.requirement("T006")
async def test_toggling_flips_completed(alice: User) -> None:
    task = await alice.new_task()

    first, second = [(await alice.toggle(task["id"])).json() for _ in range(2)]

    assert first == task | {"completed": True, "updated_at": first["updated_at"]}
    assert second == task | {"completed": False, "updated_at": second["updated_at"]}
    assert task["updated_at"] < first["updated_at"] < second["updated_at"]


@pytest.mark.requirement("T006")
async def test_toggling_accepts_a_json_type_and_no_body(alice: User) -> None:
    task = await alice.new_task()

    response = await alice.toggle(task["id"], headers={"Content-Type": "application/json"})

    assert response.json()["completed"] is True


@pytest.mark.requirement("T006", "T138")
@pytest.mark.parametrize("content", [b"", b"{}", b" {}\n", b'{"title": "Not this"}', b'{"Completed": false}'])
async def test_completing_without_a_value_flips(alice: User, content: bytes) -> None:
    task = await alice.new_task()
    headers = {"Content-Type": "application/json"}

    for expected in (True, False):
        response = await alice.toggle(task["id"], content=content, headers=headers)
        assert response.status_code == 200
        assert response.json() == task | {"completed": expected, "updated_at": response.json()["updated_at"]}


@pytest.mark.requirement("T138")
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("completed", [True, False])
async def test_completing_by_a_value_can_be_sent_again(alice: User, before: bool, completed: bool) -> None:  # noqa: FBT001
    task = await alice.new_task("Sent twice", description="x", completed=before)

    first, second = [await alice.toggle(task["id"], json={"completed": completed, "title": "No"}) for _ in range(2)]

    assert first.status_code == second.status_code == 200
    changed = first.json()
    assert changed == task | {"completed": completed, "updated_at": changed["updated_at"]}
    # The time moves only where `completed` does.
    assert (changed["updated_at"] > task["updated_at"]) is (before is not completed)
    assert second.json() == changed == (await alice.get(f"/{task['id']}")).json()


@pytest.mark.requirement("T138")
async def test_of_concurrent_settings_one_changes_the_task(alice: User) -> None:
    task = await alice.new_task()

    responses = await asyncio.gather(*(alice.toggle(task["id"], json={"completed": True}) for _ in range(25)))

    (answer,) = {response.content for response in responses}
    assert (await alice.get(f"/{task['id']}")).content == answer
    assert responses[0].json()["completed"] is True
    assert responses[0].json()["updated_at"] > task["updated_at"]


@pytest.mark.requirement("T138")
@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"true", "application/json", 422),
        (b'{"completed": tru}', "application/json", 422),
        (b'{"completed": NaN}', "application/json", 422),
        (b"\xff", "application/json", 422),
        (b'{"x": "\\u0000"}', "application/json", 422),
        (b'{"completed": true}', "text/plain", 415),
        (b'{"completed": true}', None, 415),
        (b"completed=true", "application/x-www-form-urlencoded", 415),
        (b'{"x": "' + b"x" * 65_536 + b'"}', "application/json", 413),
    ],
)
async def test_a_bad_body_completes_nothing(alice: User, content: bytes, media_type: str | None, status: int) -> None:
    task = await alice.new_task()
    headers = {} if media_type is None else {"Content-Type": media_type}

    response = await alice.toggle(task["id"], content=content, headers=headers)

    assert response.status_code == status
    assert (await alice.get(f"/{task['id']}")).json() == task


@pytest.mark.requirement("T006", "T011")
async def test_concurrent_toggles_all_count_and_move_time(alice: User) -> None:
    task = await alice.new_task()

    responses = await asyncio.gather(*(alice.toggle(task["id"]) for _ in range(25)))

    answers = sorted((response.json() for response in responses), key=lambda t: t["updated_at"])
    assert len({answer["updated_at"] for answer in answers}) == 25
    assert [answer["completed"] for answer in answers] == [True, False] * 12 + [True]
    assert (await alice.get(f"/{task['id']}")).json() == answers[-1]


@pytest.mark.requirement("T013", "T014")
@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/{id}", None),
        ("PUT", "/{id}", {"title": "Mine now"}),
        ("PUT", "/{id}", {}),
        ("PATCH", "/{id}", {"title": "Mine now"}),
        ("PATCH", "/{id}", {}),
        ("DELETE", "/{id}", None),
        ("PATCH", "/{id}/complete", None),
        ("PATCH", "/{id}/complete", {}),
        ("PATCH", "/{id}/complete", {"completed": True}),
    ],
)
async def test_another_users_task_is_not_there(
    alice: User, bob: User, method: str, path: str, content: dict[str, Any] | None
) -> None:
    task = await alice.new_task()
    kwargs = {} if content is None else {"json": content}

    hers = await bob.request(method, path.format(id=task["id"]), **kwargs)
    nobodys = await bob.request(method, path.format(id=2**63 - 1), **kwargs)

    assert hers.status_code == nobodys.status_code == 404
    assert hers.json() == nobodys.json() == NO_SUCH_TASK
    assert (await alice.get(f"/{task['id']}")).json() == task
    assert (await bob.get()).json() == []
