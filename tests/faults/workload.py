"""Writers that note what the service has acknowledged, and check that it holds.

The outcome of a write without an answer is unknown. The write can still take effect later, when a
stopped process or a silent network goes on. So its writer leaves the task alone until that is past,
then reads it, and goes on from there.
"""
# [Task]: T090, T093, T094, T095, T132, T135, T137, T140, T141, T142, T143 [From]: specs/reliability.md, specs/features/task-crud.md

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from itertools import count
from random import Random
from typing import Any, TypeGuard
from uuid import uuid4

import httpx

from tests.faults.record import (
    ABSENT,
    REQUEST_TIMEOUT_SECONDS,
    Bulk,
    Event,
    Failure,
    Known,
    Record,
    Sent,
    State,
    Torn,
    Value,
    read_row,
    states_of,
    title_of,
)
from tests.faults.watching import version_of
from tests.service import User, watch_answer

# Longer than any answer takes to arrive.
CLIENT_TIMEOUT_SECONDS = REQUEST_TIMEOUT_SECONDS + 2
# Shorter than uvicorn's 5 s, so that both don't end an idle connection at the same moment.
KEEP_ALIVE_SECONDS = 2
PAUSE_SECONDS = 0.03
RETRY_SECONDS = 0.2
SETTLE_PATIENCE_SECONDS = 60

# A writer with this many tasks deletes some before it creates more.
MOST_TASKS = 40
MOST_AT_ONCE = 8
# With so many tags of lists a writer asks whether the list is one of these.
MOST_TAGS = 8
# A tag that no task ever has.
NO_TAG = '"x"'

SORT_KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "created": lambda row: row["id"],
    "updated": lambda row: (datetime.fromisoformat(row["updated_at"]), row["id"]),
    "title": lambda row: (row["title"].lower(), row["id"]),
}


