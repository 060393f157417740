"""The users of Better Auth, in the same Postgres: with a user go the tasks."""
# [Task]: T159, T160, T161, T162 [From]: specs/features/user-deletion.md

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from alembic import command
from sqlalchemy import make_url

from config import Settings, load_settings
from db import Database
from errors import StartupError
from migrations import ADVISORY_LOCK, migration_connection
from runtime.startup import prepare_database
from tests.databases import MakeDatabase
from tests.outside import run_sql
from tests.service import Service, User, make_settings, running
from tests.snippets import DROP_USER_KEYS
from tests.streams import list_id, ready, watching
from tests.test_migrations import BETTER_AUTH, SHAPE, alembic
from tests.waiting import until

USERS = 'CREATE TABLE "user" (id text PRIMARY KEY)'
ADD_TASKS = (
    "INSERT INTO task (user_id, title, completed, created_at, updated_at)"
    " SELECT {user}, 'A task', false, {now}, {now} FROM {numbers}"
)
READ_KEYS = """
SELECT oid, conrelid::regclass::text AS ours, confrelid::regclass::text AS users, confdeltype = 'c' AS cascades,
  convalidated AS is_valid FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text LIKE 'task%' ORDER BY 2
"""


@dataclass
class Site:
    """A database that is shared with Better Auth, and its administrator."""

    url: str
    admin: asyncpg.Connection

    def settings(self, user_table: str | None = "user", **values: Any) -> Settings:
        return make_settings(**{"database_url": self.url, "user_table": user_table} | values)

    async def keys(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.admin.fetch(READ_KEYS)]

    async def add_users(self, *users: str) -> None:
        await self.admin.execute('INSERT INTO "user" SELECT unnest($1::text[])', users)

    async def add_tasks(self, user_id: str, number: int) -> None:
        values = {"user": "$1", "now": "now()", "numbers": f"generate_series(1, {number})"}
        await self.admin.execute(ADD_TASKS.format(**values), user_id)

    async def remains(self, *users: str) -> int:
        """How many rows of these users there are in the service's tables."""
        counts = [
            await self.admin.fetchval(f"SELECT count(*) FROM {table} WHERE user_id = ANY($1)", users)
            for table in ("task", "task_list_version")
        ]
        return sum(counts)


@pytest.fixture
async def empty_site(make_database: MakeDatabase) -> AsyncIterator[Site]:
    """A database without users."""
    url = await make_database("postgresql")
    admin = await asyncpg.connect(url)
    yield Site(url, admin)
    await admin.close()


@pytest.fixture
async def site(empty_site: Site) -> Site:
    """A database with the users `ada` and `bob`."""
    await empty_site.admin.execute(USERS)
    await empty_site.add_users("ada", "bob")
    return empty_site


async def refusal_of(settings: Settings) -> str:
    """The one line of a start that is refused at once."""
    database = Database(settings)
    try:
        with pytest.raises(StartupError) as error:
            await prepare_database(database, settings)
    finally:
        await database.close()
    (reason,) = error.value.reasons
    assert reason.startswith("USER_TABLE: ")
    assert "\n" not in reason
    return reason


def cure_in(reason: str) -> str:
    (cure,) = re.findall(r"[Tt]ype (.*;)$", reason)
    return str(cure)


async def check_serves(settings: Settings, admin: asyncpg.Connection, users: str = '"user"') -> None:
    """Checks that a service starts, and that tasks go with their user."""
    await admin.execute(f"INSERT INTO {users} VALUES ('cyd')")
    async with running(settings) as service:
        user = service.user("cyd")
        await user.new_task()
        await admin.execute(f"DELETE FROM {users} WHERE id = 'cyd'")
        assert (await user.get()).json() == []


# --- the keys


@pytest.mark.requirement("T159")
async def test_a_start_adds_a_key_to_both_tables(site: Site) -> None:
    async with running(site.settings()):
        keys = await site.keys()

    assert [key[1:] for key in keys] == [("task", '"user"', True, False), ("task_list_version", '"user"', True, False)]
    # A cascade works through the tables in the order of a write, or it would wait for the write, and the write for it.
    assert keys[0][0] < keys[1][0]


