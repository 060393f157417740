"""The database in a file: who may read it, one writer at a time, and a file that is taken away."""
# [Task]: T042, T049, T050, T053, T087, T107, T108, T109 [From]: specs/database/schema.md, specs/reliability.md

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiosqlite
import httpx
import pytest
from sqlalchemy import event, text

from backends.faults import Fault
from backends.sqlite import PIECE_SECONDS, is_open
from migrations import upgrade_schema
from tests.service import Service, User, counted, make_settings, running
from tests.test_db import UNAVAILABLE, with_routes

COMPANIONS = ("-wal", "-shm")
ALL = ("", *COMPANIONS)

pytestmark = pytest.mark.usefixtures("always_checks")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "todo.db"


@pytest.fixture
def link(file: Path) -> Path:
    """A link to a missing file."""
    file.symlink_to(file.with_name("real.db"))
    return file


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


@asynccontextmanager
async def serving(file: Path, **settings: Any) -> AsyncIterator[Service]:
    """Runs the service on this file, with one acknowledged task and several connections."""
    async with running(make_settings(database_url=f"sqlite:///{file}", **settings)) as service:
        with_routes(service.app)
        user = service.user("a")
        await user.new_task()
        await asyncio.gather(*(user.get() for _ in range(4)))
        yield service


