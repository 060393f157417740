"""Many tasks in one request: created, completed, deleted; all or nothing, on both databases."""
# [Task]: T140, T141, T142, T143 [From]: specs/features/task-crud.md

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import make_url

from tests.databases import MakeDatabase, administer
from tests.outside import run_sql, transaction
from tests.service import Service, StartService, User
from tests.waiting import until

FIELDS = ["id", "user_id", "title", "description", "completed", "created_at", "updated_at"]
BIGGEST = 2**63 - 1
MILK = {"title": "Buy milk"}


async def create(user: User, *tasks: Any, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await user.request("POST", "/bulk", json={"tasks": list(tasks)}, headers=headers)


async def created(user: User, *tasks: Any, key: str | None = None) -> list[dict[str, Any]]:
    response = await create(user, *tasks, key=key)
    assert response.status_code == 201, response.text
    made: list[dict[str, Any]] = response.json()
    return made


async def make(user: User, number: int) -> list[int]:
    """The ids of so many new tasks."""
    ids: list[int] = []
    for start in range(0, number, 100):
        tasks = await created(user, *({"title": str(n)} for n in range(start, min(start + 100, number))))
        ids += [task["id"] for task in tasks]
    return ids


async def complete(user: User, ids: Any, completed: Any = True) -> httpx.Response:  # noqa: FBT002 - as in the body
    return await user.request("PATCH", "/bulk", json={"ids": ids, "completed": completed})


async def remove(user: User, query: str) -> list[int]:
    response = await user.request("DELETE", query)
    assert response.status_code == 200, response.text
    content = response.json()
    assert list(content) == ["ids"]
    ids: list[int] = content["ids"]
    assert ids == sorted(set(ids))
    return ids


async def stored(user: User) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = (await user.get("?limit=1000")).json()
    return tasks


def assert_refused(response: httpx.Response, *loc: str | int) -> None:
    assert response.status_code == 422, response.text
    locs = [fault["loc"] for fault in response.json()["detail"]]
    assert list(loc) in locs, locs


# Creating


@pytest.mark.requirement("T140")
async def test_a_list_is_made_in_the_order_sent(alice: User) -> None:
    sent = [
        {"title": "z"},
        {"title": "a", "description": "Second"},
        {"title": "m", "completed": True},
        {"title": "a", "description": None, "completed": False},
    ]
    response = await create(alice, *sent)
    tasks = response.json()

    assert response.status_code == 201
    assert "Location" not in response.headers
    assert "Idempotency-Replayed" not in response.headers
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert [list(task) for task in tasks] == [FIELDS] * 4
    assert [task["id"] for task in tasks] == sorted({task["id"] for task in tasks})
    defaults = {"description": None, "completed": False}
    for task, content in zip(tasks, sent, strict=True):
        assert task == task | defaults | content | {"user_id": alice.id, "updated_at": task["created_at"]}
        assert (await alice.get(f"/{task['id']}")).json() == task
    assert await stored(alice) == tasks


@pytest.mark.requirement("T140")
async def test_a_list_has_1_to_100_tasks(alice: User) -> None:
    assert_refused(await create(alice), "body", "tasks")
    assert_refused(await create(alice, *[{"title": "x"}] * 101), "body", "tasks")
    assert await stored(alice) == []

    assert len(await created(alice, {"title": "x"})) == 1
    hundred = await created(alice, *({"title": f"{99 - n}"} for n in range(100)))
    assert [task["title"] for task in hundred] == [f"{99 - n}" for n in range(100)]
    assert [task["id"] for task in hundred] == sorted(task["id"] for task in hundred)


@pytest.mark.requirement("T140")
@pytest.mark.parametrize(
    ("item", "loc"),
    [
        ({}, ["title"]),
        ({"title": ""}, ["title"]),
        ({"title": " \t\n"}, ["title"]),
        ({"title": "x" * 201}, ["title"]),
        ({"title": None}, ["title"]),
        ({"title": 1}, ["title"]),
        ({"title": ["x"]}, ["title"]),
        ({"Title": "x"}, ["title"]),
        ({"title": "x", "description": "x" * 1001}, ["description"]),
        ({"title": "x", "description": 1}, ["description"]),
        ({"title": "x", "completed": None}, ["completed"]),
        ({"title": "x", "completed": 1}, ["completed"]),
        ({"title": "x", "completed": "true"}, ["completed"]),
        (None, []),
        ("x", []),
        (1, []),
        ([], []),
        ([{"title": "x"}], []),
    ],
)
@pytest.mark.parametrize("place", [0, 3, 99])
async def test_a_refusal_names_the_item(alice: User, item: Any, loc: list[str], place: int) -> None:
    tasks: list[Any] = [{"title": "good"}] * 100
    tasks[place] = item

    assert_refused(await create(alice, *tasks), "body", "tasks", place, *loc)
    assert await stored(alice) == []


@pytest.mark.requirement("T140")
@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\udfff x"])
@pytest.mark.parametrize("field", ["title", "description", "unknown"])
async def test_text_that_cannot_be_stored_is_refused(alice: User, field: str, text: str) -> None:
    body = json.dumps({"tasks": [{"title": "good"}, {"title": "x"} | {field: text}]})
    response = await alice.request("POST", "/bulk", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 422
    assert await stored(alice) == []


@pytest.mark.requirement("T140")
@pytest.mark.parametrize(
    "content",
    [{}, [], [MILK], {"tasks": None}, {"tasks": {}}, {"tasks": "x"}, {"tasks": {"0": MILK}}, {"Tasks": [MILK]}, 1],
)
async def test_a_body_without_a_list_is_refused(plain_service: Service, content: Any) -> None:
    response = await plain_service.user().request("POST", "/bulk", json=content)

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.requirement("T140")
async def test_text_is_stored_as_sent(alice: User) -> None:
    texts = [
        *("'; DROP TABLE task; --", '"quoted"', "back\\slash", "\\u0000", "\\x00", "%s %(a)s {b} $1 :c ?"),
        *("null", "[1]", "true", "1e999", "0", "<b>&amp;</b>"),
        *('{"a": 1}', "tab\tnew\nline", "\x01\x1f\x7f", "é e\u0301", "😀" * 200, "x\u2028\u2029x", "\ufeffx", "\uffff"),
        *("\U0010ffff", "\u202eabc", "x" * 200),
    ]
    tasks = await created(
        alice, *({"title": f" {text}\n", "description": text} for text in texts), {"title": "x", "description": ""}
    )

    assert [task["title"] for task in tasks] == [*(text.strip() for text in texts), "x"]
    assert [task["description"] for task in tasks] == [*texts, ""]
    assert await stored(alice) == tasks


@pytest.mark.requirement("T140")
async def test_what_the_server_sets_is_ignored_in_a_list(alice: User, bob: User) -> None:
    (task,) = (
        await alice.request(
            "POST",
            "/bulk",
            json={
                "tasks": [
                    {"title": "x", "id": 1, "user_id": bob.id, "created_at": "1999-01-01T00:00:00Z", "n": 5, "key": "k"}
                ],
                "user_id": bob.id,
                "owner": bob.id,
            },
        )
    ).json()

    assert task["user_id"] == alice.id
    assert not task["created_at"].startswith("1999")
    assert await stored(bob) == []


@pytest.mark.requirement("T140")
async def test_a_list_in_64_kib_is_made_whole(alice: User) -> None:
    room = 65_536 - len(json.dumps({"tasks": [{"title": "x" * 200, "description": ""}] * 100}))
    tasks = [{"title": "x" * 200, "description": "y" * (room // 100)} for _ in range(100)]
    over = [*tasks[:-1], tasks[-1] | {"description": "y" * 1000, "unknown": "z" * 1000}]

    assert [task["description"] for task in await created(alice, *tasks)] == [task["description"] for task in tasks]
    assert (await create(alice, *over)).status_code == 413
    assert len(await stored(alice)) == 100


@pytest.mark.requirement("T140")
async def test_the_access_is_checked_before_a_list(plain_service: Service) -> None:
    alice, bob = plain_service.user(), plain_service.user()

    for method in ("POST", "PATCH"):
        foreign = await alice.request(method, f"{bob.tasks_path}/bulk", content=b"{")
        untyped = await alice.request(method, "/bulk", content=b'{"tasks": [{"title": "x"}]}')
        unknown = await plain_service.client.request(method, f"{bob.tasks_path}/bulk", content=b"{")
        assert (foreign.status_code, untyped.status_code, unknown.status_code) == (403, 415, 401)
    assert (await alice.request("DELETE", f"{bob.tasks_path}?status=all")).status_code == 403
    assert (await alice.request("DELETE", bob.tasks_path)).status_code == 403
    assert (await plain_service.client.delete(f"{bob.tasks_path}?status=all")).status_code == 401


# Creating, sent again


@pytest.mark.requirement("T090", "T140")
async def test_the_same_list_again_makes_nothing_new(alice: User) -> None:
    sent = [{"title": "b"}, {"title": "a", "description": "x"}, {"title": "b"}]
    first = await created(alice, *sent, key="1")
    await alice.put(first[1]["id"], {"title": "Changed", "completed": True})
    now = await stored(alice)

    for again in (
        sent,
        [{"title": " b\n", "description": None, "completed": False}, *sent[1:-1], {"title": "b", "x": 1}],
    ):
        response = await create(alice, *again, key="1")
        assert response.status_code == 201
        assert response.headers["Idempotency-Replayed"] == "true"
        assert response.json() == now
    assert await stored(alice) == now


@pytest.mark.requirement("T090", "T140")
@pytest.mark.parametrize(
    "others",
    [
        ["a", "b", "x"],
        ["x", "b", "c"],
        ["a", "c", "b"],
        ["c", "b", "a"],
        ["a"],
        ["a", "b"],
        ["b", "c"],
        ["a", "b", "c", "d"],
        ["a", "b", "c", "c"],
        ["x"],
        ["x"] * 100,
    ],
    ids="".join,
)
async def test_another_list_with_the_same_key_makes_nothing(alice: User, others: list[str]) -> None:
    await created(alice, *({"title": title} for title in "abc"), key="1")
    before = await stored(alice)

    response = await create(alice, *({"title": title} for title in others), key="1")

    assert response.status_code == 422
    assert response.json()["detail"] == [
        {
            "loc": ["header", "Idempotency-Key"],
            "msg": "The key was used with another body",
            "type": "idempotency_key_reused",
        }
    ]
    assert await stored(alice) == before
    # The first list is still what the key stands for.
    again = await create(alice, *({"title": title} for title in "abc"), key="1")
    assert (again.status_code, again.json()) == (201, before)


@pytest.mark.requirement("T090", "T140")
@pytest.mark.parametrize(
    "change", [{"title": "B"}, {"description": "x"}, {"completed": True}, {"title": "a", "description": "b"}]
)
async def test_one_other_field_makes_another_list(alice: User, change: dict[str, Any]) -> None:
    await created(alice, {"title": "a"}, {"title": "b"}, key="1")

    response = await create(alice, {"title": "a"}, {"title": "b"} | change, key="1")

    assert response.json()["detail"][0]["type"] == "idempotency_key_reused"
    assert len(await stored(alice)) == 2


@pytest.mark.requirement("T140")
async def test_the_key_of_a_longer_list_stays_taken(alice: User) -> None:
    first = await created(alice, *({"title": f"Long {number}"} for number in range(5)), key="1")
    for task in first[:3]:
        await alice.delete(task["id"])

    response = await create(alice, *({"title": f"Short {number}"} for number in range(3)), key="1")

    assert_refused(response, "header", "Idempotency-Key")
    assert await stored(alice) == first[3:]


@pytest.mark.requirement("T090", "T140")
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_deleted_item_is_made_anew(alice: User, place: int) -> None:
    sent = [{"title": title} for title in "abc"]
    first = await created(alice, *sent, key="1")
    await alice.delete(first[place]["id"])

    response = await create(alice, *sent, key="1")
    tasks = response.json()

    assert response.status_code == 201
    assert [task["title"] for task in tasks] == list("abc")
    assert tasks[place]["id"] > first[2]["id"]
    assert [task for n, task in enumerate(tasks) if n != place] == [task for n, task in enumerate(first) if n != place]
    assert sorted(await stored(alice), key=lambda task: str(task["title"])) == tasks
    assert (await create(alice, *sent, key="1")).json() == tasks


@pytest.mark.requirement("T090", "T140")
@pytest.mark.parametrize("others", [["a", "x", "c"], ["a", "c"], ["a"], ["a", "x"], ["a", "b"], ["a", "b", "c", "d"]])
async def test_a_gap_takes_no_other_list(alice: User, others: list[str]) -> None:
    first = await created(alice, *({"title": title} for title in "abc"), key="1")
    await alice.delete(first[1]["id"])
    before = await stored(alice)

    response = await create(alice, *({"title": title} for title in others), key="1")

    assert response.status_code == 422
    assert await stored(alice) == before


@pytest.mark.requirement("T090", "T140")
async def test_a_lists_key_lives_as_long_as_its_tasks(alice: User) -> None:
    first = await created(alice, {"title": "a"}, {"title": "b"}, key="1")
    await remove(alice, "?status=all")

    response = await create(alice, {"title": "x"}, {"title": "y"}, key="1")

    assert response.status_code == 201
    assert "Idempotency-Replayed" not in response.headers
    assert {task["id"] for task in response.json()}.isdisjoint(task["id"] for task in first)


@pytest.mark.requirement("T090", "T140")
async def test_a_tasks_key_is_not_a_lists(alice: User, bob: User) -> None:
    one = await alice.post({"title": "a"}, headers={"Idempotency-Key": "1"})
    many = await create(alice, {"title": "a"}, key="1")
    his = await create(bob, {"title": "b"}, key="1")

    for response in (one, many, his):
        assert response.status_code == 201
        assert "Idempotency-Replayed" not in response.headers
    assert await stored(alice) == [one.json(), *many.json()]
    again = await alice.post({"title": "a"}, headers={"Idempotency-Key": "1"})
    assert again.json() == one.json()
    assert (await create(alice, {"title": "a"}, key="1")).json() == many.json()


@pytest.mark.requirement("T090", "T140")
async def test_keys_that_look_like_an_items_are_apart(alice: User) -> None:
    for key in ("1", "10", "11", "1-0", "1:0", "0", "01", "1,1"):
        tasks = [{"title": f"{key} {n}"} for n in range(12)]
        response = await create(alice, *tasks, key=key)
        assert response.status_code == 201
        assert "Idempotency-Replayed" not in response.headers
        single = await alice.post({"title": key}, headers={"Idempotency-Key": key})
        assert "Idempotency-Replayed" not in single.headers
    assert len(await stored(alice)) == 8 * 13


@pytest.mark.requirement("T090", "T140")
@pytest.mark.parametrize("key", ["!", "~" * 255, '"quoted"'])
async def test_a_list_takes_any_key_that_a_task_takes(alice: User, key: str) -> None:
    tasks = [{"title": str(n)} for n in range(100)]
    first = await created(alice, *tasks, key=key)
    again = await create(alice, *tasks, key=key)

    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first


@pytest.mark.requirement("T090", "T140")
@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "1 1", "\x7f", "a, b"])
async def test_a_malformed_key_of_a_list_is_refused(alice: User, key: str) -> None:
    response = await create(alice, {"title": "x"}, key=key)

    assert response.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    assert response.json()["detail"][0]["type"] == "idempotency_key_invalid"
    assert await stored(alice) == []


@pytest.mark.requirement("T090", "T140")
async def test_two_keys_of_a_list_are_refused(alice: User) -> None:
    # The spelling makes them two in this dictionary; to HTTP both names are the same.
    headers = {"Idempotency-Key": "1", "idempotency-key": "1"}
    response = await alice.request("POST", "/bulk", json={"tasks": [{"title": "x"}]}, headers=headers)

    assert response.status_code == 422
    assert await stored(alice) == []


@pytest.mark.requirement("T090", "T140")
async def test_a_refused_list_leaves_its_key_free(alice: User) -> None:
    assert (await create(alice, {"title": "a"}, {"title": ""}, key="1")).status_code == 422
    response = await create(alice, {"title": "b"}, key="1")

    assert response.status_code == 201
    assert "Idempotency-Replayed" not in response.headers


@pytest.mark.requirement("T090", "T140", "T143")
async def test_twins_of_a_list_make_it_once(alice: User) -> None:
    for key in map(str, range(5)):
        tasks = [{"title": f"{key} {n}"} for n in range(10)]
        answers = await asyncio.gather(*(create(alice, *tasks, key=key) for _ in range(8)))

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 7
    assert len(await stored(alice)) == 50


@pytest.mark.requirement("T090", "T140", "T143")
async def test_of_unequal_twins_one_list_is_made(alice: User) -> None:
    for key in map(str, range(5)):
        answers = await asyncio.gather(
            # They begin alike, and are of different lengths.
            *(create(alice, *({"title": "x"} for _ in range(number)), {"title": key}, key=key) for number in range(8))
        )

        assert sorted(answer.status_code for answer in answers) == [201] + 7 * [422]
        (winner,) = [answer for answer in answers if answer.status_code == 201]
        tasks = await stored(alice)
        assert tasks == winner.json()
        await remove(alice, "?status=all")


# Completing


@pytest.mark.requirement("T141")
@pytest.mark.parametrize("completed", [True, False])
async def test_the_users_tasks_among_the_ids_are_set(alice: User, bob: User, completed: bool) -> None:  # noqa: FBT001
    before = await created(alice, *({"title": str(n), "completed": n % 2 == 0} for n in range(6)))
    his = await bob.new_task()
    ids = [task["id"] for task in before]

    response = await complete(alice, [ids[3], his["id"], BIGGEST, ids[0], ids[3], ids[2], ids[5], ids[0]], completed)

    assert response.status_code == 200
    answered = response.json()
    assert [task["id"] for task in answered] == [ids[0], ids[2], ids[3], ids[5]]
    for task in answered:
        old = before[ids.index(task["id"])]
        assert list(task) == FIELDS
        assert task == old | {"completed": completed, "updated_at": task["updated_at"]}
        # The time moves only where something changes.
        assert (task["updated_at"] > old["updated_at"]) is (old["completed"] is not completed)
    now = await stored(alice)
    assert [task for task in now if task in answered] == answered
    assert [now[1], now[4]] == [before[1], before[4]]
    assert await stored(bob) == [his]


@pytest.mark.requirement("T141")
async def test_completing_again_changes_nothing(alice: User) -> None:
    ids = await make(alice, 5)
    first = await complete(alice, ids)
    again = await complete(alice, ids[::-1])

    assert first.status_code == again.status_code == 200
    assert again.json() == first.json() == await stored(alice)


@pytest.mark.requirement("T141")
async def test_ids_of_nobody_are_passed_over(alice: User, bob: User) -> None:
    gone = await alice.new_task()
    await alice.delete(gone["id"])
    his = await bob.new_task()

    for ids in ([gone["id"]], [his["id"]], [BIGGEST, 1], [his["id"], gone["id"], 2**31, 2**32]):
        response = await complete(alice, ids)
        assert (response.status_code, response.json()) == (200, [])
    assert await stored(bob) == [his]


@pytest.mark.requirement("T141")
async def test_1_to_1000_ids_are_taken(alice: User) -> None:
    ids = await make(alice, 1000)

    assert_refused(await complete(alice, []), "body", "ids")
    assert_refused(await complete(alice, [*ids, ids[0]]), "body", "ids")
    assert not any(task["completed"] for task in await stored(alice))
    assert len((await complete(alice, ids[:1])).json()) == 1
    response = await complete(alice, ids[::-1])
    assert [task["id"] for task in response.json()] == ids
    assert all(task["completed"] for task in await stored(alice))
    assert len((await complete(alice, [BIGGEST - n for n in range(1000)])).json()) == 0


@pytest.mark.requirement("T141")
@pytest.mark.parametrize(
    "wrong", [0, -1, 2**63, 2**64, 10**30, 1.5, "x", "", "+1", "1_0", " 1", None, True, [], {}, [1], 1e300]
)
async def test_an_id_that_is_none_is_refused(alice: User, wrong: Any) -> None:
    ids = await make(alice, 3)

    response = await complete(alice, [*ids, wrong])

    assert response.status_code == 422
    assert ["body", "ids", 3] in [fault["loc"][:3] for fault in response.json()["detail"]]
    assert not any(task["completed"] for task in await stored(alice))


@pytest.mark.requirement("T141")
@pytest.mark.parametrize(
    ("content", "loc"),
    [
        ({"ids": [1]}, ["body", "completed"]),
        ({"ids": [1], "completed": None}, ["body", "completed"]),
        ({"ids": [1], "completed": 1}, ["body", "completed"]),
        ({"ids": [1], "completed": "true"}, ["body", "completed"]),
        ({"completed": True}, ["body", "ids"]),
        ({"ids": None, "completed": True}, ["body", "ids"]),
        ({"ids": 1, "completed": True}, ["body", "ids"]),
        ({"ids": "1,2", "completed": True}, ["body", "ids"]),
        ({"ids": {"1": 1}, "completed": True}, ["body", "ids"]),
        ({}, ["body", "ids"]),
        ([1], ["body"]),
        (1, ["body"]),
    ],
)
async def test_an_incomplete_body_of_ids_is_refused(plain_service: Service, content: Any, loc: list[str | int]) -> None:
    assert_refused(await plain_service.user().request("PATCH", "/bulk", json=content), *loc)


@pytest.mark.requirement("T141")
async def test_other_fields_are_ignored_when_completing(alice: User) -> None:
    (task_id,) = await make(alice, 1)
    content = {"ids": [task_id], "completed": True, "title": "Not this", "user_id": "x"}

    (task,) = (await alice.request("PATCH", "/bulk", json=content)).json()

    assert (task["title"], task["completed"]) == ("0", True)


# Deleting


@pytest.mark.requirement("T142")
@pytest.mark.parametrize(
    ("query", "deleted"),
    [
        ("status=completed", "bd"),
        ("status=pending", "ace"),
        ("status=all", "abcde"),
        ("completed=true", "bd"),
        ("completed=false", "ace"),
        ("ids={d},{a},{d},{c}", "acd"),
        ("ids={e}", "e"),
        ("ids={a}%2C{b}", "ab"),
        ("ids=1,{a},{other},9223372036854775807", "a"),
        ("ids={other}", ""),
    ],
)
async def test_what_is_selected_is_deleted(alice: User, bob: User, query: str, deleted: str) -> None:
    his = await created(bob, {"title": "pending"}, {"title": "done", "completed": True})
    tasks = await created(alice, *({"title": title, "completed": title in "bd"} for title in "abcde"))
    ids = {task["title"]: task["id"] for task in tasks}
    query = query.format(other=his[0]["id"], **ids)

    assert await remove(alice, f"?{query}") == [ids[title] for title in deleted]
    assert [task["title"] for task in await stored(alice)] == [title for title in "abcde" if title not in deleted]
    assert await stored(bob) == his
    assert await remove(alice, f"?{query}") == []


@pytest.mark.requirement("T142")
async def test_a_cleared_list_is_empty(alice: User) -> None:
    await make(alice, 2)
    response = await alice.request("DELETE", "?status=all")

    assert response.headers["Content-Type"] == "application/json"
    assert (await alice.get()).json() == []


@pytest.mark.requirement("T142", "T134")
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", None),
        ("?", None),
        ("?status=", ["status"]),
        ("?status=done", ["status"]),
        ("?status", ["status"]),
        ("?completed=1", ["completed"]),
        ("?completed=", ["completed"]),
        ("?ids=", ["ids"]),
        ("?ids", ["ids"]),
        ("?status=all&completed=true", ["status", "completed"]),
        ("?status=completed&completed=true", ["status", "completed"]),
        ("?status=all&ids=1", ["status", "ids"]),
        ("?completed=false&ids=1", ["completed", "ids"]),
        ("?status=all&completed=true&ids=1", ["status", "completed", "ids"]),
        ("?status=all&status=all", ["status"]),
        ("?completed=true&completed=true", ["completed"]),
        ("?ids=1&ids=2", ["ids"]),
        ("?status=all&limit=1", ["limit"]),
        ("?status=completed&search=x", ["search"]),
        ("?status=all&sort=title", ["sort"]),
        ("?status=all&cursor=x", ["cursor"]),
        ("?status=all&count=true", ["count"]),
        ("?status=all&offset=1", ["offset"]),
        ("?status=all&colour=red", ["colour"]),
        ("?status=all&x", ["x"]),
        ("?Status=all", ["Status"]),
        ("?id=1", ["id"]),
    ],
)
async def test_a_selection_that_is_none_deletes_nothing(alice: User, query: str, names: list[str] | None) -> None:
    tasks = await created(alice, {"title": "a"}, {"title": "b", "completed": True})

    response = await alice.request("DELETE", query)

    assert response.status_code == 422
    locs = [fault["loc"] for fault in response.json()["detail"]]
    assert all(loc[0] == "query" for loc in locs)
    assert names is None or any(len(loc) > 1 and loc[1] in names for loc in locs), locs
    assert await stored(alice) == tasks


@pytest.mark.requirement("T142", "T134")
@pytest.mark.parametrize(
    "form",
    [
        *(
            ",",
            "{id},",
            ",{id}",
            "{id},,{id}",
            "{id}, {id}",
            "%20{id}",
            "{id}%20",
            "{id}+",
            "%2B{id}",
            "+{id}",
            "{id};{id}",
        ),
        *("{id},0", "{id},-1", "-{id}", "{id}.0", "{id},1.5", "{id},x", "x", "{id},9223372036854775808", "{id},1_0"),
        *("{id},1e3", "{id},0x10", "{id},٣", "{id}%00", "%00", "{id}%0A", "[{id}]", "{id}|{id}", "null", "all", "*"),
        *("{id}," + "9" * 5_000, "{id}%E3%80%81{id}"),
    ],
)
async def test_ids_that_are_none_delete_nothing(alice: User, form: str) -> None:
    task = await alice.new_task()

    response = await alice.request("DELETE", f"?ids={form.replace('{id}', str(task['id']))}")

    assert response.status_code == 422, response.text
    (fault,) = response.json()["detail"]
    assert fault["loc"] == ["query", "ids"]
    assert fault["msg"] == "Input should be 1 to 200 ids with commas between"
    assert await stored(alice) == [task]


@pytest.mark.requirement("T142")
async def test_1_to_200_ids_are_deleted(alice: User) -> None:
    ids = await make(alice, 201)

    assert (await alice.request("DELETE", f"?ids={','.join(map(str, ids))}")).status_code == 422
    assert len(await stored(alice)) == 201
    assert await remove(alice, f"?ids={','.join(map(str, ids[:0:-1]))}") == ids[1:]
    assert [task["id"] for task in await stored(alice)] == ids[:1]
    assert await remove(alice, f"?ids={','.join(str(BIGGEST - n) for n in range(200))}") == []
    assert await remove(alice, f"?ids={','.join([str(ids[0])] * 200)}") == ids[:1]


@pytest.mark.requirement("T142")
@pytest.mark.parametrize("query", ["?status=all", "?status=pending", "?completed=false"])
async def test_a_round_deletes_a_thousand_the_oldest_first(alice: User, bob: User, query: str) -> None:
    his = await bob.new_task()
    ids = await make(alice, 2000)
    (last,) = await make(alice, 1)
    # A change makes no task younger.
    await alice.put(ids[0], {"title": "Changed"})

    assert await remove(alice, query) == ids[:1000]
    assert [task["id"] for task in await stored(alice)] == ids[1000:]
    assert await remove(alice, query) == ids[1000:]
    assert await remove(alice, query) == [last]
    assert await remove(alice, query) == []
    assert await stored(alice) == []
    assert await stored(bob) == [his]


@pytest.mark.requirement("T142")
async def test_completed_tasks_are_cleared_from_among_many(alice: User) -> None:
    ids = await make(alice, 1100)
    await complete(alice, ids[1050:])

    assert await remove(alice, "?status=completed") == ids[1050:]
    assert len(await stored(alice)) == 1000
    assert await remove(alice, "?status=completed") == []


@pytest.mark.requirement("T142", "T143")
async def test_rounds_at_the_same_moment_empty_an_account(alice: User) -> None:
    ids = await make(alice, 2500)

    rounds = await asyncio.gather(*(remove(alice, "?status=all") for _ in range(6)))

    deleted = [task_id for answered in rounds for task_id in answered]
    deleted += await remove(alice, "?status=all")
    assert sorted(deleted) == ids
    assert await stored(alice) == []


@pytest.mark.requirement("T142", "T143")
async def test_fewer_than_a_thousand_means_that_nothing_is_left(alice: User) -> None:
    for _ in range(5):
        ids = await make(alice, 1300)

        async def empty() -> None:
            while len(await remove(alice, "?status=all")) == 1000:
                pass
            # Whoever was told so can rely on it.
            assert await stored(alice) == []

        await asyncio.gather(*(empty() for _ in range(4)))
        assert ids


@pytest.mark.requirement("T142")
@pytest.mark.parametrize("query", ["?status=completed", "?completed=true"])
async def test_a_task_that_is_uncompleted_meanwhile_stays(
    start: StartService, make_database: MakeDatabase, query: str
) -> None:
    service = await start(database_url=await make_database("postgresql"))
    alice = service.user()
    one, two, three = [task["id"] for task in await created(alice, *[{"title": "x", "completed": True}] * 3)]

    async with transaction(service) as execute:
        await execute("UPDATE task SET completed = false WHERE id = :id", id=two)
        pending = asyncio.create_task(remove(alice, query))
        await asyncio.wait([pending], timeout=0.3)
        assert not pending.done()

    assert await pending == [one, three]
    assert [task["id"] for task in await stored(alice)] == [two]


@pytest.mark.requirement("T142")
async def test_a_task_is_cleared_or_uncompleted_never_both(alice: User) -> None:
    for _ in range(10):
        tasks = await created(alice, *[{"title": "x", "completed": True}] * 8)
        ids = [task["id"] for task in tasks]
        clearing = asyncio.create_task(remove(alice, "?status=completed"))

        answers = await asyncio.gather(*(alice.toggle(task_id, json={"completed": False}) for task_id in ids[::2]))
        cleared = await clearing

        for task_id, answer in zip(ids[::2], answers, strict=True):
            assert answer.status_code == (404 if task_id in cleared else 200)
        assert {task["id"] for task in await stored(alice)} == set(ids) - set(cleared)
        await remove(alice, "?status=all")


@pytest.mark.requirement("T142")
async def test_deleting_takes_no_body_and_no_condition(alice: User) -> None:
    ids = await make(alice, 2)
    response = await alice.request("DELETE", f"?ids={ids[0]}", json={"ids": ids}, headers={"If-None-Match": "*"})

    assert response.json() == {"ids": ids[:1]}
    assert [task["id"] for task in await stored(alice)] == ids[1:]


# Overlapping

KEPT = [{"title": str(number)} for number in range(9)]
LOCKS: dict[str, Callable[[User, list[int]], Awaitable[httpx.Response]]] = {
    "complete": complete,
    "complete backwards": lambda user, ids: complete(user, ids[::-1]),
    "delete": lambda user, ids: user.request("DELETE", f"?ids={','.join(map(str, ids))}"),
    "delete backwards": lambda user, ids: user.request("DELETE", f"?ids={','.join(map(str, ids[::-1]))}"),
    "clear": lambda user, _: user.request("DELETE", "?status=pending"),
    "clear all": lambda user, _: user.request("DELETE", "?status=all"),
    "create again": lambda user, _: create(user, *KEPT, key="1"),
}


@pytest.mark.requirement("T143")
@pytest.mark.parametrize("name", LOCKS)
async def test_a_bulk_request_locks_in_the_order_of_ids(
    start: StartService, make_database: MakeDatabase, name: str
) -> None:
    url = await make_database("postgresql")
    # Leaves the planner the one plan that finds tasks in the table's own order.
    for plan in ("indexscan", "indexonlyscan", "bitmapscan", "mergejoin", "nestloop"):
        await administer(url, f'ALTER DATABASE "{make_url(url).database}" SET enable_{plan} = off')
    service = await start(database_url=url)
    alice = service.user()
    # The first item has the last id, so that a list's order isn't that of its ids; and the table has the tasks
    # backwards, so that neither is the order in which they are found.
    await alice.delete((await created(alice, *KEPT, key="1"))[0]["id"])
    ids = sorted(task["id"] for task in await created(alice, *KEPT, key="1"))
    for task_id in ids[::-1]:
        for owner in ("somebody", alice.id):
            await run_sql(service, "UPDATE task SET user_id = :owner WHERE id = :id", owner=owner, id=task_id)

    async def waits() -> object:
        return await run_sql(
            service, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    async with transaction(service) as execute:
        await execute("SELECT id FROM task WHERE id = :id FOR UPDATE", id=ids[4])
        request = asyncio.ensure_future(LOCKS[name](alice, ids))
        await until(waits)
        free = await run_sql(service, "SELECT id FROM task ORDER BY id FOR UPDATE SKIP LOCKED")

    assert (await request).is_success
    assert [row.id for row in free] == ids[5:]


@pytest.mark.requirement("T143")
async def test_overlapping_requests_never_deadlock(alice: User) -> None:
    ids = await make(alice, 60)

    async def work(number: int) -> None:
        for turn in range(12):
            order = ids if (number + turn) % 2 else ids[::-1]
            responses = [await complete(alice, order, completed=(number + turn) % 3 == 0)]
            if number == 0:
                responses.append(await alice.request("DELETE", f"?ids={','.join(map(str, order[turn::20]))}"))
            if number == 1:
                responses.append(await alice.request("DELETE", "?status=completed"))
            if number == 2:
                responses.append(await create(alice, *({"title": str(n)} for n in range(30))))
            assert [response.is_success for response in responses] == [True] * len(responses)

    await asyncio.gather(*map(work, range(8)))


@pytest.mark.requirement("T143")
async def test_lists_sent_again_never_deadlock_with_others(alice: User) -> None:
    sent = [{"title": str(number)} for number in range(40)]
    key = uuid4().hex
    tasks = await created(alice, *sent, key=key)
    # Made anew, the first item has the last id: a list's order is no longer that of its ids.
    for number in (0, 1, 20):
        await alice.delete(tasks[number]["id"])
    ids = [task["id"] for task in await created(alice, *sent, key=key)]
    assert ids != sorted(ids)

    async def replay() -> None:
        for _ in range(15):
            assert [task["id"] for task in await created(alice, *sent, key=key)] == ids

    async def change(number: int) -> None:
        for turn in range(15):
            assert (await complete(alice, ids, completed=(turn + number) % 2 == 0)).status_code == 200

    await asyncio.gather(*(replay() for _ in range(3)), *map(change, range(3)))

    assert len(await stored(alice)) == 40


@pytest.mark.requirement("T143")
async def test_lists_that_are_made_anew_never_deadlock(alice: User) -> None:
    sent = [{"title": str(number)} for number in range(20)]
    for turn in range(6):
        key = str(turn)
        tasks = await created(alice, *sent, key=key)

        answers = await asyncio.gather(
            *(create(alice, *sent, key=key) for _ in range(4)),
            *(alice.delete(task["id"]) for task in tasks[::3]),
            *(complete(alice, [task["id"] for task in order]) for order in (tasks, tasks[::-1])),
            alice.request("DELETE", f"?ids={','.join(str(task['id']) for task in tasks[::-4])}"),
        )

        assert {answer.status_code for answer in answers} <= {200, 201, 204, 404}
        whole = await created(alice, *sent, key=key)
        assert [task["title"] for task in whole] == [item["title"] for item in sent]
        assert {task["id"] for task in whole} == {task["id"] for task in await stored(alice)}
        await remove(alice, "?status=all")


@pytest.mark.requirement("T143")
async def test_a_list_of_ids_is_changed_whole_or_not_at_all(alice: User) -> None:
    ids = await make(alice, 50)

    async def change(number: int) -> None:
        for turn in range(8):
            await complete(alice, ids if number % 2 else ids[::-1], completed=(number + turn) % 2 == 0)

    async def look() -> None:
        for _ in range(30):
            assert len({task["completed"] for task in await stored(alice)}) == 1

    await asyncio.gather(*map(change, range(4)), look(), look())


@pytest.mark.requirement("T140", "T143")
async def test_a_list_that_fails_at_its_last_task_leaves_none(start: StartService, make_database: MakeDatabase) -> None:
    for backend in ("sqlite", "postgresql"):
        service = await start(database_url=await make_database(backend))
        alice = service.user()
        if backend == "sqlite":
            await run_sql(
                service,
                "CREATE TRIGGER refuse BEFORE INSERT ON task WHEN NEW.title = 'refused'"
                " BEGIN SELECT RAISE(ABORT, 'no'); END",
            )
        else:
            await run_sql(service, "ALTER TABLE task ADD CONSTRAINT refuse CHECK (title <> 'refused')")

        for key in (None, "1"):
            response = await create(alice, *({"title": str(n)} for n in range(9)), {"title": "refused"}, key=key)
            assert response.status_code == 500
            assert await stored(alice) == []


# The path


@pytest.mark.requirement("T140", "T141")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "BREW"])
async def test_bulk_is_a_path_of_its_own(plain_service: Service, method: str) -> None:
    alice = plain_service.user()
    body = {} if method in {"GET", "HEAD"} else {"json": {"title": "x"}}

    response = await alice.request(method, "/bulk", **body)

    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"POST", "PATCH", "OPTIONS"}


@pytest.mark.requirement("T140", "T141", "T142")
async def test_options_names_the_methods_of_lists(plain_service: Service) -> None:
    for path, methods in (
        ("/api/x/tasks", {"GET", "POST", "DELETE", "HEAD", "OPTIONS"}),
        ("/api/x/tasks/bulk", {"POST", "PATCH", "OPTIONS"}),
        ("/api/x/tasks/1", {"GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}),
        ("/api/x/tasks/1/complete", {"PATCH", "OPTIONS"}),
    ):
        response = await plain_service.client.options(path)
        assert response.status_code in {200, 204}
        assert set(response.headers["Allow"].split(", ")) == methods


@pytest.mark.requirement("T140", "T141", "T142")
async def test_a_trailing_slash_changes_nothing_in_bulk(alice: User) -> None:
    made = await alice.request("POST", "/bulk/", json={"tasks": [{"title": "x"}]})
    ids = [task["id"] for task in made.json()]

    assert made.status_code == 201
    assert (await alice.request("PATCH", "/bulk/", json={"ids": ids, "completed": True})).json()[0]["completed"] is True
    assert await remove(alice, "/?status=completed") == ids
