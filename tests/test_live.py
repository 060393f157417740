"""Live changes: streams that tell that a list has changed."""
# [Task]: T147, T148, T149, T150, T154 [From]: specs/features/live-changes.md

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest

from live import Stream as LiveStream
from live import Watch
from main import create_app
from routes.events import PAUSE_SECONDS
from tests.conftest import BACKENDS
from tests.databases import MakeDatabase
from tests.outside import run_sql, transaction
from tests.service import Service, bearer, counted, make_settings, make_token, running
from tests.streams import (
    INSERT,
    NEVER,
    OFTEN,
    ORIGIN,
    asking_often,
    assert_refused,
    list_id,
    note_questions,
    open_streams,
    ready,
    watching,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("without_pause")


class Workers(NamedTuple):
    """Two workers on one database: one that is told only of what it changes itself, and one that asks often."""

    own: Service
    other: Service


@pytest.fixture(scope="module", params=BACKENDS)
async def workers(request: pytest.FixtureRequest, make_database: MakeDatabase) -> AsyncIterator[Workers]:
    url = await make_database(request.param)
    own = make_settings(database_url=url, live_interval=NEVER)
    async with running(own) as owns, asking_often(database_url=url) as others:
        yield Workers(owns, others)


@pytest.mark.requirement("T147")
async def test_a_stream_begins_with_the_lists_version(workers: Workers) -> None:
    user = workers.own.user()
    for _ in range(2):
        async with watching(workers.own.app, user, headers={"Origin": ORIGIN}) as stream:
            event = await stream.next()

            assert (event.event, event.id, event.data) == ("ready", await list_id(user), "{}")
            assert 1000 <= int(event.retry) <= 5000
            headers = stream.response.headers
            assert stream.response.status_code == 200
            assert headers["Content-Type"] == "text/event-stream"
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Accel-Buffering"] == "no"
            assert headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "X-Request-ID" in headers
            assert "Content-Length" not in headers
            await user.new_task()
            event = await stream.next()
            assert vars(event) == {"event": "changed", "id": await list_id(user), "data": "{}", "retry": ""}


@pytest.mark.requirement("T147")
async def test_clients_come_back_at_different_times(plain_service: Service) -> None:
    retries = set()
    for _ in range(5):
        async with watching(plain_service.app, "somebody") as stream:
            retries.add((await stream.next()).retry)

    assert len(retries) > 1


@pytest.mark.requirement("T148")
@pytest.mark.parametrize("path", ["/api/{}/tasks", "/api/tasks"])
async def test_each_write_is_told_at_once(workers: Workers, path: str) -> None:
    user = workers.own.user()
    tasks = path.format(user.id)
    many = {"tasks": [{"title": "x"}, {"title": "y"}]}
    async with watching(workers.own.app, user, path=f"{tasks}/events") as stream:
        await ready(stream)

        async def write(method: str, path: str, content: object = None) -> Any:
            answer = await user.request(method, tasks + path, **({} if content is None else {"json": content}))
            assert answer.is_success, answer.text
            event = await stream.next()
            assert (event.event, event.id) == ("changed", await list_id(user))
            return answer.content and answer.json()

        task_id = (await write("POST", "", {"title": "x"}))["id"]
        await write("PUT", f"/{task_id}", {"title": "y"})
        await write("PATCH", f"/{task_id}", {"title": "z"})
        await write("PATCH", f"/{task_id}/complete")
        await write("DELETE", f"/{task_id}")
        ids = [task["id"] for task in await write("POST", "/bulk", many)]
        await write("PATCH", "/bulk", {"ids": ids, "completed": True})
        await write("DELETE", f"?ids={ids[0]}")
        await write("DELETE", "?status=completed")


@pytest.mark.requirement("T148")
async def test_what_another_worker_changes_is_told(workers: Workers) -> None:
    here, there = workers.other.user("ada"), workers.own.user("ada")
    async with watching(workers.other.app, here) as stream:
        await ready(stream)
        task = await there.new_task()
        await stream.told(await list_id(here))
        await there.delete(task["id"])
        await stream.told(await list_id(here))


@pytest.mark.requirement("T148")
async def test_sql_from_outside_is_told(workers: Workers) -> None:
    service = workers.other
    ada, bob = service.user(), service.user()
    async with watching(service.app, ada) as adas, watching(service.app, bob) as bobs:
        await ready(adas)
        await ready(bobs)

        await run_sql(service, INSERT, user=ada.id)
        await adas.told(await list_id(ada))

        await run_sql(service, "UPDATE task SET user_id = :bob WHERE user_id = :ada", ada=ada.id, bob=bob.id)
        await adas.told(await list_id(ada))
        await bobs.told(await list_id(bob))

        await run_sql(service, "DELETE FROM task WHERE user_id = :bob", bob=bob.id)
        await bobs.told(await list_id(bob))

        if service.backend == "postgresql":
            await run_sql(service, "TRUNCATE task")
            await adas.told(await list_id(ada))
            await bobs.told(await list_id(bob))


@pytest.mark.requirement("T148")
async def test_a_transaction_that_commits_late_is_told(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    service, user, asked = workers.other, workers.other.user(), note_questions(monkeypatch)
    async with watching(service.app, user) as stream:
        begun = await ready(stream)
        async with transaction(service) as execute:
            await execute(INSERT, user=user.id)
            before = len(asked)

            async def was_asked_meanwhile() -> bool:
                return len(asked) > before + 1

            await until(was_asked_meanwhile)
            assert [event.id for event in stream.events] == [begun]

        assert (await stream.next()).id == await list_id(user)


@pytest.mark.requirement("T148")
async def test_changes_close_together_are_few_events(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routes.events.PAUSE_SECONDS", PAUSE_SECONDS)
    user = workers.own.user()
    before = counted("events_told")
    async with watching(workers.own.app, user) as stream:
        await ready(stream)
        started = time.monotonic()
        while time.monotonic() < started + 0.5:
            await user.new_task()
        told = await stream.told(await list_id(user))
        seconds = time.monotonic() - started

    assert len((await user.get("?limit=1000")).json()) > len(told)
    assert len(told) <= 10 * seconds + 1
    assert counted("events_told") == before + len(told)


@pytest.mark.requirement("T148", "T150")
async def test_a_query_names_exactly_the_users_who_look(often: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = note_questions(monkeypatch)

    async def names(*users: str) -> None:
        async def are_named() -> bool:
            return bool(asked) and sorted(asked[-1]) == sorted(users)

        await until(are_named)

    await often.user("cyd").new_task()
    assert asked == []
    async with watching(often.app, "ada"):
        await names("ada")
        async with watching(often.app, "bob"), watching(often.app, "bob"):
            await names("ada", "bob")
        await names("ada")
    asked.clear()
    await often.user("ada").new_task()
    await asyncio.sleep(3 * OFTEN)
    assert asked == []


@pytest.mark.requirement("T148")
async def test_a_stream_holds_no_connection(make_database: MakeDatabase) -> None:
    pool = {"database_url": await make_database("postgresql"), "db_pool_size": 1, "db_max_overflow": 0}
    async with asking_often(**pool) as service, AsyncExitStack() as stack:
        users = [service.user() for _ in range(10)]
        streams = [await stack.enter_async_context(watching(service.app, user)) for user in users]
        for user, stream in zip(users, streams, strict=True):
            await user.new_task()
            await stream.told(await list_id(user))


async def learned(*answers: tuple[int, int]) -> tuple[int, list[int]]:
    """The version that is known after these answers, and which of them woke a stream."""
    watch, woken = Watch(), []
    stream = LiveStream(watch)
    watch.streams.add(stream)
    for query, version in answers:
        watch.learn(query, version)
        if stream.woken.done():
            woken.append(query)
            await stream.wait(until=0)
    return watch.version, woken


@pytest.mark.requirement("T148")
async def test_a_late_answer_does_not_replace_a_newer_one() -> None:
    assert await learned((1, 10), (2, 10), (3, 11)) == (11, [3])
    assert await learned((2, 11), (1, 10)) == (11, [])
    # A version that was restored, and that of a user who is gone.
    assert await learned((1, 11), (2, 10), (3, 0)) == (0, [2, 3])


@pytest.mark.requirement("T148")
async def test_a_version_that_goes_down_is_told(workers: Workers) -> None:
    service, user = workers.other, workers.other.user()
    await user.new_task()
    async with watching(service.app, user) as stream:
        await ready(stream)
        await run_sql(service, "UPDATE task_list_version SET version = 1 WHERE user_id = :user", user=user.id)
        assert (await stream.next()).id == await list_id(user)
        await run_sql(service, "DELETE FROM task_list_version WHERE user_id = :user", user=user.id)
        assert (await stream.next()).id == await list_id(user)


@pytest.mark.requirement("T149")
@pytest.mark.parametrize("last_ids", [(), ("",), ("NOW",), (" NOW ",)])
async def test_nothing_is_told_where_nothing_was_missed(service: Service, last_ids: tuple[str, ...]) -> None:
    user = service.user()
    await user.new_task()
    now = await list_id(user)
    async with watching(service.app, user, *(one.replace("NOW", now) for one in last_ids)) as stream:
        assert await ready(stream) == now
        await user.new_task()
        assert (await stream.next()).id == await list_id(user) != now


@pytest.mark.requirement("T149")
@pytest.mark.parametrize(
    "last_ids", [("NOW0",), ("0",), ('W/"NOW"',), ("x" * 64,), ("\xff'; --",), ("NOW", "NOW"), ("", "NOW")]
)
async def test_what_was_missed_is_told_at_once(service: Service, last_ids: tuple[str, ...]) -> None:
    user = service.user()
    now = await list_id(user)
    async with watching(service.app, user, *(one.replace("NOW", now) for one in last_ids)) as stream:
        assert await ready(stream) == now
        assert vars(await stream.next()) == {"event": "changed", "id": now, "data": "{}", "retry": ""}


@pytest.mark.requirement("T149", "T150")
async def test_a_last_event_id_is_at_most_64_characters(plain_service: Service) -> None:
    async with watching(plain_service.app, "ada", "x" * 65, headers={"Origin": ORIGIN}) as stream:
        assert_refused(stream, 422)
        (error,) = stream.response.json()["detail"]
        assert error["loc"] == ["header", "Last-Event-ID"]


@pytest.mark.requirement("T150")
@pytest.mark.parametrize(
    ("headers", "status"), [({"Authorization": ""}, 401), (bearer("x"), 401), (bearer(make_token("bob")), 403)]
)
async def test_a_stream_needs_the_users_token(plain_service: Service, headers: dict[str, str], status: int) -> None:
    async with watching(plain_service.app, "ada", headers=headers | {"Origin": ORIGIN}) as stream:
        assert_refused(stream, status)
    assert open_streams() == 0


@pytest.mark.requirement("T150")
async def test_nobody_is_told_of_another_users_changes(workers: Workers) -> None:
    ada, bob = workers.other.user(), workers.other.user()
    async with watching(workers.other.app, ada) as adas, watching(workers.other.app, bob) as bobs:
        mark = (await ready(adas)).partition("-")[0]
        await ready(bobs)
        for service in workers:
            for _ in range(10):
                await service.user(bob.id).new_task()
            await bobs.told(await list_id(bob))
        assert len(adas.events) == 1
        await ada.new_task()
        event = await adas.next()
        assert event.id == await list_id(ada)
        assert event.id.startswith(f"{mark}-")


@pytest.mark.requirement("T154")
async def test_events_is_a_path_of_its_own(service: Service) -> None:
    user = service.user()
    for base in (user.tasks_path, "/api/tasks"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = await user.request(method, f"{base}/events")
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
        async with watching(service.app, user, path=f"{base}/events/") as stream:
            await ready(stream)
        answer = await user.request("OPTIONS", f"{base}/events")
        assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


@pytest.mark.requirement("T154")
async def test_head_has_a_streams_headers_and_ends(service: Service) -> None:
    user = service.user()

    answer = await user.request("HEAD", "/events")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert (await user.request("HEAD", "/api/somebody/tasks/events")).status_code == 403
    assert open_streams() == 0


@pytest.mark.requirement("T147", "T149")
def test_the_document_describes_the_stream() -> None:
    paths = create_app(make_settings()).openapi()["paths"]
    operation = paths["/api/{user_id}/tasks/events"]["get"]

    (content,) = operation["responses"]["200"]["content"].items()
    assert content[0] == "text/event-stream"
    assert content[1]["schema"] == {"type": "string"}
    assert content[1]["itemSchema"]["properties"].keys() == {"event", "id", "data", "retry"}
    for status in ("401", "403", "422", "429", "503"):
        assert set(operation["responses"][status]["content"]) == {"application/json"}
    assert {"Retry-After"} == set(operation["responses"]["429"]["headers"])
    (last_id,) = [one for one in operation["parameters"] if one["in"] == "header"]
    assert last_id["name"] == "Last-Event-ID"
    assert not last_id.get("required")
    assert last_id["schema"] == {"type": "string", "maxLength": 64}