@pytest.mark.requirement("T159")
async def test_without_a_user_table_there_are_no_keys(site: Site) -> None:
    async with running(site.settings(None)) as service:
        await service.user("nobody").new_task()

    assert await site.keys() == []


@pytest.mark.requirement("T159")
async def test_a_second_start_changes_nothing(site: Site) -> None:
    async with running(site.settings()):
        keys = await site.keys()
    # Nor does it ask for the lock.
    await site.admin.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)

    async with running(site.settings()):
        assert await site.keys() == keys


@pytest.mark.requirement("T159")
async def test_of_many_starts_at_once_one_adds_the_keys(site: Site) -> None:
    async def start() -> None:
        async with running(site.settings()) as service:
            await service.user("ada").new_task()

    await asyncio.gather(*(start() for _ in range(6)))

    assert len(await site.keys()) == 2


@pytest.mark.requirement("T159")
@pytest.mark.parametrize(("action", "number"), [("ON DELETE CASCADE", 2), ("", 3)])
async def test_a_key_made_by_hand_is_kept(site: Site, action: str, number: int) -> None:
    async with running(site.settings(None)):
        pass
    await site.admin.execute(f'ALTER TABLE task ADD FOREIGN KEY (user_id) REFERENCES "user" {action}')
    mine = await site.keys()

    async with running(site.settings()):
        keys = await site.keys()

    assert set(mine) < set(keys)
    assert len(keys) == number


@pytest.mark.requirement("T159", "T161")
async def test_tasks_whose_user_is_gone_already_stay_usable(site: Site) -> None:
    key = {"Idempotency-Key": "1"}
    async with running(site.settings(None)) as service:
        gone = service.user("gone")
        first = (await gone.post({"title": "First"}, headers=key)).json()
        others = [(await gone.new_task())["id"] for _ in range(3)]

    async with running(site.settings()) as service:
        gone = service.user("gone")
        assert (await gone.get(f"/{first['id']}")).json() == first
        assert (await gone.put(first["id"], {"title": "Changed"})).json()["title"] == "Changed"
        assert (await gone.toggle(first["id"])).json()["completed"]
        many = {"ids": others, "completed": True}
        assert len((await gone.request("PATCH", "/bulk", json=many)).json()) == 3
        assert (await gone.post({"title": "First"}, headers=key)).json()["title"] == "Changed"
        assert (await gone.post({"title": "New"})).status_code == 401

        assert (await gone.delete(others[0])).status_code == 204
        deleted = await gone.request("DELETE", params={"status": "all"})
        assert deleted.json()["ids"] == [first["id"], *others[1:]]
        assert (await gone.get()).json() == []


@pytest.mark.requirement("T159")
@pytest.mark.parametrize(
    ("user_table", "users"),
    [
        ("user", '"user"'),
        ("auth.user", 'auth."user"'),
        ("{0}%s:x;--", '"{0}%s:x;--"'),
        ("My {Auth}.Üser", '"My {Auth}"."Üser"'),
    ],
)
async def test_any_name_of_the_table_is_served(empty_site: Site, user_table: str, users: str) -> None:
    admin = empty_site.admin
    await admin.execute('CREATE SCHEMA auth; CREATE SCHEMA "My {Auth}"')
    await admin.execute(f"CREATE TABLE {users} (id text PRIMARY KEY)")

    await check_serves(empty_site.settings(user_table), admin, users)

    assert [key[2] for key in await empty_site.keys()] == [users, users]


@pytest.mark.requirement("T159")
@pytest.mark.parametrize(("user_table", "users"), [("user", 'app."user"'), ("public.user", 'public."user"')])
async def test_the_search_path_decides_without_a_schema(site: Site, user_table: str, users: str) -> None:
    await site.admin.execute("CREATE SCHEMA app")
    await site.admin.execute(USERS.replace('"user"', 'app."user"'))
    await site.admin.execute(f'ALTER DATABASE "{make_url(site.url).database}" SET search_path = app, public')
    # So that names are printed with their schema.
    await site.admin.execute("SET search_path = ''")

    async with running(site.settings(user_table)):
        keys = await site.admin.fetch("SELECT confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'")

    assert [key[0] for key in keys] == [users, users]


