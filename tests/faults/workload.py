"""Writers that note what the service has acknowledged, and check that it holds.

The outcome of a write without an answer is unknown. The write can still take effect later, when a
stopped process or a silent network goes on. So its writer leaves the task alone until that is past,
then reads it, and goes on from there.
"""
# [Task]: T090, T093, T094, T095 [From]: specs/reliability.md

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from random import Random
from typing import Any
from uuid import uuid4

import httpx

from tests.faults.record import (
    ABSENT,
    REQUEST_TIMEOUT_SECONDS,
    Event,
    Failure,
    Known,
    Record,
    State,
    Torn,
    Value,
    read_row,
    title_of,
)
from tests.service import User, watch_answer

# Longer than any answer takes to arrive.
CLIENT_TIMEOUT_SECONDS = REQUEST_TIMEOUT_SECONDS + 2
# Shorter than uvicorn's 5 s, so that both don't end an idle connection at the same moment.
KEEP_ALIVE_SECONDS = 2
PAUSE_SECONDS = 0.03
RETRY_SECONDS = 0.2
SETTLE_PATIENCE_SECONDS = 60

# A writer with this many tasks deletes one for each that it creates.
MOST_TASKS = 40


class Writer:
    """One user, who sends one request after the other for tasks of its own."""

    def __init__(self, user: User, record: Record, chance: Random, pause: float) -> None:
        self.user = user
        self._pause = pause
        self.is_over = False
        self._record = record
        self._weather = record.weather
        self._chance = chance
        self._numbers = count(1)
        self._tasks: list[Known] = []
        record.owners.add(user.id)
        self._steps: dict[Callable[[], Awaitable[None]], int] = {
            self._post_with_key: 4,
            self._post: 3,
            self._replay: 1,
            self._reuse_key: 1,
            self._put: 6,
            self._toggle: 4,
            self._delete: 2,
            self._get: 2,
            self._list: 2,
            self._pry: 1,
        }

    async def run(self) -> None:
        """Works until told to end, and then until nothing is unknown."""
        steps, weights = list(self._steps), list(self._steps.values())
        while not self.is_over:
            (step,) = self._chance.choices(steps, weights)
            await step()
            await self._settle()
            await asyncio.sleep(self._chance.uniform(0, 2 * self._pause))
        async with asyncio.timeout(SETTLE_PATIENCE_SECONDS):
            while any(task.perhaps is not None for task in self._tasks):
                await asyncio.sleep(RETRY_SECONDS)
                await self._settle()

    async def _send(
        self, method: str, path: str = "", task: Known | None = None, **kwargs: Any
    ) -> httpx.Response | None:
        """Returns the whole answer, or None if there is none or it is a 503: then the outcome is unknown."""
        begin = self._weather.now()
        headers = kwargs.pop("headers", {})
        if self._chance.random() < 0.1:
            # The next request gets a new connection, and perhaps another worker.
            headers["Connection"] = "close"
        answer: httpx.Response | None = None
        try:
            answer = await self.user.request(method, path, headers=headers, **kwargs)
            outcome = str(answer.status_code)
        except httpx.TransportError as error:
            outcome = type(error).__name__
        end = self._weather.now()
        self._record.count["requests"] += 1
        what = f"{method} {path or 'all'} {kwargs.get('json', '')} -> {outcome}, begun {begin:.3f}"
        if task is not None:
            task.events.append(Event(end, what))
        if answer is not None and answer.status_code < 500:
            return answer
        self._record.failures.append(Failure(begin, end, what))
        self._record.count["unanswered" if answer is None else f"{outcome}s"] += 1
        if answer is not None:
            self._check_failure(answer, what, task)
        return None

    def _check_failure(self, answer: httpx.Response, what: str, task: Known | None) -> None:
        if answer.status_code != 503:
            self._record.accuse("unforeseen", f"{what}: {answer.text}", task)
        elif set(answer.json()) != {"detail"} or int(answer.headers.get("Retry-After", 0)) < 1:
            self._record.accuse("unclean", f"{what}: {answer.headers} {answer.text}", task)

    def _pick(self, *, to_delete: bool = False) -> Known | None:
        """Picks a task that certainly exists."""
        tasks = [
            task
            for task in self._tasks
            if task.perhaps is None
            and isinstance(task.state, Value)
            # A late attempt to create it would create another.
            and not (to_delete and self._may_be_made_again(task))
        ]
        return self._chance.choice(tasks) if tasks else None

    def _may_be_made_again(self, task: Known) -> bool:
        since = task.attempt_unknown_since
        return since is not None and not self._weather.is_settled(since)

    # Creating tasks.

    def _new_body(self) -> tuple[str, dict[str, str]]:
        marker = f"{self.user.id}/{next(self._numbers)}"
        return marker, body_of(marker, 0)

    async def _post(self) -> None:
        """Creates a task without a key, and so sends it only once."""
        if await self._makes_room():
            return
        marker, body = self._new_body()
        answer = await self._send("POST", json=body)
        if answer is None:
            self._record.perhaps.add(marker)
            self._record.count["unknown"] += 1
        else:
            self._add(answer, Known(0, self.user.id, marker, Value(0, completed=False)))

    async def _post_with_key(self) -> None:
        """Sends a task with a key again and again until it is acknowledged, sometimes twice at once."""
        if await self._makes_room():
            return
        marker, body = self._new_body()
        task = Known(0, self.user.id, marker, Value(0, completed=False), uuid4().hex, body)
        self._record.perhaps.add(marker)
        is_twin = self._chance.random() < 0.25
        while True:
            answers = await asyncio.gather(*(self._send_keyed(task, body) for _ in range(2 if is_twin else 1)))
            if acknowledged := [answer for answer in answers if answer is not None]:
                break
            await asyncio.sleep(RETRY_SECONDS)
        self._record.perhaps.discard(marker)
        self._add(acknowledged[0], task)
        for answer in acknowledged[1:]:
            self._check_task(answer, 201, task)

    async def _send_keyed(self, task: Known, body: dict[str, str]) -> httpx.Response | None:
        answer = await self._send("POST", "", task, json=body, headers={"Idempotency-Key": task.key})
        if answer is None:
            task.attempt_unknown_since = self._weather.now()
            self._record.count["unknown"] += 1
        elif answer.headers.get("Idempotency-Replayed") == "true":
            self._record.count["replayed"] += 1
        return answer

    def _add(self, answer: httpx.Response, task: Known) -> None:
        if answer.status_code != 201:
            self._record.accuse("unexpected", f"{answer.status_code} {answer.text}", task)
            return
        task.id = answer.json()["id"]
        if (other := self._record.known.get(task.id)) is not None:
            self._record.accuse("doubled", f"task {task.id} is {other.marker!r} already", task)
            return
        self._tasks.append(task)
        self._record.known[task.id] = task
        self._acknowledge(answer, 201, task, task.state)

    async def _replay(self) -> None:
        """Sends a request again that has had its 201."""
        task = self._pick()
        if task is not None and task.key is not None:
            answer = await self._send_keyed(task, task.body)
            if answer is not None:
                self._check_task(answer, 201, task)
                if answer.headers.get("Idempotency-Replayed") != "true":
                    self._record.accuse("unexpected", "a replay that isn't called so", task)

    async def _reuse_key(self) -> None:
        task = self._pick()
        if task is not None and task.key is not None:
            answer = await self._send_keyed(task, body_of(task.marker, next(self._numbers)))
            if answer is not None and answer.status_code != 422:
                message = f"{answer.status_code} {answer.text} for a key used before"
                self._record.accuse("unexpected", message, task)

    async def _makes_room(self) -> bool:
        if sum(isinstance(task.state, Value) for task in self._tasks) < MOST_TASKS:
            return False
        await self._delete()
        return True

    # Changing tasks.

    async def _put(self) -> None:
        if (task := self._pick()) is not None and isinstance(task.state, Value):
            wanted = Value(next(self._numbers), task.state.completed)
            answer = await self._send("PUT", f"/{task.id}", task, json=body_of(task.marker, wanted.number))
            self._acknowledge(answer, 200, task, wanted)

    async def _toggle(self) -> None:
        if (task := self._pick()) is not None and isinstance(task.state, Value):
            wanted = Value(task.state.number, not task.state.completed)
            answer = await self._send("PATCH", f"/{task.id}/complete", task)
            self._acknowledge(answer, 200, task, wanted)

    async def _delete(self) -> None:
        if (task := self._pick(to_delete=True)) is not None:
            answer = await self._send("DELETE", f"/{task.id}", task)
            self._acknowledge(answer, 204, task, ABSENT)

    def _acknowledge(self, answer: httpx.Response | None, status: int, task: Known, wanted: State) -> None:
        """Notes the outcome of a write."""
        if answer is None:
            task.perhaps, task.unknown_since = wanted, self._weather.now()
            self._record.count["unknown"] += 1
        elif answer.status_code == status:
            self._record.count["acknowledged"] += 1
            task.settle(wanted)
            if answer.content:
                self._check_task(answer, status, task)
            task.is_checked = False
        elif answer.status_code == 404:
            self._record.accuse("lost", "404 for a task that is there", task)
            task.settle(ABSENT)
        else:
            self._record.accuse("unexpected", f"{answer.status_code} {answer.text}", task)

    # Reading.

    async def _settle(self) -> None:
        """Reads the tasks of unknown state that can't change any more."""
        for task in self._tasks:
            if task.unknown_since is not None and self._weather.is_settled(task.unknown_since):
                answer = await self._send("GET", f"/{task.id}", task)
                if answer is not None:
                    task.settle(self._check_task(answer, 200, task))

    async def _get(self) -> None:
        if self._tasks:
            task = self._chance.choice(self._tasks)
            answer = await self._send("GET", f"/{task.id}", task)
            if answer is not None:
                self._check_task(answer, 200, task)

    async def _list(self) -> None:
        answer = await self._send("GET", "?limit=1000")
        if answer is None:
            return
        seen = {row["id"]: self._check_row(row) for row in answer.json()}
        for task in self._tasks:
            self._record.see(task, seen.pop(task.id, ABSENT), "the list")
        # The remaining tasks were created by POSTs without an answer.

    async def _pry(self) -> None:
        """Asks for somebody else's task."""
        others = [task for task in self._record.known.values() if task.owner != self.user.id]
        if others:
            task = self._chance.choice(others)
            answer = await self._send("GET", f"/{task.id}")
            if answer is not None and answer.status_code != 404:
                self._record.accuse("foreign", f"{self.user.id} sees {answer.text}", task)

    def _check_task(self, answer: httpx.Response, status: int, task: Known) -> State:
        """Returns the state in the answer, which has to be one that the task may have."""
        seen: State = ABSENT
        if answer.status_code == status:
            row = answer.json()
            if row["id"] != task.id:
                self._record.accuse("doubled", f"is also {row}", task)
            seen = self._check_row(row)
        elif answer.status_code != 404:
            self._record.accuse("unexpected", f"{answer.status_code} {answer.text}", task)
        self._record.see(task, seen, "the answer")
        return seen

    def _check_row(self, row: dict[str, Any]) -> State:
        task = self._record.known.get(row["id"])
        try:
            marker, value = read_row(row)
        except Torn as torn:
            self._record.accuse("half written", str(torn), task)
            return ABSENT
        expected = self._record.perhaps if task is None else {task.marker}
        if row["user_id"] != self.user.id or not marker.startswith(f"{self.user.id}/"):
            self._record.accuse("foreign", f"{self.user.id} sees {row}", task)
        elif marker not in expected:
            self._record.accuse("doubled", f"{row} is there", task)
        return value


def body_of(marker: str, number: int) -> dict[str, str]:
    return dict.fromkeys(("title", "description"), title_of(marker, number))


@asynccontextmanager
async def writing(
    record: Record, base_url: str, chance: Random, number: int, pause: float = PAUSE_SECONDS
) -> AsyncIterator[list[Writer]]:
    """Runs so many writers, with a pause after each request, until nothing is unknown."""
    async with AsyncExitStack() as stack:
        writers = []
        for _ in range(number):
            client = httpx.AsyncClient(
                base_url=base_url,
                timeout=CLIENT_TIMEOUT_SECONDS,
                limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
                event_hooks={"response": [watch_answer]},
            )
            user = User(await stack.enter_async_context(client))
            writers.append(Writer(user, record, Random(chance.random()), pause))
        async with asyncio.TaskGroup() as group:
            for writer in writers:
                group.create_task(writer.run())
            yield writers
            for writer in writers:
                writer.is_over = True