class Writer:
    """One user, who sends one request after the other for tasks of its own, and some at the same moment."""

    def __init__(self, user: User, record: Record, chance: Random, pause: float) -> None:
        self.user = user
        self._pause = pause
        self.is_over = False
        self._record = record
        self._weather = record.weather
        self._chance = chance
        self._numbers = count(1)
        self._tasks: list[Known] = []
        self._sent: list[Sent] = []
        # The list as it was first seen with each tag.
        self._lists: dict[str, list[dict[str, Any]]] = {}
        record.owners.add(user.id)
        self._steps: dict[Callable[[], Awaitable[None]], int] = {
            self._create_with_key: 4,
            self._create: 3,
            self._replay: 1,
            self._reuse_key: 1,
            self._put: 6,
            self._put_too_late: 1,
            self._put_twice: 1,
            self._complete: 4,
            self._complete_list: 3,
            self._delete: 2,
            self._delete_list: 1,
            self._clear: 1,
            self._get: 2,
            self._list: 3,
            self._walk: 2,
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
        await self._settle_all()

    async def _send(
        self, method: str, path: str = "", tasks: Iterable[Known] = (), **kwargs: Any
    ) -> httpx.Response | None:
        """Returns the whole answer, or None if there is none or it is a 503: then the outcome is unknown."""
        begin, clock = self._weather.now(), time.time_ns() // 1000
        headers = kwargs.pop("headers", {})
        what = f"{method} {path or 'all'} {kwargs.get('json', '')} {headers}"
        if self._chance.random() < 0.1:
            # The next request gets a new connection, and perhaps another worker.
            headers = headers | {"Connection": "close"}
        if self._chance.random() < 0.3 and not path.startswith("/api/"):
            path = f"/api/tasks{path}"
        answer: httpx.Response | None = None
        try:
            answer = await self.user.request(method, path, headers=headers, **kwargs)
            outcome = str(answer.status_code)
        except httpx.TransportError as error:
            outcome = type(error).__name__
        end = self._weather.now()
        self._record.count["requests"] += 1
        what = f"{what} -> {outcome}, begun {begin:.3f}"
        for task in tasks:
            task.events.append(Event(end, what))
        if answer is not None and answer.status_code < 500:
            for version in versions_in(answer, clock):
                self._record.owe(self.user.id, version, end)
            return answer
        self._record.failures.append(Failure(begin, end, what))
        self._record.count["unanswered" if answer is None else f"{outcome}s"] += 1
        if answer is not None:
            self._check_failure(answer, what)
        return None

    def _check_failure(self, answer: httpx.Response, what: str) -> None:
        if answer.status_code != 503:
            self._record.accuse("unforeseen", f"{what}: {answer.text}")
        elif set(answer.json()) != {"detail"} or int(answer.headers.get("Retry-After", 0)) < 1:
            self._record.accuse("unclean", f"{what}: {answer.headers} {answer.text}")

    def _pick(self, number: int = 1, *, to_delete: bool = False) -> list[Known]:
        """Picks so many tasks that certainly exist, or fewer."""
        tasks = [
            task
            for task in self._tasks
            # A late attempt to create it would create another.
            if task.is_there and not (to_delete and self._may_be_made_again(task))
        ]
        return self._chance.sample(tasks, min(number, len(tasks)))

    def _pick_list(self, *, to_delete: bool = False) -> list[Known]:
        return self._pick(self._chance.randint(2, MOST_AT_ONCE), to_delete=to_delete)

    def _may_be_made_again(self, task: Known) -> bool:
        since = task.sent.unknown_since if task.sent else None
        return since is not None and not self._weather.is_settled(since)

    # Creating tasks.

    def _new(self) -> tuple[str, dict[str, Any], list[Known], Bulk]:
        """Returns the path and the body of a POST, for one task or for a list, and what it makes."""
        is_list, completed = self._chance.random() < 0.4, self._chance.random() < 0.3
        value = Value(0, completed)
        size = self._chance.randint(2, MOST_AT_ONCE) if is_list else 1
        tasks = [Known(0, self.user.id, f"{self.user.id}/{next(self._numbers)}", value) for _ in range(size)]
        bodies = [body_of(task.marker, 0) | ({"completed": True} if completed else {}) for task in tasks]
        bulk = {task.marker: (ABSENT, value) for task in tasks}
        return ("/bulk", {"tasks": bodies}, tasks, bulk) if is_list else ("", bodies[0], tasks, bulk)

    async def _create(self) -> None:
        """Creates tasks without a key, and so sends them only once."""
        if await self._makes_room():
            return
        path, body, tasks, bulk = self._new()
        answer = await self._send("POST", path, tasks, json=body)
        if answer is None:
            self._record.perhaps |= bulk.keys()
            self._record.bulks.append(bulk)
            self._record.count["unknown"] += 1
        else:
            self._add(answer, tasks)

    async def _create_with_key(self) -> None:
        """Sends tasks with a key again and again until they are acknowledged, sometimes twice at once."""
        if await self._makes_room():
            return
        path, body, tasks, bulk = self._new()
        sent = Sent(uuid4().hex, path, body, tasks)
        self._record.perhaps |= bulk.keys()
        self._record.bulks.append(bulk)
        is_twin = self._chance.random() < 0.25
        while True:
            answers = await asyncio.gather(*(self._send_keyed(sent, body) for _ in range(2 if is_twin else 1)))
            if acknowledged := [answer for answer in answers if answer is not None]:
                break
            await asyncio.sleep(RETRY_SECONDS)
        self._record.perhaps -= bulk.keys()
        self._record.bulks.remove(bulk)
        self._add(acknowledged[0], tasks, sent)
        for answer in acknowledged[1:]:
            self._check_answer(answer, 201, tasks)

    async def _send_keyed(self, sent: Sent, body: dict[str, Any]) -> httpx.Response | None:
        answer = await self._send("POST", sent.path, sent.tasks, json=body, headers={"Idempotency-Key": sent.key})
        if answer is None:
            sent.unknown_since = self._weather.now()
            self._record.count["unknown"] += 1
        elif answer.headers.get("Idempotency-Replayed") == "true":
            self._record.count["replayed"] += 1
        return answer

    def _add(self, answer: httpx.Response, tasks: list[Known], sent: Sent | None = None) -> None:
        rows = rows_of(answer) if answer.status_code == 201 else []
        ids = [row["id"] for row in rows]
        if len(rows) != len(tasks) or ids != sorted(ids):
            self._record.accuse("unexpected", f"{answer.status_code} {answer.text}", tasks[0])
            return
        for task, task_id in zip(tasks, ids, strict=True):
            if (other := self._record.known.get(task_id)) is not None:
                self._record.accuse("doubled", f"task {task_id} is {other.marker!r} already", task)
                return
            task.id, task.sent = task_id, sent
            self._record.known[task_id] = task
        self._tasks += tasks
        self._sent += [sent] if sent else []
        self._acknowledge(answer, 201, {task: task.state for task in tasks})

    def _pick_sent(self) -> Sent | None:
        """Picks a POST that has had its 201, and whose tasks are all there."""
        sent = [one for one in self._sent if all(task.is_there for task in one.tasks)]
        return self._chance.choice(sent) if sent else None

    async def _replay(self) -> None:
        if (sent := self._pick_sent()) and (answer := await self._send_keyed(sent, sent.body)) is not None:
            self._check_answer(answer, 201, sent.tasks)
            if answer.headers.get("Idempotency-Replayed") != "true":
                self._record.accuse("unexpected", "a replay that isn't called so", sent.tasks[0])

    async def _reuse_key(self) -> None:
        if sent := self._pick_sent():
            bodies = [body_of(task.marker, next(self._numbers)) for task in sent.tasks]
            answer = await self._send_keyed(sent, {"tasks": bodies} if sent.path else bodies[0])
            if answer is not None and answer.status_code != 422:
                message = f"{answer.status_code} {answer.text} for a key used before"
                self._record.accuse("unexpected", message, sent.tasks[0])

    async def _makes_room(self) -> bool:
        if sum(isinstance(task.state, Value) for task in self._tasks) < MOST_TASKS:
            return False
        await self._chance.choice([self._delete, self._delete_list, self._clear])()
        return True

    # Changing tasks.

    async def _put(self) -> None:
        """Changes a task, perhaps only if it has the tag that it should have."""
        for task in self._pick():
            wanted = self._new_value(task)
            headers = {"If-Match": task.tags[-1]} if self._chance.random() < 0.5 else {}
            method = self._chance.choice(["PUT", "PATCH"])
            await self._write(method, f"/{task.id}", {task: wanted}, json=change_of(task, wanted), headers=headers)

    async def _put_too_late(self) -> None:
        """Sends a change for a task that had this tag before, if ever."""
        for task in self._pick():
            tag = self._chance.choice([NO_TAG, *task.tags[-4:-1]])
            answer = await self._send_if(task, tag, self._new_value(task))
            if answer is not None:
                self._check_refusal(answer, task)

    async def _put_twice(self) -> None:
        """Sends two changes at once, each for a task that has the present tag: one is done."""
        for task in self._pick():
            tag, values = task.tags[-1], [self._new_value(task), self._new_value(task)]
            answers = await asyncio.gather(*(self._send_if(task, tag, value) for value in values))
            done = [value for value, answer in zip(values, answers, strict=True) if has_status(answer, 200)]
            unknown = [value for value, answer in zip(values, answers, strict=True) if answer is None]
            refusals = [answer for answer in answers if answer is not None and answer.status_code != 200]
            if len(done) > 1 or len(refusals) > 1:
                self._record.accuse("unexpected", f"of two changes {len(done)} were done", task)
            if not done and not refusals:
                self._doubt({task: unknown})
                return
            # If one was refused, the other was done, also without an answer.
            outcomes: list[State] = [*done, *unknown, task.state]
            task.settle(outcomes[0])
            task.is_checked = False
            self._record.count["acknowledged"] += 1
            for answer in answers:
                if has_status(answer, 200):
                    self._check_answer(answer, 200, [task])
            for refusal in refusals:
                if not done:
                    task.tags.append(refusal.headers.get("ETag", NO_TAG))
                self._check_refusal(refusal, task)

    async def _send_if(self, task: Known, tag: str, value: Value) -> httpx.Response | None:
        headers = {"If-Match": self._chance.choice([tag, f"W/{tag}", f"{NO_TAG}, {tag}"])}
        return await self._send("PUT", f"/{task.id}", [task], json=change_of(task, value), headers=headers)

    def _check_refusal(self, answer: httpx.Response, task: Known) -> None:
        self._record.count["refused"] += 1
        if (answer.status_code, answer.headers.get("ETag")) != (412, task.tags[-1]):
            message = f"{answer.status_code} {answer.headers} {answer.text} in place of a 412 with {task.tags[-1]}"
            self._record.accuse("unexpected", message, task)

    def _new_value(self, task: Known) -> Value:
        assert isinstance(task.state, Value)
        return Value(next(self._numbers), task.state.completed)

    async def _complete(self) -> None:
        """Flips a task or sets it."""
        for task in self._pick():
            assert isinstance(task.state, Value)
            completed, body = not task.state.completed, None
            if self._chance.random() < 0.5:
                completed = self._chance.random() < 0.5
                body = {"completed": completed}
            wanted = Value(task.state.number, completed)
            await self._write("PATCH", f"/{task.id}/complete", {task: wanted}, json=body)

    async def _complete_list(self) -> None:
        """Sets several tasks, sometimes twice at once and in another order."""
        if not (tasks := self._pick_list()):
            return
        completed = self._chance.random() < 0.5
        changes: dict[Known, State] = {
            task: Value(task.state.number, completed) for task in tasks if isinstance(task.state, Value)
        }
        bodies = [{"ids": [task.id for task in tasks], "completed": completed}]
        if self._chance.random() < 0.3:
            bodies.append(bodies[0] | {"ids": [task.id for task in reversed(tasks)]})
        await asyncio.gather(*(self._write("PATCH", "/bulk", changes, json=body) for body in bodies))

    async def _delete(self) -> None:
        for task in self._pick(to_delete=True):
            await self._write("DELETE", f"/{task.id}", {task: ABSENT})

    async def _delete_list(self) -> None:
        if tasks := self._pick_list(to_delete=True):
            ids = ",".join(str(task.id) for task in tasks)
            await self._write("DELETE", f"?ids={ids}", dict.fromkeys(tasks, ABSENT))

    async def _clear(self) -> None:
        """Deletes all completed tasks, unless one may be made again. While it may come late, nothing is completed."""
        tasks = [task for task in self._tasks if isinstance(task.state, Value) and task.state.completed]
        is_certain = not any(task.perhaps for task in self._tasks)
        if tasks and is_certain and not any(map(self._may_be_made_again, tasks)):
            await self._write("DELETE", "?status=completed", dict.fromkeys(tasks, ABSENT))
            await self._settle_all()

    async def _write(self, method: str, path: str, changes: dict[Known, State], **kwargs: Any) -> None:
        """Sends a write that brings these tasks to these states, and notes the outcome."""
        answer = await self._send(method, path, changes, **kwargs)
        if answer is None:
            self._doubt({task: [wanted] for task, wanted in changes.items()})
        else:
            status = 204 if method == "DELETE" and "?" not in path else 200
            self._acknowledge(answer, status, changes)

    def _doubt(self, changes: dict[Known, list[Any]]) -> None:
        """Notes a write of unknown outcome, which leads to one of these states of each task, or to none."""
        self._record.count["unknown"] += 1
        self._record.bulks.append({task.marker: (task.state, wanted[0]) for task, wanted in changes.items()})
        now = self._weather.now()
        for task, wanted in changes.items():
            task.perhaps, task.unknown_since = (*task.perhaps, *wanted), now

    def _acknowledge(self, answer: httpx.Response, status: int, changes: dict[Known, State]) -> None:
        """Notes that these tasks have these states now."""
        tasks = sorted(changes, key=lambda task: task.id)
        if answer.status_code == status:
            self._record.count["acknowledged"] += len(tasks)
            self._record.count["bulk"] += len(tasks) > 1
            for task, wanted in changes.items():
                task.state = wanted
            if answer.content:
                self._check_answer(answer, status, tasks)
            for task in tasks:
                task.is_checked = False
        elif answer.status_code == 404:
            self._record.accuse("lost", "404 for a task that is there", tasks[0])
            tasks[0].settle(ABSENT)
        else:
            self._record.accuse("unexpected", f"{answer.status_code} {answer.text}", tasks[0])

    # Reading.

    async def _settle_all(self) -> None:
        async with asyncio.timeout(SETTLE_PATIENCE_SECONDS):
            while any(task.perhaps for task in self._tasks):
                await asyncio.sleep(RETRY_SECONDS)
                await self._settle()

    async def _settle(self) -> None:
        """Reads the tasks of unknown state that can't change any more."""
        waiting = [
            task
            for task in self._tasks
            if task.unknown_since is not None and self._weather.is_settled(task.unknown_since)
        ]
        if waiting and (seen := await self._read(waiting)) is not None:
            for task in waiting:
                task.settle(seen[task])
            markers = {task.marker for task in waiting}
            self._record.bulks = [bulk for bulk in self._record.bulks if not bulk.keys() & markers]

    async def _read(self, tasks: list[Known]) -> dict[Known, State] | None:
        """Reads one task, or several at the same moment."""
        if len(tasks) > 1:
            return await self._read_list()
        answer = await self._send("GET", f"/{tasks[0].id}", tasks)
        return None if answer is None else self._check_answer(answer, 200, tasks)

    async def _get(self) -> None:
        if self._tasks:
            await self._read([self._chance.choice(self._tasks)])

    async def _list(self) -> None:
        await self._read_list()

    async def _read_list(self) -> dict[Known, State] | None:
        """Reads the whole list, or learns by a tag of it that it is as it was."""
        tags = list(self._lists)[-MOST_TAGS:]
        answer = await self._send("GET", "?limit=1000", headers={"If-None-Match": ", ".join(tags)})
        if answer is None:
            return None
        tag = answer.headers.get("ETag", "")
        if answer.status_code == 304:
            self._record.count["unchanged"] += 1
        elif self._lists.setdefault(tag, answer.json()) != answer.json():
            self._record.accuse("stale", f"{tag} is the tag of {self._lists[tag]} and of {answer.json()}")
        seen = self._see_rows(self._lists[tag], self._tasks, "the list")
        self._record.check_bulks(states_of(self._lists[tag]), self.user.id)
        return seen

    async def _walk(self) -> None:
        """Reads the list page by page in one of its orders: what is there all the time is there once."""
        sort, order = self._chance.choice(list(SORT_KEYS)), self._chance.choice(["asc", "desc"])
        completed = self._chance.choice([None, False, True])
        status = {None: "all", False: "pending", True: "completed"}[completed]
        path = f"?sort={sort}&order={order}&status={status}&limit={self._chance.randint(3, 15)}"
        rows: list[dict[str, Any]] = []
        while path:
            answer = await self._send("GET", path)
            if not has_status(answer, 200):
                if answer is not None:
                    self._record.accuse("unexpected", f"{path} is {answer.status_code} {answer.text}")
                return
            page = answer.json()
            if page != sorted(page, key=SORT_KEYS[sort], reverse=order == "desc"):
                self._record.accuse("unexpected", f"{path} is {page}")
            rows += page
            path = answer.links.get("next", {}).get("url", "")
        tasks = [
            task
            for task in self._tasks
            if task.is_there and isinstance(task.state, Value) and completed in {None, task.state.completed}
        ]
        self._see_rows(rows, tasks, "a page")
        times = Counter(row["id"] for row in rows)
        for task in tasks:
            if times[task.id] > 1:
                self._record.accuse("doubled", f"is on {times[task.id]} pages by {sort}", task)

    async def _pry(self) -> None:
        """Asks for somebody else's task, and for changes of it."""
        others = [task for task in self._record.known.values() if task.owner != self.user.id]
        if not others:
            return
        task = self._chance.choice(others)
        body = {"ids": [task.id], "completed": True}
        for method, path, status, content in (
            ("GET", f"/{task.id}", 404, {"detail": "Task not found"}),
            ("PATCH", "/bulk", 200, []),
            ("DELETE", f"?ids={task.id}", 200, {"ids": []}),
        ):
            answer = await self._send(method, path, json=body if method == "PATCH" else None)
            if answer is not None and (answer.status_code, answer.json()) != (status, content):
                self._record.accuse("foreign", f"{self.user.id} sees {answer.text}", task)

    def _check_answer(self, answer: httpx.Response, status: int, tasks: list[Known]) -> dict[Known, State]:
        """Returns the states in the answer, which has to have just these tasks, each in a state that it may have."""
        rows = rows_of(answer) if answer.status_code == status else []
        if answer.status_code not in {status, 404}:
            self._record.accuse("unexpected", f"{answer.status_code} {answer.text}", tasks[0])
        elif {"ids"} in map(set, rows):
            # The answer to a deletion; POSTs without an answer may have made others.
            deleted = rows[0]["ids"]
            if deleted != sorted(deleted) or set(deleted) & self._record.known.keys() != {task.id for task in tasks}:
                self._record.accuse("unexpected", f"{deleted} in place of {[task.id for task in tasks]}", tasks[0])
            return dict.fromkeys(tasks, ABSENT)
        elif rows and [row["id"] for row in rows] != [task.id for task in tasks]:
            self._record.accuse("doubled", f"is also among {rows}", tasks[0])
        return self._see_rows(rows, tasks, "the answer")

    def _see_rows(self, rows: list[dict[str, Any]], tasks: list[Known], where: str) -> dict[Known, State]:
        """Compares these tasks with the rows, which may have others by POSTs without an answer."""
        states = {row["id"]: self._check_row(row) for row in rows}
        seen = {task: states.get(task.id, ABSENT) for task in tasks}
        for task, state in seen.items():
            self._record.see(task, state, where)
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
        tag = f'"{row["updated_at"]}"'
        if task is not None and tag not in task.tags[-1:]:
            task.tags.append(tag)
        return value


def rows_of(answer: httpx.Response) -> list[dict[str, Any]]:
    content = answer.json()
    return content if isinstance(content, list) else [content]


def versions_in(answer: httpx.Response, begin: int) -> Iterator[int]:
    """Yields the versions of the list that this answer shows, or lower bounds of them: the tag of a list, the times of
    tasks, and for a deletion when its request began, in microseconds since the epoch.
    """
    if (tag := answer.headers.get("ETag", "")).startswith("W/"):
        yield version_of(tag)
    if answer.is_success and answer.content:
        for row in rows_of(answer):
            if "updated_at" in row:
                yield round(datetime.fromisoformat(row["updated_at"]).timestamp() * 1e6)
            elif row["ids"]:
                yield begin
    elif answer.is_success:
        yield begin


def has_status(answer: httpx.Response | None, status: int) -> TypeGuard[httpx.Response]:
    return answer is not None and answer.status_code == status


def change_of(task: Known, value: Value) -> dict[str, Any]:
    return body_of(task.marker, value.number)


def body_of(marker: str, number: int) -> dict[str, Any]:
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