@pytest.mark.requirement("T159")
@pytest.mark.parametrize("kind", ["varchar", "varchar(36)"])
async def test_an_id_of_varchar_is_served(empty_site: Site, kind: str) -> None:
    await empty_site.admin.execute(USERS.replace("text", kind))

    await check_serves(empty_site.settings(), empty_site.admin)


# --- refusals


@pytest.mark.requirement("T160")
@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("TABLE {} (id uuid PRIMARY KEY)", "id of the type uuid, .* Leave USER_TABLE out"),
        ("TABLE {} (id serial PRIMARY KEY)", "id of the type integer, "),
        ("TABLE {} (id char(32) PRIMARY KEY)", "id of the type character, "),
        ("TABLE {} (key text PRIMARY KEY)", "has no column id"),
        ("VIEW {} AS SELECT text 'ada' AS id", "is no table"),
        ("MATERIALIZED VIEW {} AS SELECT text 'ada' AS id", "is no table"),
    ],
)
async def test_a_table_that_cannot_serve_is_refused(
    empty_site: Site, caplog: pytest.LogCaptureFixture, definition: str, reason: str
) -> None:
    await empty_site.admin.execute("CREATE " + definition.format('"user"'))

    assert re.search(f'^USER_TABLE: public."user" .*{reason}', await refusal_of(empty_site.settings()))

    assert "Trying again" not in caplog.text
    assert await empty_site.keys() == []


@pytest.mark.requirement("T160")
@pytest.mark.parametrize(
    "definition",
    [
        "(id text)",
        "(id text, tenant text, UNIQUE (id, tenant))",
        "(id text UNIQUE DEFERRABLE)",
        "(id text); CREATE UNIQUE INDEX ON \"user\" (id) WHERE id > ''",
        '(id text); CREATE UNIQUE INDEX ON "user" (lower(id))',
    ],
)
async def test_an_id_that_is_not_unique_is_refused_until_it_is(empty_site: Site, definition: str) -> None:
    await empty_site.admin.execute(f'CREATE TABLE "user" {definition}')

    await empty_site.admin.execute(cure_in(await refusal_of(empty_site.settings())))

    await check_serves(empty_site.settings(), empty_site.admin)


@pytest.mark.requirement("T160")
async def test_keys_that_may_not_be_added_are_named_until_they_are(site: Site) -> None:
    async with running(site.settings(None)):
        pass
    settings = site.settings(db_migrate_on_start=False)

    reason = await refusal_of(settings)

    assert "DB_MIGRATE_ON_START is off" in reason
    assert await site.keys() == []
    await site.admin.execute(cure_in(reason))
    await check_serves(settings, site.admin)
    assert len(await site.keys()) == 2


@pytest.fixture
async def role(site: Site) -> AsyncIterator[str]:
    """A role of its own for the service, which may make its tables."""
    name = f"Todo {uuid4().hex}"
    await site.admin.execute(f"""CREATE ROLE "{name}" LOGIN PASSWORD 'hunter2'""")
    await site.admin.execute(f'GRANT CREATE ON SCHEMA public TO "{name}"')
    site.url = make_url(site.url).set(username=name, password="hunter2").render_as_string(hide_password=False)
    yield f'"{name}"'
    await site.admin.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


@pytest.mark.requirement("T160")
async def test_a_missing_right_is_named_with_its_grant(site: Site, role: str) -> None:
    await site.admin.execute('CREATE SCHEMA auth; ALTER TABLE "user" SET SCHEMA auth')
    settings = site.settings("auth.user")

    reasons = []
    for _ in range(2):
        reasons.append(await refusal_of(settings))
        await site.admin.execute(cure_in(reasons[-1]))

    assert [f"GRANT USAGE ON SCHEMA auth TO {role};" in reason for reason in reasons] == [True, False]
    assert [f'GRANT REFERENCES ON auth."user" TO {role};' in reason for reason in reasons] == [False, True]
    await check_serves(settings, site.admin, 'auth."user"')
    # Once the keys are there, no right is needed.
    await site.admin.execute(f'REVOKE ALL ON auth."user" FROM {role}; REVOKE ALL ON SCHEMA auth FROM {role}')
    await check_serves(settings, site.admin, 'auth."user"')


