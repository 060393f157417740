"""The service on tasks that are partitioned by their users, as `benchmarks/partition.sql` makes them."""
# [Task]: T187 [From]: specs/performance.md

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import pytest

from benchmarks import plans
from benchmarks.partitions import PARTITIONED, SCHEMAS
from benchmarks.plans import MODES, explain
from config import Settings
from migrations import upgrade_schema
from tests.databases import MakeDatabase
from tests.service import make_settings, running

ADD_TASKS = (
    "INSERT INTO task (user_id, title, completed, created_at, updated_at)"
    " SELECT 'user ' || i % 50, 'Task ' || i, i % 3 = 0, now(), now() FROM generate_series(1, 5000) AS i"
)
USERS = [f"user {number}" for number in range(10, 20)]


@dataclass
class Partitioned:
    url: str
    admin: asyncpg.Connection

    def settings(self, user_table: str | None = None) -> Settings:
        return make_settings(database_url=self.url, user_table=user_table)

    async def versions(self) -> dict[str, int]:
        return dict(await self.admin.fetch("SELECT user_id, version FROM task_list_version"))

    async def raised(self, statement: str) -> set[str]:
        """The users whose versions a statement changes."""
        before = await self.versions()
        await self.admin.execute(statement)
        after = await self.versions()
        return {user for user in after if after[user] != before[user]}


@pytest.fixture(scope="module")
async def partitioned(make_database: MakeDatabase) -> AsyncIterator[Partitioned]:
    """A database of 5,000 tasks, partitioned afterwards. Each test has users of its own."""
    url = await make_database("postgresql")
    await upgrade_schema(make_settings(database_url=url))
    admin = await asyncpg.connect(url)
    await admin.execute(ADD_TASKS)
    await admin.execute(SCHEMAS[PARTITIONED])
    await admin.execute("ANALYZE task, task_list_version")
    yield Partitioned(url, admin)
    await admin.close()


@pytest.mark.requirement("T187")
async def test_partitioned_tasks_are_served_unchanged(partitioned: Partitioned) -> None:
    async with running(partitioned.settings()) as service:
        ada = service.user("user 5")
        listed = (await ada.get("?limit=100&sort=title")).json()
        assert len(listed) == 100

        created = await ada.new_task()
        # Ids go on behind those of before.
        assert created["id"] > 5000
        headers = {"Idempotency-Key": "key"}
        answers = await asyncio.gather(*(ada.post({"title": "Once"}, headers=headers) for _ in range(5)))
        assert [answer.status_code for answer in answers] == [201] * 5
        assert len({answer.json()["id"] for answer in answers}) == 1

        tag = f'"{created["updated_at"]}"'
        changed = await ada.put(created["id"], {"title": "Changed"}, headers={"If-Match": tag})
        assert changed.status_code == 200
        stale = await ada.put(created["id"], {"title": "Again"}, headers={"If-Match": tag})
        assert stale.status_code == 412
        ids = [task["id"] for task in listed[:50]]
        ticked = await ada.request("PATCH", "/bulk", json={"ids": ids, "completed": True})
        assert ticked.status_code == 200
        cleared = await ada.request("DELETE", "?status=completed")
        assert cleared.status_code == 200
        assert (await ada.get("?status=completed")).json() == []
        assert (await ada.delete(created["id"])).status_code == 204


@pytest.mark.requirement("T187")
async def test_triggers_see_the_rows_of_all_partitions(partitioned: Partitioned) -> None:
    named = ", ".join(f"'{user}'" for user in USERS)
    assert await partitioned.raised(f"UPDATE task SET title = 'x' WHERE user_id IN ({named})") == set(USERS)
    assert await partitioned.raised(f"DELETE FROM task WHERE user_id IN ({named}) AND NOT completed") == set(USERS)
    # A row that moves to another partition.
    moved = "UPDATE task SET user_id = 'user 21' WHERE user_id = 'user 20'"
    assert await partitioned.raised(moved) == {"user 20", "user 21"}

    columns = ["user_id", "title", "completed", "created_at", "updated_at"]
    records = [(user, "Copied", False, datetime.now(UTC), datetime.now(UTC)) for user in USERS]
    before = await partitioned.versions()
    await partitioned.admin.copy_records_to_table("task", records=records, columns=columns)
    after = await partitioned.versions()
    assert {user for user in after if after[user] != before[user]} == set(USERS)


@pytest.mark.requirement("T187")
async def test_partitioned_tasks_go_with_their_user(partitioned: Partitioned) -> None:
    await partitioned.admin.execute('CREATE TABLE "user" AS SELECT DISTINCT user_id AS id FROM task_list_version')
    await partitioned.admin.execute('ALTER TABLE "user" ADD PRIMARY KEY (id)')
    async with running(partitioned.settings("user")) as service:
        assert len((await service.user("user 40").get("?limit=100")).json()) == 100
        before = await partitioned.versions()
        await partitioned.admin.execute("""DELETE FROM "user" WHERE id IN ('user 40', 'user 41')""")
        assert (await service.user("user 40").get()).json() == []
        assert before.keys() - await partitioned.versions() == {"user 40", "user 41"}
    left = "SELECT count(*) FROM task WHERE user_id IN ('user 40', 'user 41')"
    assert await partitioned.admin.fetchval(left) == 0


@pytest.mark.requirement("T187")
async def test_each_statement_reads_one_partition(partitioned: Partitioned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "TIMES", 1)
    monkeypatch.setattr(plans, "UNTIL_DECIDED", 1)
    ids = [row["id"] for row in await partitioned.admin.fetch("SELECT id FROM task WHERE user_id = 'user 30'")]
    found = await explain(partitioned.url, {"user 30": ids}, "user 30", ids[50])

    for name, costs in found.items():
        expected = 0 if name in {"LIST_VERSIONS", "CREATE_TASK"} else 1
        for mode in MODES:
            assert costs[mode]["tables"] == expected, (name, mode)
