"""Three users do whatever Hypothesis generates, and a dictionary models the result."""
# [Task]: T001, T002, T003, T004, T005, T006, T011, T013, T020, T129, T130, T131, T132, T133, T135, T136, T137, T138, T139, T140, T141, T142, T144 [From]: specs/features/task-crud.md, specs/features/authentication.md

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import cycle
from typing import Any, ClassVar
from uuid import uuid4

import httpx
import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.leaks import watch
from tests.search import SEARCH, SEED
from tests.service import bearer, make_token

Task = dict[str, Any]

USERS = st.sampled_from([0, 1, 2])
# Text that Postgres and JSON can hold, and whose lower case is the same in every locale.
CASED = [letter for letter in map(chr, range(128, 0x110000)) if letter != letter.lower()]
TEXT = st.characters(exclude_characters=["\0", *CASED], exclude_categories=["Cs"])
TITLES = st.text(TEXT, min_size=1, max_size=200).filter(str.strip)
DESCRIPTIONS = st.none() | st.text(TEXT, max_size=1000)
CREATIONS = st.fixed_dictionaries(
    {"title": TITLES}, optional={"description": DESCRIPTIONS, "completed": st.booleans(), "user_id": st.text(TEXT)}
)
UPDATES = st.fixed_dictionaries(
    {}, optional={"title": TITLES, "description": DESCRIPTIONS, "completed": st.booleans(), "id": st.integers()}
)
COMPLETIONS = st.fixed_dictionaries({}, optional={"completed": st.booleans()})
# A method, the end of the path, and the body.
WRITES = st.one_of(
    st.tuples(st.sampled_from(["PUT", "PATCH"]), st.just(""), UPDATES),
    st.tuples(st.just("PATCH"), st.just("/complete"), st.none() | COMPLETIONS),
    st.tuples(st.just("DELETE"), st.just(""), st.none()),
)
TRUE_CONDITIONS = [None, "*", "{tag}", "W/{tag}", '"x", {tag}']
FALSE_CONDITIONS = ['"x"', 'W/"2026-01-01T00:00:00Z"', '"*"']
CONDITIONS = st.sampled_from([*TRUE_CONDITIONS, *FALSE_CONDITIONS])
REFUSED = st.sampled_from([{"title": " "}, {"title": None}, {"title": "x" * 201}, {"title": "a\0"}, {"title": 5}, []])
CALLS = st.sampled_from([("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("PATCH", "/complete"), ("GET", "/")])
# What selects tasks by their status, in a query, and which `completed` it wants.
SELECTIONS = st.sampled_from(
    [
        ({"status": "all"}, None),
        ({"status": "pending"}, False),
        ({"status": "completed"}, True),
        ({"completed": "false"}, False),
        ({"completed": "true"}, True),
    ]
)
SORT_KEYS: dict[str, Callable[[Task], Any]] = {
    "created": lambda task: task["id"],
    "updated": lambda task: (datetime.fromisoformat(task["updated_at"]), task["id"]),
    "title": lambda task: (task["title"].lower(), task["id"]),
}


def tag_of(task: Task) -> str:
    return f'"{task["updated_at"]}"'


def has_text(task: Task, search: str) -> bool:
    wanted = search.strip().lower()
    return wanted in task["title"].lower() or wanted in (task["description"] or "").lower()


@dataclass
class Sent:
    """A list of new tasks, and the ids that it has made."""

    user: int
    contents: list[Task]
    key: str = field(default_factory=lambda: uuid4().hex)
    ids: list[int] = field(default_factory=list)


class ThreeUsers(RuleBasedStateMachine):
    """Three users who know the ids of all tasks, also of each other's and of deleted ones."""

    tasks = Bundle[tuple[int, int]]("tasks")

    client: ClassVar[httpx.Client]

    def __init__(self) -> None:
        super().__init__()
        self.ids = [uuid4().hex for _ in range(3)]
        self.headers = [bearer(make_token(user_id)) for user_id in self.ids]
        self.model: list[dict[int, Task]] = [{}, {}, {}]
        # The lists that each user has had with each tag, and the lists that were sent with a key.
        self.tagged: list[dict[str, list[Task]]] = [{}, {}, {}]
        self.sent: list[Sent] = []
        self.is_short = cycle([False, True])

    def ask(self, user: int, method: str, path: str = "", **kwargs: Any) -> httpx.Response:
        """Sends a request, with and without the user in its path by turns."""
        start = "/api/tasks" if next(self.is_short) else f"/api/{self.ids[user]}/tasks"
        headers = self.headers[user] | kwargs.pop("headers", {})
        return self.client.request(method, start + path, headers=headers, **kwargs)

    def chosen(self, user: int, keeps: Callable[[Task], bool] = lambda _: True) -> list[Task]:
        """These tasks of the user, in the order of their ids."""
        return [task for _, task in sorted(self.model[user].items()) if keeps(task)]

    def expect_new(self, user: int, task: Task, content: Task) -> None:
        assert task == {
            "id": task["id"],
            "user_id": self.ids[user],
            "title": content["title"].strip(),
            "description": content.get("description"),
            "completed": content.get("completed", False),
            "created_at": task["created_at"],
            "updated_at": task["created_at"],
        }
        assert not any(task["id"] in tasks for tasks in self.model)
        self.model[user][task["id"]] = task

    def expect_change(self, owner: int, task: Task, changes: Task) -> None:
        """Checks that just these fields and the time changed, and updates the model."""
        before = self.model[owner][task["id"]]
        assert task == before | changes | {"updated_at": task["updated_at"]}
        if changes:
            assert SORT_KEYS["updated"](task) > SORT_KEYS["updated"](before)
        else:
            assert task == before
        self.model[owner][task["id"]] = task

    @initialize(target=tasks, contents=st.lists(CREATIONS, min_size=3, max_size=6))
    def begin(self, contents: list[Task]) -> MultipleResults[tuple[int, int]]:
        return multiple(*(self.post(number % 3, content) for number, content in enumerate(contents)))

    @rule(target=tasks, user=USERS, content=CREATIONS)
    def create(self, user: int, content: Task) -> tuple[int, int]:
        return self.post(user, content)

    def post(self, user: int, content: Task) -> tuple[int, int]:
        response = self.ask(user, "POST", json=content)

        assert response.status_code == 201
        task: Task = response.json()
        self.expect_new(user, task, content)
        assert response.headers["ETag"] == tag_of(task)
        assert self.client.get(response.headers["Location"], headers=self.headers[user]).json() == task
        return user, task["id"]

    @rule(target=tasks, user=USERS, contents=st.lists(CREATIONS, min_size=1, max_size=4))
    def create_list(self, user: int, contents: list[Task]) -> MultipleResults[tuple[int, int]]:
        self.sent.append(Sent(user, contents))
        return self.post_list(self.sent[-1])

    @precondition(lambda self: self.sent)
    @rule(target=tasks, number=st.integers(-3, -1))
    def send_again(self, number: int) -> MultipleResults[tuple[int, int]]:
        """Sends one of the last lists once more."""
        return self.post_list(self.sent[max(number, -len(self.sent))])

    def post_list(self, sent: Sent) -> MultipleResults[tuple[int, int]]:
        """Sends a list, of which just those tasks are new that don't exist."""
        before = sent.ids or [0] * len(sent.contents)
        is_there = [task_id in self.model[sent.user] for task_id in before]

        response = self.send_list(sent, sent.contents)

        assert response.status_code == 201
        assert ("Idempotency-Replayed" in response.headers) == any(is_there)
        sent.ids = [task["id"] for task in response.json()]
        for task, content, old_id, is_old in zip(response.json(), sent.contents, before, is_there, strict=True):
            if is_old:
                assert task == self.model[sent.user][old_id]
            else:
                self.expect_new(sent.user, task, content)
        new = [task_id for task_id in sent.ids if task_id not in before]
        assert new == sorted(new)
        return multiple(*((sent.user, task_id) for task_id in new))

    @precondition(lambda self: self.sent)
    @rule(more=st.lists(CREATIONS, max_size=1))
    def reuse_key(self, more: list[Task]) -> None:
        """Sends another list with a key: a longer or a shorter one."""
        sent = self.sent[-1]
        others = [*sent.contents, *more] if more else sent.contents[:-1]
        if others and any(task_id in self.model[sent.user] for task_id in sent.ids):
            assert self.send_list(sent, others).status_code == 422

    def send_list(self, sent: Sent, contents: list[Task]) -> httpx.Response:
        headers = {"Idempotency-Key": sent.key}
        return self.ask(sent.user, "POST", "/bulk", json={"tasks": contents}, headers=headers)

    @rule(task=tasks)
    def read(self, task: tuple[int, int]) -> None:
        owner, task_id = task
        expected = self.model[owner].get(task_id)

        response = self.ask(owner, "GET", f"/{task_id}")

        if expected:
            assert response.json() == expected
            again = self.ask(owner, "GET", f"/{task_id}", headers={"If-None-Match": f"W/{tag_of(expected)}"})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["ETag"] == response.headers["ETag"] == tag_of(expected)
        else:
            assert response.status_code == 404

    @rule(task=tasks, write=WRITES, condition=CONDITIONS)
    def write(self, task: tuple[int, int], write: tuple[str, str, Task | None], condition: str | None) -> None:
        owner, task_id = task
        method, action, content = write
        before = self.model[owner].get(task_id)
        tag = tag_of(before) if before else '"y"'
        headers = {"If-Match": condition.format(tag=tag)} if condition else {}

        response = self.ask(owner, method, f"/{task_id}{action}", json=content, headers=headers)

        if before is None:
            assert response.status_code == 404
        elif condition in FALSE_CONDITIONS:
            assert (response.status_code, response.json()) == (412, {"detail": "The task has changed"})
            assert response.headers["ETag"] == tag
        elif method == "DELETE":
            assert (response.status_code, response.content) == (204, b"")
            del self.model[owner][task_id]
        else:
            assert response.status_code == 200
            self.expect_change(owner, response.json(), self.changes(before, action, content or {}))
            assert response.headers["ETag"] == tag_of(self.model[owner][task_id])

    @staticmethod
    def changes(before: Task, action: str, content: Task) -> Task:
        """Which fields a write sets."""
        if action:
            completed = content.get("completed", not before["completed"])
            return {} if completed == before["completed"] else {"completed": completed}
        changes = {name: value for name, value in content.items() if name != "id"}
        return changes | ({"title": changes["title"].strip()} if "title" in changes else {})

    @rule(user=USERS, named=st.lists(tasks, min_size=1, max_size=5), completed=st.booleans())
    def complete_list(self, user: int, named: list[tuple[int, int]], completed: bool) -> None:  # noqa: FBT001 - Hypothesis names it
        ids = [task_id for _, task_id in named]
        expected = self.chosen(user, lambda task: task["id"] in ids)

        response = self.ask(user, "PATCH", "/bulk", json={"ids": ids, "completed": completed})

        assert response.status_code == 200
        assert [task["id"] for task in response.json()] == [task["id"] for task in expected]
        for task, before in zip(response.json(), expected, strict=True):
            self.expect_change(user, task, self.changes(before, "/complete", {"completed": completed}))

    @rule(user=USERS, named=st.lists(tasks, min_size=1, max_size=5))
    def delete_list(self, user: int, named: list[tuple[int, int]]) -> None:
        ids = [task_id for _, task_id in named]
        self.expect_deletion(user, {"ids": ",".join(map(str, ids))}, lambda task: task["id"] in ids)

    @precondition(lambda self: sum(map(len, self.model)) > 6)
    @rule(user=USERS, selection=SELECTIONS)
    def clear(self, user: int, selection: tuple[dict[str, str], bool | None]) -> None:
        query, completed = selection
        self.expect_deletion(user, query, lambda task: completed in {None, task["completed"]})

    def expect_deletion(self, user: int, query: dict[str, str], is_chosen: Callable[[Task], bool]) -> None:
        expected = [task["id"] for task in self.chosen(user, is_chosen)]

        response = self.ask(user, "DELETE", params=query)

        assert (response.status_code, response.json()) == (200, {"ids": expected})
        for task_id in expected:
            del self.model[user][task_id]

    @rule(
        user=USERS,
        selection=SELECTIONS,
        search=st.sampled_from(["", " ", "0", "a", "A", "%", "_", "\\", "'"]) | TEXT,
        sort=st.sampled_from(list(SORT_KEYS)),
        order=st.sampled_from(["asc", "desc"]),
        limit=st.integers(1, 3),
        first=st.sampled_from([{}, {"offset": 0}, {"offset": 1}, {"skip": 2}, {"offset": 1, "skip": 5}]),
    )
    def page(
        self,
        user: int,
        selection: tuple[dict[str, str], bool | None],
        search: str,
        sort: str,
        order: str,
        limit: int,
        first: dict[str, int],
    ) -> None:
        """Walks through all pages, from the first by cursors."""
        query, completed = selection
        chosen = self.chosen(user, lambda task: completed in {None, task["completed"]} and has_text(task, search))
        left = sorted(chosen, key=SORT_KEYS[sort], reverse=order == "desc")[first.get("offset", first.get("skip", 0)) :]
        params = query | first | {"search": search, "sort": sort, "order": order, "limit": limit, "count": "true"}

        response = self.ask(user, "GET", params=params)

        while True:
            assert response.status_code == 200
            assert response.json() == left[:limit]
            assert response.headers["X-Total-Count"] == str(len(chosen))
            left = left[limit:]
            assert ("next" in response.links) == bool(left)
            if not left:
                break
            response = self.client.get(response.links["next"]["url"], headers=self.headers[user])

    @rule(task=tasks, user=USERS, call=CALLS, body=UPDATES)
    def meddle(self, task: tuple[int, int], user: int, call: tuple[str, str], body: Task) -> None:
        """Tries another user's token on the owner's path, and the owner's task on the other's path."""
        owner, task_id = task
        if user == owner:
            return
        method, end = call
        theirs = f"/api/{self.ids[owner]}/tasks/{task_id}{end}"

        foreign = self.client.request(method, theirs, headers=self.headers[user], json=body)
        own = self.ask(user, method, f"/{task_id}{end}", json=body)

        assert foreign.status_code == 403
        assert (own.status_code, own.json()) == (404, {"detail": "Task not found"})

    @rule(task=tasks, content=REFUSED)
    def refuse(self, task: tuple[int, int], content: object) -> None:
        owner, task_id = task

        assert self.ask(owner, "POST", json=content).status_code == 422
        assert self.ask(owner, "POST", "/bulk", json={"tasks": [{"title": "x"}, content]}).status_code == 422
        assert self.ask(owner, "PUT", f"/{task_id}", json=content).status_code == 422

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        """A list has a tag that no other list had before, and 304 is the answer as long as it is the same."""
        for user, tagged in enumerate(self.tagged):
            response = self.ask(user, "GET", params={"limit": 1000}, headers={"If-None-Match": ", ".join(tagged)})

            tag, expected = response.headers["ETag"], self.chosen(user)
            if response.status_code == 304:
                assert tagged[tag] == expected
            else:
                assert response.json() == expected
                assert tag not in tagged
                tagged[tag] = expected
                assert self.ask(user, "GET", headers={"If-None-Match": tag}).status_code == 304


def watch_answer(response: httpx.Response) -> None:
    response.read()
    watch.read_answer(response)


@pytest.mark.requirement("T001", "T002", "T003", "T004", "T005", "T006", "T011", "T013", "T020")
@pytest.mark.requirement("T129", "T130", "T131", "T132", "T133", "T135", "T136", "T137", "T138", "T139")
@pytest.mark.requirement("T140", "T141", "T142", "T144")
def test_three_users_see_what_a_dictionary_has(live_port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{live_port}", event_hooks={"response": [watch_answer]}) as client:
        ThreeUsers.client = client
        run_state_machine_as_test(
            seed(SEED)(ThreeUsers), settings=settings(SEARCH, stateful_step_count=25, print_blob=False)
        )