@pytest.mark.requirement("T160")
async def test_a_role_that_owns_nothing_is_told_what_the_owner_types(site: Site, role: str) -> None:
    owner = make_settings(
        database_url=make_url(site.url).set(username="postgres").render_as_string(hide_password=False)
    )
    async with running(owner):
        pass
    await site.admin.execute(
        f"GRANT SELECT ON task_schema_version, task_list_version TO {role};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON task TO {role}"
    )

    reason = await refusal_of(site.settings())

    assert f"{role} doesn't own" in reason
    await site.admin.execute(cure_in(reason))
    await check_serves(site.settings(), site.admin)


@pytest.mark.requirement("T160")
@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"DATABASE_URL": "sqlite:///todo.db"}, "needs Postgres"),
        ({"USER_TABLE": 'public."user"'}, "without quotes"),
        ({"USER_TABLE": "neondb.public.user"}, "schema.table"),
        ({"USER_TABLE": "x" * 64}, "no name of a table"),
    ],
)
def test_a_setting_that_cannot_serve_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    defaults = {"DATABASE_URL": "postgresql://host/todo", "USER_TABLE": "user", "BETTER_AUTH_SECRET": "x" * 32}
    for name, value in (defaults | variables).items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StartupError, match=f"USER_TABLE .*{reason}"):
        load_settings()


@pytest.mark.requirement("T160")
def test_a_refused_database_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/todo?surprise=1")
    monkeypatch.setenv("USER_TABLE", "user")

    with pytest.raises(StartupError) as error:
        load_settings()

    assert [reason.split()[0] for reason in error.value.reasons] == ["DATABASE_URL"]