def titles(file: Path) -> list[str]:
    """Reads the titles in the file as another program would."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [title for (title,) in connection.execute("SELECT title FROM task ORDER BY id")]


async def call_all(service: Service) -> list[httpx.Response]:
    """Sends a read, each kind of write, and a check of readiness."""
    user = service.user("a")
    return [
        await user.get("/1"),
        await user.post({"title": "x"}),
        await user.toggle(1),
        await service.client.post("/two?user=a"),
        await service.client.get("/ready"),
    ]


async def expect_unavailable(service: Service, fault: Fault = Fault.UNREACHABLE) -> None:
    before = counted("database_faults", fault=fault)
    answers = await call_all(service)
    assert [(answer.status_code, answer.json()) for answer in answers] == [(503, UNAVAILABLE)] * 5
    assert counted("database_faults", fault=fault) - before == 5


async def expect_service(service: Service) -> None:
    answers = await call_all(service)
    assert [answer.status_code for answer in answers] == [200, 201, 200, 200, 200]


# The mode of the file


@pytest.fixture(params=[0, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.requirement("T107")
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("is_migrated_before", [False, True])
async def test_new_files_are_for_their_owner_alone(file: Path, *, is_migrated_before: bool) -> None:
    if is_migrated_before:
        await upgrade_schema(make_settings(database_url=f"sqlite:///{file}"))
        assert mode(file) == 0o600
    async with serving(file):
        assert {path.name for path in file.parent.iterdir()} == {file.name + one for one in ALL}
        assert {mode(path) for path in file.parent.iterdir()} == {0o600}


@pytest.mark.requirement("T107")
async def test_an_existing_file_keeps_its_mode(file: Path) -> None:
    os.close(os.open(file, os.O_CREAT, 0o640))
    async with serving(file):
        assert {mode(path) for path in file.parent.iterdir()} == {0o640}


@pytest.mark.requirement("T107")
async def test_a_link_to_a_missing_file_is_followed(link: Path) -> None:
    real = link.with_name("real.db")
    async with serving(link) as service:
        assert mode(real) == 0o600
        beside(real, "-wal").rename(link.with_name("away"))
        await expect_unavailable(service)


# One writer at a time


def write_at_once(service: Service) -> list[asyncio.Task[httpx.Response]]:
    """Starts single statements and transactions of two, as many of each."""
    user = service.user("a")
    return [
        *(asyncio.create_task(user.post({"title": "x"})) for _ in range(6)),
        *(asyncio.create_task(service.client.post("/two?user=a")) for _ in range(6)),
    ]


@pytest.mark.requirement("T108")
async def test_writers_of_a_process_take_turns(file: Path) -> None:
    async with serving(file) as service:
        engine = service.app.state.database.engine.sync_engine
        writing: set[Any] = set()
        together: set[int] = set()

        @event.listens_for(engine, "before_cursor_execute")
        def begin(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(("BEGIN", "INSERT")):
                writing.add(connection)
                together.add(len(writing))

        @event.listens_for(engine, "after_cursor_execute")
        def end_statement(connection: Any, *_: Any) -> None:
            if "is_single_statement" in connection.get_execution_options():
                end(connection)

        def end(connection: Any) -> None:
            writing.discard(connection)

        event.listen(engine, "commit", end)
        answers = await asyncio.gather(*write_at_once(service))

        assert {answer.status_code for answer in answers} == {200, 201}
        assert together == {1}


@asynccontextmanager
async def locked_by_another(file: Path) -> AsyncIterator[None]:
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


@asynccontextmanager
async def locked_by_a_unit(service: Service) -> AsyncIterator[None]:
    async with service.app.state.database.session():
        yield


@pytest.mark.requirement("T108")
@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_writer_waits_as_long_as_for_a_statement(file: Path, *, is_ours: bool) -> None:
    async with serving(file, db_statement_timeout=0.5) as service:
        user = service.user("a")
        faults = counted("database_faults", fault=Fault.LOCKED)
        async with locked_by_a_unit(service) if is_ours else locked_by_another(file):
            writes = write_at_once(service)
            # A reader doesn't wait.
            while not all(write.done() for write in writes):
                assert (await user.get()).status_code == 200
            for write in writes:
                answer = write.result()
                assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)

        assert counted("database_faults", fault=Fault.LOCKED) - faults == 12
        await expect_service(service)
        assert len((await user.get()).json()) == 4


@pytest.mark.requirement("T108")
async def test_a_writer_goes_on_when_another_process_is_done(file: Path) -> None:
    async with serving(file) as service:
        async with locked_by_another(file):
            writes = write_at_once(service)
            await asyncio.sleep(0.6)  # longer than SQLite waits by itself
            assert not any(write.done() for write in writes)

        assert {answer.status_code for answer in await asyncio.gather(*writes)} == {200, 201}


@pytest.mark.requirement("T108", "T089")
@pytest.mark.parametrize("ending", ["cancelled", "late"])
async def test_an_abandoned_writer_leaves_no_lock(file: Path, ending: str) -> None:
    limit = 0.5 if ending == "late" else 600
    async with serving(file, db_statement_timeout=600, request_timeout=limit) as service:
        async with locked_by_another(file):
            writes = write_at_once(service)
            if ending == "cancelled":
                await asyncio.sleep(2 * PIECE_SECONDS)  # some are in the middle of a piece
                for write in writes:
                    write.cancel()
            ended = await asyncio.gather(*writes, return_exceptions=True)
            for end in ended:
                if ending == "late":
                    assert isinstance(end, httpx.Response)
                    assert end.status_code == 503
                else:
                    assert isinstance(end, asyncio.CancelledError)

        await expect_service(service)
        # No write was done later.
        assert len((await service.user("a").get()).json()) == 4


@pytest.mark.requirement("T108", "T089", "T137")
@pytest.mark.parametrize("is_conditional", [True, False])
async def test_a_write_abandoned_as_the_lock_comes_free_holds_none(file: Path, *, is_conditional: bool) -> None:
    async with serving(file) as service:
        user = service.user("a")
        headers = {"If-Match": (await user.get("/1")).headers["ETag"]} if is_conditional else {}
        async with locked_by_another(file):
            write = asyncio.create_task(user.put(1, {"title": "late"}, headers=headers))
            await asyncio.sleep(PIECE_SECONDS / 2)  # it waits, and will have the lock
            write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write

        await expect_service(service)


# A file that is taken away


def remove(*suffixes: str) -> Callable[[Path], None]:
    def take_away(file: Path) -> None:
        for suffix in suffixes:
            beside(file, suffix).unlink()

    return take_away


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_a_copy(file: Path) -> None:
    copy = file.with_name("copy.db")
    shutil.copy(file, copy)
    copy.rename(file)


def replace_by_a_folder(file: Path) -> None:
    remove(*ALL)(file)
    file.mkdir()


def replace_by_an_empty_file(file: Path) -> None:
    remove(*ALL)(file)
    file.touch()


@pytest.mark.requirement("T109")
@pytest.mark.parametrize(
    "take_away",
    [
        remove(*ALL),
        remove(""),
        remove(*COMPANIONS),
        remove("-wal"),
        remove("-shm"),
        empty,
        replace_by_a_copy,
        replace_by_a_folder,
        replace_by_an_empty_file,
    ],
    ids=["all", "file", "companions", "wal", "shm", "empty", "copy", "folder", "empty file"],
)
async def test_a_file_that_is_taken_away_is_503(
    file: Path, caplog: pytest.LogCaptureFixture, take_away: Callable[[Path], None]
) -> None:
    async with serving(file) as service:
        take_away(file)

        for _ in range(2):
            await expect_unavailable(service)
        assert (await service.client.get("/health")).status_code == 200
    hints = ("put it back as it was, or restart the service", "unable to open database file")
    assert any(hint in caplog.text for hint in hints)


@pytest.mark.requirement("T109")
@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), COMPANIONS])
async def test_acknowledged_writes_outlive_the_log(file: Path, suffixes: tuple[str, ...]) -> None:
    async with serving(file) as service:
        remove(*suffixes)(file)
        await expect_unavailable(service)

    assert titles(file) == ["A task"]
    async with serving(file) as service:
        await expect_service(service)


@pytest.mark.requirement("T109")
@pytest.mark.parametrize("suffixes", [ALL, ("",), ("-wal",), ("-shm",)])
async def test_a_file_that_is_put_back_is_served(file: Path, suffixes: tuple[str, ...]) -> None:
    async with serving(file) as service:
        for suffix in suffixes:
            beside(file, suffix).rename(beside(file, f"{suffix}.away"))
        await expect_unavailable(service)
        for suffix in suffixes:
            beside(file, f"{suffix}.away").rename(beside(file, suffix))

        await expect_service(service)

    assert titles(file) == ["A task", "x", "one", "two"]


@pytest.mark.requirement("T109")
@pytest.mark.parametrize("suffix", ["", *COMPANIONS])
@pytest.mark.parametrize("moment", ["do_connect", "connect", "checkout"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_file_taken_away_while_one_connects_loses_nothing(
    file: Path, suffix: str, moment: str, method: str
) -> None:
    async with serving(file) as service:
        engine = service.app.state.database.engine
        away = beside(file, f"{suffix}.away")
        user = service.user("a")

        def take_away(*_: Any) -> None:
            if not away.exists():
                beside(file, suffix).rename(away)

        async with AsyncExitStack() as stack:
            idle = engine.pool.checkedin()
            assert idle > 1
            for _ in range(idle - (moment == "checkout")):
                await stack.enter_async_context(engine.connect())
            event.listen(engine.sync_engine, moment, take_away, insert=True)
            answer = await (user.get() if method == "GET" else user.post({"title": "lost"}))
            event.remove(engine.sync_engine, moment, take_away)
            assert (away.exists(), answer.status_code, answer.json()) == (True, 503, UNAVAILABLE)
        away.rename(beside(file, suffix))

        await expect_service(service)

    assert titles(file) == ["A task", "x", "one", "two"]


def back_up(file: Path, to: Path) -> None:
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


@pytest.mark.requirement("T109")
async def test_a_backup_is_served_once_nothing_else_is_left(file: Path) -> None:
    copy = file.with_name("copy.db")
    async with serving(file) as service:
        user = service.user("a")
        back_up(file, copy)
        await user.post({"title": "Not in the backup"})
        copy.rename(file)
        await expect_unavailable(service)  # since the log is still of the other database
        remove(*COMPANIONS)(file)

        await expect_service(service)

    assert titles(file) == ["A task", "x", "one", "two"]


@pytest.mark.requirement("T109", "T049")
@pytest.mark.parametrize("call", ["single", "unit"])
async def test_a_write_into_a_missing_file_is_no_success(file: Path, call: str) -> None:
    """Takes the file away between a statement and its answer, too."""
    async with serving(file) as service:
        engine = service.app.state.database.engine.sync_engine
        moment = "after_cursor_execute" if call == "single" else "commit"
        away = file.with_name("away.db")

        @event.listens_for(engine, moment)
        def take_away(*_: Any) -> None:
            if not away.exists():
                file.rename(away)

        if call == "single":
            answer = await service.user("a").post({"title": "x"})
        else:
            answer = await service.client.post("/two?user=a")
        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)


@pytest.mark.requirement("T109")
async def test_a_service_without_connections_finds_its_file(file: Path) -> None:
    """The last connection to close removes the -wal and the -shm, which are not taken for missing."""
    async with serving(file) as service:
        engine = service.app.state.database.engine
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
        await engine.dispose()
        assert [path.name for path in file.parent.iterdir()] == [file.name]

        await expect_service(service)
        assert driver is not None


# Other faults of the file


def another_database(file: Path, schema: str) -> None:
    remove(*ALL)(file)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(schema)


@pytest.mark.requirement("T053", "T087", "T109")
@pytest.mark.parametrize("schema", ["CREATE TABLE other (id)", "CREATE TABLE task (other)"])
async def test_another_database_in_its_place_is_503(file: Path, schema: str) -> None:
    async with serving(file) as service:
        another_database(file, schema)

        user = service.user("a")
        for answer in (await user.get(), await user.post({"title": "x"}), await user.toggle(1)):
            assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)


@pytest.mark.requirement("T053", "T087")
async def test_a_foreign_journal_does_no_harm(file: Path) -> None:
    async with serving(file) as service:
        beside(file, "-journal").write_bytes(b"no journal" * 1000)
        await service.app.state.database.engine.dispose()

        await expect_service(service)


async def limit(service: Service, pragma: str) -> None:
    """Sets a limit on each new connection."""
    engine = service.app.state.database.engine

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(pragma)
        cursor.close()

    await engine.dispose()


async def write_all(user: User) -> list[httpx.Response]:
    return [await user.post({"title": "x" * 200, "description": "x" * 1000}) for _ in range(20)]


@pytest.mark.requirement("T053", "T087")
async def test_a_full_disk_is_503_for_writes_alone(file: Path) -> None:
    async with serving(file) as service:
        await limit(service, "PRAGMA max_page_count = 1")
        user = service.user("a")

        (*_, last) = await write_all(user)

        assert (last.status_code, last.json()) == (503, UNAVAILABLE)
        assert counted("database_faults", fault=Fault.OUT_OF_RESOURCES) > 0
        assert (await user.get("/1")).status_code == 200
        assert (await service.client.get("/ready")).status_code == 200


@pytest.fixture
def nobodys(nobody: int = 65_534) -> Iterator[Path]:
    """A file whose mode binds this process: root, whom no mode binds, becomes another user."""
    is_root = os.geteuid() == 0
    with TemporaryDirectory() as folder:
        if is_root:
            os.chown(folder, nobody, nobody)
            os.setresuid(nobody, nobody, 0)
        try:
            yield Path(folder) / "todo.db"
        finally:
            if is_root:
                os.setresuid(0, 0, 0)


def set_mode(file: Path, mode: int) -> None:
    for path in file.parent.iterdir():
        path.chmod(mode)


@pytest.mark.requirement("T053", "T061", "T087", "T109")
async def test_a_read_only_file_is_ready_and_says_so(nobodys: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(nobodys) as service:
        set_mode(nobodys, 0o400)
        engine = service.app.state.database.engine
        await engine.dispose()
        made: list[Any] = []
        event.listen(engine.sync_engine, "connect", lambda *of: made.append(of))
        user = service.user("a")

        for answer in await write_all(user):
            assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
        assert len(made) == 1
        assert counted("database_faults", fault=Fault.READ_ONLY) > 0
        assert (await user.get("/1")).status_code == 200
        assert (await service.client.get("/ready")).status_code == 200
        assert "Ready, but the database of DATABASE_URL is read only" in caplog.text

        set_mode(nobodys, 0o600)
        assert (await user.toggle(1)).status_code == 200


@pytest.mark.requirement("T050")
async def test_sqlite_waits_in_pieces(file: Path) -> None:
    async with serving(file) as service, service.app.state.database.engine.connect() as connection:
        assert 0 < (await connection.execute(text("PRAGMA busy_timeout"))).scalar() < 1000


@pytest.mark.requirement("T109")
async def test_a_connection_that_is_being_closed_is_not_open() -> None:
    connection = await aiosqlite.connect(":memory:")
    assert is_open(connection)

    # sqlite3 has closed it, and aiosqlite has yet to note that.
    await connection._execute(connection._conn.close)  # type: ignore[no-untyped-call] # only its own thread may close it
    assert not is_open(connection)

    await connection.close()
    assert not is_open(connection)
