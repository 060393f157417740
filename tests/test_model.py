"""Three users do whatever Hypothesis generates, and a dictionary models the result."""
# [Task]: T001, T002, T003, T004, T005, T006, T011, T013, T020 [From]: specs/features/task-crud.md, specs/features/authentication.md

from typing import Any, ClassVar
from uuid import uuid4

import httpx
import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.leaks import watch
from tests.search import SEARCH, SEED
from tests.service import bearer, make_token

Task = dict[str, Any]

USERS = st.sampled_from([0, 1, 2])
# Text that Postgres and JSON can hold.
TEXT = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TITLES = st.text(TEXT, min_size=1, max_size=200).filter(str.strip)
DESCRIPTIONS = st.none() | st.text(TEXT, max_size=1000)
CREATIONS = st.fixed_dictionaries({"title": TITLES}, optional={"description": DESCRIPTIONS, "user_id": st.text(TEXT)})
UPDATES = st.fixed_dictionaries(
    {}, optional={"title": TITLES, "description": DESCRIPTIONS, "completed": st.booleans(), "id": st.integers()}
)
REFUSED = st.sampled_from([{"title": " "}, {"title": None}, {"title": "x" * 201}, {"title": "a\0"}, {"title": 5}, []])
CALLS = st.sampled_from([("GET", ""), ("PUT", ""), ("DELETE", ""), ("PATCH", "/complete"), ("GET", "/")])


class ThreeUsers(RuleBasedStateMachine):
    """Three users who know the ids of all tasks, also of each other's and of deleted ones."""

    tasks = Bundle[tuple[int, int]]("tasks")

    client: ClassVar[httpx.Client]

    def __init__(self) -> None:
        super().__init__()
        self.ids = [uuid4().hex for _ in range(3)]
        self.headers = [bearer(make_token(user_id)) for user_id in self.ids]
        self.model: list[dict[int, Task]] = [{}, {}, {}]

    def ask(self, user: int, method: str, path: str = "", **kwargs: Any) -> httpx.Response:
        url = f"/api/{self.ids[user]}/tasks{path}"
        return self.client.request(method, url, headers=self.headers[user], **kwargs)

    def expect_change(self, owner: int, response: httpx.Response, changes: Task) -> None:
        """Checks that just these fields and the time changed, and updates the model."""
        assert response.status_code == 200
        task: Task = response.json()
        before = self.model[owner][task["id"]]
        assert task == before | changes | {"updated_at": task["updated_at"]}
        assert task["updated_at"] > before["updated_at"]
        self.model[owner][task["id"]] = task

    @rule(target=tasks, user=USERS, content=CREATIONS)
    def create(self, user: int, content: Task) -> tuple[int, int]:
        response = self.ask(user, "POST", json=content)

        assert response.status_code == 201
        task: Task = response.json()
        assert task == {
            "id": task["id"],
            "user_id": self.ids[user],
            "title": content["title"].strip(),
            "description": content.get("description"),
            "completed": False,
            "created_at": task["created_at"],
            "updated_at": task["created_at"],
        }
        assert not any(task["id"] in tasks for tasks in self.model)
        self.model[user][task["id"]] = task
        return user, task["id"]

    @rule(task=tasks)
    def read(self, task: tuple[int, int]) -> None:
        owner, task_id = task

        response = self.ask(owner, "GET", f"/{task_id}")

        if task_id in self.model[owner]:
            assert response.json() == self.model[owner][task_id]
        else:
            assert response.status_code == 404

    @rule(task=tasks, content=UPDATES)
    def update(self, task: tuple[int, int], content: Task) -> None:
        owner, task_id = task

        response = self.ask(owner, "PUT", f"/{task_id}", json=content)

        changes = {name: value for name, value in content.items() if name != "id"}
        if "title" in changes:
            changes["title"] = changes["title"].strip()
        if task_id not in self.model[owner]:
            assert response.status_code == 404
        elif changes:
            self.expect_change(owner, response, changes)
        else:
            assert response.json() == self.model[owner][task_id]

    @rule(task=tasks)
    def toggle(self, task: tuple[int, int]) -> None:
        owner, task_id = task

        response = self.ask(owner, "PATCH", f"/{task_id}/complete")

        if task_id in self.model[owner]:
            is_completed = self.model[owner][task_id]["completed"]
            self.expect_change(owner, response, {"completed": not is_completed})
        else:
            assert response.status_code == 404

    @rule(task=tasks)
    def delete(self, task: tuple[int, int]) -> None:
        owner, task_id = task

        response = self.ask(owner, "DELETE", f"/{task_id}")

        was_there = self.model[owner].pop(task_id, None) is not None
        assert response.status_code == (204 if was_there else 404)

    @rule(
        user=USERS,
        limit=st.integers(1, 5),
        offset=st.integers(0, 5),
        name=st.sampled_from(["offset", "skip"]),
        completed=st.none() | st.booleans(),
    )
    def page(
        self,
        user: int,
        limit: int,
        offset: int,
        name: str,
        completed: bool | None,  # noqa: FBT001 - Hypothesis names it
    ) -> None:
        query: dict[str, Any] = {"limit": limit, name: offset}
        if completed is not None:
            query |= {"completed": str(completed).lower()}

        response = self.ask(user, "GET", params=query)

        chosen = [task for _, task in sorted(self.model[user].items()) if completed in {None, task["completed"]}]
        assert response.json() == chosen[offset : offset + limit]

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
        assert self.ask(owner, "PUT", f"/{task_id}", json=content).status_code == 422

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        for user, tasks in enumerate(self.model):
            listed = self.ask(user, "GET", params={"limit": 1000}).json()
            assert listed == [task for _, task in sorted(tasks.items())]


def watch_answer(response: httpx.Response) -> None:
    response.read()
    watch.read_answer(response)


@pytest.mark.requirement("T001", "T002", "T003", "T004", "T005", "T006", "T011", "T013", "T020")
def test_three_users_see_what_a_dictionary_has(live_port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{live_port}", event_hooks={"response": [watch_answer]}) as client:
        ThreeUsers.client = client
        run_state_machine_as_test(
            seed(SEED)(ThreeUsers), settings=settings(SEARCH, stateful_step_count=25, print_blob=False)
        )