@pytest.mark.requirement("T160")
async def test_a_start_waits_for_better_auths_migration(empty_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    settings = empty_site.settings()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(check_serves_later(settings, empty_site.admin))

        async def is_told() -> bool:
            return "there is no table user" in caplog.text or serving.done()

        await until(is_told)
        assert not serving.done()
        await empty_site.admin.execute(USERS)

    assert len(await empty_site.keys()) == 2


async def check_serves_later(settings: Settings, admin: asyncpg.Connection) -> None:
    async with running(settings) as service:
        await admin.execute("INSERT INTO \"user\" VALUES ('ada')")
        await service.user("ada").new_task()


@pytest.mark.requirement("T160")
async def test_a_table_that_never_comes_ends_the_start(empty_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.startup.FIRST_RETRY_SECONDS", 60)  # longer than a start waits at all

    for name in ("user", "auth.user"):
        assert f"there is no table {name} that" in await refusal_of(empty_site.settings(name))


# --- a user who goes


@pytest.mark.requirement("T159", "T161")
async def test_nothing_of_a_deleted_user_stays(site: Site) -> None:
    async with running(site.settings()) as service:
        ada, bob = service.user("ada"), service.user("bob")
        task = await ada.new_task()
        theirs = await bob.new_task()
        tag = (await ada.get()).headers["ETag"]

        await site.admin.execute("DELETE FROM \"user\" WHERE id = 'ada'")

        assert await site.remains("ada") == 0
        gone = await ada.get(headers={"If-None-Match": tag})
        assert (gone.status_code, gone.json()) == (200, [])
        assert gone.headers["ETag"] != tag
        assert (await ada.get(f"/{task['id']}")).status_code == 404
        assert (await ada.toggle(task["id"])).status_code == 404
        assert (await ada.delete(task["id"])).status_code == 404
        assert (await ada.request("DELETE", params={"status": "all"})).json() == {"ids": []}
        assert (await bob.get()).json() == [theirs]


@pytest.mark.requirement("T161")
@pytest.mark.parametrize(
    ("path", "body"), [("", {"title": "A task"}), ("/bulk", {"tasks": [{"title": "A task"}, {"title": "Another"}]})]
)
async def test_a_user_who_is_gone_creates_nothing(site: Site, path: str, body: dict[str, Any]) -> None:
    async with running(site.settings()) as service:
        ada = service.user("ada")
        key = {"Idempotency-Key": "1"}
        assert (await ada.request("POST", path, json=body, headers=key)).status_code == 201
        await site.admin.execute("DELETE FROM \"user\" WHERE id = 'ada'")

        for headers in ({}, key, {"Idempotency-Key": "2"}):
            for url in (path, f"/api/tasks{path}"):
                answer = await ada.request("POST", url, json=body, headers=headers)

                assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token"})
                assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
        assert await site.remains("ada") == 0


@pytest.mark.requirement("T159", "T148")
async def test_a_deletion_tells_the_streams_of_that_user_alone(site: Site) -> None:
    settings = site.settings(live_interval=0.5)
    async with (
        running(settings) as here,
        running(settings) as there,
        watching(here.app, "ada") as stream,
        watching(there.app, "ada") as another,
        watching(there.app, "bob") as bobs,
    ):
        for one in (stream, another, bobs):
            await ready(one)
        ada, bob = here.user("ada"), there.user("bob")
        await ada.new_task()
        for one in (stream, another):
            await one.told(await list_id(ada))

        await site.admin.execute("DELETE FROM \"user\" WHERE id = 'ada'")

        for one in (stream, another):
            assert (await one.next()).id == await list_id(ada)
        # Of Bob's, the first that is told is his own.
        await bob.new_task()
        assert (await bobs.next()).id == await list_id(bob)


@pytest.mark.requirement("T159")
async def test_ten_thousand_tasks_go_with_their_user(site: Site) -> None:
    async with running(site.settings()) as service:
        await site.add_tasks("ada", 10_000)
        assert len((await service.user("ada").get(params={"limit": 1000})).json()) == 1000

        await site.admin.execute("DELETE FROM \"user\" WHERE id = 'ada'")

        assert await site.remains("ada") == 0
        assert (await service.user("ada").get()).json() == []


# What a request of a user may be answered with who goes at that moment.
ALLOWED = {"POST": {201, 401}, "PUT": {200, 404}, "PATCH": {200, 404}, "DELETE": {200, 204, 404}, "GET": {200, 404}}


async def write_until(is_over: asyncio.Event, user: User, seed: int, written: list[str]) -> None:
    """Writes all that a user can write, until a moment after the user is gone."""
    random = Random(seed)
    ids = [1]

    async def send(method: str, path: str = "", body: Any = None, **headers: str) -> httpx.Response:
        answer = await user.request(method, path, json=body, headers=headers)
        assert answer.status_code in ALLOWED[method], answer.text
        written.append(method)
        return answer

    is_last = False
    while not is_last:
        is_last = is_over.is_set()
        some, key = random.sample(ids, min(len(ids), 5)), {"Idempotency-Key": str(random.randrange(3))}
        writes: list[tuple[str, str, Any]] = [
            ("POST", "", {"title": "A task"}),
            ("POST", "/bulk", {"tasks": [{"title": "A task"}] * 5}),
            ("PUT", f"/{some[0]}", {"title": "Changed"}),
            ("PATCH", f"/{some[0]}/complete", None),
            ("PATCH", "/bulk", {"ids": some, "completed": True}),
            ("DELETE", f"/{some[0]}", None),
            ("DELETE", "?status=completed", None),
        ]
        await send(*random.choice(writes), **key)
        ids = [task["id"] for task in (await send("GET")).json()] or [1]


@pytest.mark.requirement("T159", "T161")
async def test_users_go_while_they_write(site: Site) -> None:
    """Many at once, by two deletions, in no order, while each writes all that can be written."""
    users = [f"user {number}" for number in range(8)]
    await site.add_users(*users)
    async with running(site.settings(db_pool_size=16)) as service:
        for user in users:
            await site.add_tasks(user, 50)
        is_over, written = asyncio.Event(), list[str]()

        async def are_writing() -> bool:
            return len(written) > 200

        async def delete(those: list[str]) -> None:
            admin = await asyncpg.connect(site.url)
            for _ in range(10):
                # A cascade locks tasks as they lie, a bulk write by their ids. The loser may be the deletion: then
                # it has done nothing, and can be done again.
                with suppress(asyncpg.DeadlockDetectedError):
                    await admin.execute('DELETE FROM "user" WHERE id = ANY($1)', those)
                    break
            await admin.close()

        async with asyncio.TaskGroup() as group:
            for seed in range(16):
                group.create_task(write_until(is_over, service.user(users[seed % 8]), seed, written))
            await until(are_writing)
            await asyncio.gather(delete(users[:4]), delete(users[:3:-1]))
            is_over.set()

    assert await site.remains(*users) == 0


# --- what stays as it is


@pytest.mark.requirement("T043", "T159")
async def test_better_auths_tables_stay_as_they_are(empty_site: Site) -> None:
    admin = empty_site.admin
    await admin.execute(BETTER_AUTH)
    before = await admin.fetch(SHAPE)

    async with running(empty_site.settings()) as service:
        await service.user("u1").new_task()
        assert await admin.fetch(SHAPE) == before
    async with migration_connection(empty_site.settings()) as connection:
        # Autogenerate neither drops the keys nor touches another table.
        await connection.run_sync(lambda c: command.check(alembic(c)))
        await connection.run_sync(lambda c: command.downgrade(alembic(c), "base"))
        await connection.run_sync(lambda c: command.upgrade(alembic(c), "head"))

    assert await admin.fetch(SHAPE) == before
    assert await admin.fetchval('SELECT count(*) FROM "user" JOIN "session" ON true') == 1
    await admin.execute('DELETE FROM "user"')


@pytest.mark.requirement("T159")
async def test_a_downgraded_schema_gets_its_missing_key(site: Site) -> None:
    async with running(site.settings()) as service:
        await service.user("ada").new_task()
    async with migration_connection(site.settings()) as connection:
        await connection.run_sync(lambda c: command.downgrade(alembic(c), "0002"))
    assert [key[1] for key in await site.keys()] == ["task"]
    # The service of before goes on, and so does its cascade.
    await site.admin.execute("DELETE FROM \"user\" WHERE id = 'ada'")
    assert await site.admin.fetchval("SELECT count(*) FROM task") == 0

    await check_serves(site.settings(), site.admin)

    assert [key[1] for key in await site.keys()] == ["task", "task_list_version"]


@pytest.mark.requirement("T159")
async def test_the_keys_are_taken_back_as_documented(site: Site) -> None:
    async with running(site.settings()):
        pass

    await site.admin.execute(DROP_USER_KEYS)

    assert await site.keys() == []
    async with running(site.settings(None)) as service:
        await service.user("nobody").new_task()


@pytest.mark.requirement("T159", "T111")
@pytest.mark.parametrize("migrates", [True, False])
async def test_keys_on_a_later_schema_are_served(site: Site, *, migrates: bool) -> None:
    async with running(site.settings()):
        pass
    await site.admin.execute("UPDATE task_schema_version SET version_num = '9999'")

    await check_serves(site.settings(db_migrate_on_start=migrates), site.admin)


# --- without USER_TABLE


@pytest.mark.requirement("T162")
async def test_all_of_a_users_tasks_are_deleted_in_turns(service: Service, alice: User, bob: User) -> None:
    theirs = await bob.new_task()
    numbers = "(SELECT value FROM json_each(:numbers))"
    values = {"numbers": json.dumps(list(range(2500)))}
    if service.backend == "postgresql":
        numbers = "generate_series(1, 2500)"
        values = {}
    now = "'2026-01-01 00:00:00.000000+00'"
    await run_sql(service, ADD_TASKS.format(user=":user", now=now, numbers=numbers), user=alice.id, **values)

    turns: list[int] = []
    while not turns or turns[-1] == 1000:
        turns.append(len((await alice.request("DELETE", params={"status": "all"})).json()["ids"]))

    assert turns == [1000, 1000, 500]
    assert (await alice.get()).json() == []
    assert (await bob.get()).json() == [theirs]
