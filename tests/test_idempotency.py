"""The `Idempotency-Key` of a POST: repeated, it creates nothing twice."""
# [Task]: T090, T091 [From]: specs/reliability.md

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.service import Service, User

BODY = {"title": "Buy milk", "description": "Two litres"}


async def post(user: User, key: str, body: Any = BODY) -> httpx.Response:
    return await user.post(body, headers={"Idempotency-Key": key})


@pytest.mark.requirement("T090")
async def test_the_same_request_again_gets_the_same_task(alice: User) -> None:
    key = uuid4().hex
    first = await post(alice, key)
    again = [await post(alice, key) for _ in range(3)]

    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first.headers
    for answer in again:
        assert (answer.status_code, answer.json()) == (201, first.json())
        assert answer.headers["Idempotency-Replayed"] == "true"
        assert answer.headers["Location"] == first.headers["Location"]
    assert (await alice.get()).json() == [first.json()]


@pytest.mark.requirement("T090")
async def test_a_body_that_means_the_same_is_the_same(alice: User) -> None:
    first = await post(alice, "1", {"title": "Buy milk"})

    for body in (
        {"title": "  Buy milk\n"},
        {"description": None, "title": "Buy milk"},
        {"title": "Buy milk", "unknown": 1},
        {"title": "Buy milk", "completed": False},
    ):
        assert (await post(alice, "1", body)).json() == first.json()


@pytest.mark.requirement("T090")
@pytest.mark.parametrize(
    "other",
    [
        {"title": "Buy milk"},
        {"title": "Buy milk", "description": "Three litres"},
        {"title": "Two litres", "description": "Buy milk"},
        BODY | {"completed": True},
    ],
)
async def test_the_same_key_with_another_body_is_422(alice: User, other: dict[str, Any]) -> None:
    first = await post(alice, "1")
    answer = await post(alice, "1", other)

    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [
            {
                "loc": ["header", "Idempotency-Key"],
                "msg": "The key was used with another body",
                "type": "idempotency_key_reused",
            }
        ]
    }
    assert (await alice.get()).json() == [first.json()]


@pytest.mark.requirement("T090")
async def test_a_key_is_its_users_own(alice: User, bob: User) -> None:
    one, other = await post(alice, "1"), await post(bob, "1", {"title": "Another"})

    assert one.json()["user_id"] == alice.id
    assert (other.status_code, other.json()["title"]) == (201, "Another")
    assert "Idempotency-Replayed" not in other.headers


@pytest.mark.requirement("T090")
async def test_a_replay_shows_the_task_as_it_is_now(alice: User) -> None:
    task_id = (await post(alice, "1")).json()["id"]
    changed = await alice.put(task_id, {"title": "Changed", "completed": True})
    again = await post(alice, "1")

    assert again.status_code == 201
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == changed.json() == (await alice.get(f"/{task_id}")).json()


@pytest.mark.requirement("T090", "T139")
async def test_a_completed_task_is_made_once(alice: User) -> None:
    body = BODY | {"completed": True}
    first = await post(alice, "1", body)
    flipped = await alice.toggle(first.json()["id"])
    again = await post(alice, "1", body)

    assert first.json()["completed"] is True
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == flipped.json()
    assert (await post(alice, "1")).status_code == 422


@pytest.mark.requirement("T090")
async def test_a_key_lives_as_long_as_its_task(alice: User) -> None:
    first = (await post(alice, "1")).json()
    await alice.delete(first["id"])
    again = await post(alice, "1", {"title": "Another"})

    assert again.status_code == 201
    assert again.json()["id"] > first["id"]
    assert "Idempotency-Replayed" not in again.headers


@pytest.mark.requirement("T090", "T091")
async def test_twins_at_the_same_moment_make_one_task(alice: User) -> None:
    for key in map(str, range(5)):
        answers = await asyncio.gather(*(post(alice, key, {"title": key}) for _ in range(8)))

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        replayed = [answer for answer in answers if "Idempotency-Replayed" in answer.headers]
        assert len(replayed) == 7
    assert len((await alice.get()).json()) == 5


@pytest.mark.requirement("T090")
async def test_unequal_twins_make_one_task_and_the_other_is_422(alice: User) -> None:
    answers = await asyncio.gather(*(post(alice, "1", {"title": str(n)}) for n in range(8)))

    assert sorted(answer.status_code for answer in answers) == [201] + 7 * [422]
    assert len((await alice.get()).json()) == 1


@pytest.mark.requirement("T090")
@pytest.mark.parametrize("key", ["!", "~", '"a-quoted-one"', "a,b", "k" * 255])
async def test_a_well_formed_key_is_accepted(alice: User, key: str) -> None:
    assert (await post(alice, key)).status_code == 201
    # White space around a header's value is no part of it (RFC 9110, section 5.5).
    assert (await post(alice, f" {key}\t")).headers["Idempotency-Replayed"] == "true"


@pytest.mark.requirement("T090")
@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "a\tb", "\x7f", b"\xfc", "a, b"])
async def test_a_malformed_key_is_refused(alice: User, key: Any) -> None:
    answer = await post(alice, key)

    assert answer.status_code == 422
    (fault,) = answer.json()["detail"]
    assert fault["loc"] == ["header", "Idempotency-Key"]
    assert fault["type"] == "idempotency_key_invalid"
    assert (await alice.get()).json() == []


@pytest.mark.requirement("T090")
async def test_two_keys_are_refused(alice: User) -> None:
    # The spelling makes them two in this dictionary; to HTTP both names are the same.
    answer = await alice.post(BODY, headers={"Idempotency-Key": "1", "idempotency-key": "1"})

    assert answer.status_code == 422
    assert (await alice.get()).json() == []


@pytest.mark.requirement("T090")
async def test_without_a_key_each_request_makes_a_task(alice: User) -> None:
    ids = {(await alice.post(BODY)).json()["id"] for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.requirement("T090")
async def test_a_key_is_checked_between_token_and_body(plain_service: Service) -> None:
    alice, bob = plain_service.user(), plain_service.user()
    headers = {"Idempotency-Key": ""}

    foreign = await alice.request("POST", bob.tasks_path, content=b"{", headers=headers)
    own = await alice.request("POST", content=b"{", headers=headers)

    assert foreign.status_code == 403
    assert own.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]


@pytest.mark.requirement("T090")
async def test_a_failed_request_leaves_its_key_free(alice: User) -> None:
    assert (await post(alice, "1", {"title": ""})).status_code == 422
    assert (await post(alice, "1")).status_code == 201


@pytest.mark.requirement("T090")
async def test_a_key_means_nothing_to_other_methods(alice: User) -> None:
    task = (await post(alice, "1")).json()
    headers = {"Idempotency-Key": "1"}

    for number in range(2):
        answer = await alice.put(task["id"], {"title": str(number)}, headers=headers)
        assert answer.json()["title"] == str(number)
        toggled = await alice.toggle(task["id"], headers=headers)
        assert toggled.json()["completed"] is (number == 0)


@pytest.mark.requirement("T090")
async def test_a_browser_may_send_a_key_and_see_the_replay(service: Service) -> None:
    origin = {"Origin": "http://localhost:3000"}
    preflight = await service.client.options(
        "/api/x/tasks",
        headers=origin
        | {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    answer = await service.client.get("/health", headers=origin)

    assert preflight.status_code in {200, 204}
    assert "idempotency-key" in preflight.headers["Access-Control-Allow-Headers"].lower()
    assert "Idempotency-Replayed" in answer.headers["Access-Control-Expose-Headers"]
