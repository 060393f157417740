"""The host that the service connects to, whatever the environment says and whichever host fails."""
# [Task]: T045, T053, T116, T117, T121 [From]: specs/database/schema.md, specs/api/rest-endpoints.md

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text

from backends import postgres
from backends.faults import Fault, fault_of
from backends.postgres import connect_postgres
from db import Database
from errors import ServiceUnavailable
from migrations import upgrade_schema
from tests.databases import MakeDatabase
from tests.faults.postgres import PrivatePostgres, private_postgres
from tests.leaks import PASSWORD
from tests.proxy import proxy_to
from tests.server import pick_port
from tests.service import make_settings, running

STARTUP = b"\0\x03\0\0"  # the protocol's version, behind the length
TLS_REQUEST = b"\x04\xd2\x16\x2f"
SILENT = b""


def refusing(code: str, message: str = "no") -> bytes:
    """Makes an ErrorResponse (PostgreSQL 18, section 54.7)."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
    return b"E" + (4 + len(fields)).to_bytes(4, "big") + fields


class Pretender:
    """A server that is none: it gives each connection the next of its answers, and keeps what it
    was told before.
    """

    def __init__(self, answers: tuple[bytes, ...]) -> None:
        self.heard: list[bytes] = []
        self.told = b""
        self.port = 0
        self._answers = iter(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            message = await reader.read(1000)
            self.heard.append(message[4:8])
            if answer := next(self._answers, SILENT):
                writer.write(answer)
                await writer.drain()
                self.told = self.told or await reader.read(1000)
            else:
                await reader.read()
        writer.close()


@asynccontextmanager
async def pretender(*answers: bytes, address: str = "127.0.0.1") -> AsyncIterator[Pretender]:
    one = Pretender(answers)
    server = await asyncio.start_server(one.serve, address, 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


@asynccontextmanager
async def connecting(url: str, **values: float) -> AsyncIterator[Database]:
    database = Database(make_settings(database_url=url, **values))
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def real_url(make_database: MakeDatabase) -> str:
    return await make_database("postgresql")


@pytest.fixture
async def elsewhere(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pretender]:
    """Runs another server, which all environment variables of Postgres's clients name."""
    async with pretender(address="127.0.0.2") as other:
        for name, value in {
            "PGHOST": "127.0.0.2",
            "PGHOSTADDR": "127.0.0.2",
            "PGPORT": str(other.port),
            "PGSSLMODE": "disable",
            "PGSSLNEGOTIATION": "direct",
            "PGTARGETSESSIONATTRS": "standby",
            "PGSERVICE": "other",
            "PGGSSLIB": "none",
            "PGSSLROOTCERT": "/nowhere",
            "PGSSLMINPROTOCOLVERSION": "none",
        }.items():
            monkeypatch.setenv(name, value)
        yield other
    assert other.heard == []


@pytest.mark.requirement("T116")
@pytest.mark.parametrize("query", ["", "?sslmode=disable", "?sslmode=prefer"])
async def test_a_url_without_a_host_is_this_machine(
    elsewhere: Pretender, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, query: str
) -> None:
    monkeypatch.setattr("backends.url.LOCAL_HOSTS", (str(tmp_path), "127.0.0.1"))
    async with pretender(refusing("28P01"), refusing("28P01")) as here:
        url = f"postgresql://u:{PASSWORD}@/todo{query}"
        monkeypatch.setattr("backends.url.POSTGRES_PORT", here.port)
        async with connecting(url) as database:
            with pytest.raises(ServiceUnavailable):
                await database.fetch(select(1), {})

    assert here.heard


@pytest.mark.requirement("T116")
async def test_no_variable_moves_a_connection(real_url: str, elsewhere: Pretender) -> None:
    async with proxy_to(real_url) as proxy, connecting(proxy.url) as database:
        await database.fetch(select(1), {})
        assert proxy.connections == 1


@pytest.mark.requirement("T116")
async def test_no_variable_turns_off_tls(elsewhere: Pretender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.url.is_loopback", lambda _: False)
    async with pretender(b"N") as server:
        url = f"postgresql://u:{PASSWORD}@127.0.0.1:{server.port}/todo"
        async with connecting(url) as database:
            with pytest.raises(ServiceUnavailable, match="rejected SSL upgrade"):
                await database.fetch(select(1), {})

    assert server.heard == [TLS_REQUEST]


@pytest.mark.requirement("T121")
@pytest.mark.parametrize("home", ["/nowhere", "file", "sealed", ""])
@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
async def test_an_unreadable_home_does_no_harm(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, sslmode: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "sealed").mkdir(mode=0)
    monkeypatch.setenv("HOME", str(tmp_path / home) if home else "")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / home / "pgpass"))
    async with proxy_to(await make_database("postgresql")) as proxy:
        url = proxy.url.replace(f":{PASSWORD}@", "@") + f"?sslmode={sslmode}"
        async with connecting(url) as database:
            await database.fetch(select(1), {})


@pytest.mark.requirement("T116")
async def test_a_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    ask_for_password = b"R\0\0\0\x08\0\0\0\x03"
    async with pretender(ask_for_password, refusing("28P01")) as server:
        url = f"postgresql://u@127.0.0.1:{server.port}/todo"
        async with connecting(url) as database:
            with pytest.raises(ServiceUnavailable):
                await database.fetch(select(1), {})

    assert server.told.startswith(b"p\0\0\0\x0c" + PASSWORD.encode())


@pytest.mark.requirement("T045")
async def test_prefer_falls_back_to_no_tls() -> None:
    async with pretender(b"N", refusing("28P01")) as server:
        url = f"postgresql://u:{PASSWORD}@127.0.0.1:{server.port}/todo?sslmode=prefer"
        async with connecting(url) as database:
            with pytest.raises(ServiceUnavailable, match="login"):
                await database.fetch(select(1), {})

    assert server.heard == [TLS_REQUEST, STARTUP]


@pytest.mark.requirement("T045")
async def test_allow_falls_back_to_tls() -> None:
    async with pretender(refusing("28000"), b"N") as server:
        url = f"postgresql://u:{PASSWORD}@127.0.0.1:{server.port}/todo?sslmode=allow"
        async with connecting(url) as database:
            with pytest.raises(ServiceUnavailable, match="rejected SSL upgrade"):
                await database.fetch(select(1), {})

    assert server.heard == [STARTUP, TLS_REQUEST]


@pytest.mark.requirement("T117")
@pytest.mark.parametrize("sslmode", ["disable", "prefer", "allow"])
async def test_a_silent_host_is_tried_once_and_then_the_next(
    make_database: MakeDatabase, caplog: pytest.LogCaptureFixture, sslmode: str
) -> None:
    async with pretender() as silent, proxy_to(await make_database("postgresql")) as proxy:
        url = proxy.url.replace("@127.0.0.1:", f"@127.0.0.1:{silent.port},127.0.0.1:")
        url += f"?connect_timeout=1&sslmode={sslmode}"
        async with connecting(url) as database:
            await database.fetch(select(1), {})
            await asyncio.gather(*(database.fetch(select(1), {}) for _ in range(9)))
            assert proxy.connections > 1

    assert len(silent.heard) == 1
    (line,) = [r.getMessage() for r in caplog.records if r.name == "backends.postgres"]
    assert line == (f"The database at 127.0.0.1:{silent.port} can't be used: no answer in time (TimeoutError, silent).")


@pytest.mark.requirement("T117")
async def test_a_failed_host_is_first_again_later(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "REMEMBERED_SECONDS", 0.0)
    async with (
        pretender(refusing("57P03"), refusing("57P03")) as waking,
        proxy_to(await make_database("postgresql")) as proxy,
    ):
        url = proxy.url.replace("@127.0.0.1:", f"@127.0.0.1:{waking.port},127.0.0.1:")
        for _ in range(2):
            async with connecting(url) as database:
                await database.fetch(select(1), {})

    assert len(waking.heard) == 2


@pytest.mark.requirement("T117")
async def test_a_refused_login_ends_the_search() -> None:
    async with pretender(refusing("28P01")) as first, pretender() as second:
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        async with connecting(f"postgresql://u:{PASSWORD}@{hosts}/todo") as database:
            with pytest.raises(ServiceUnavailable, match="login") as raised:
                await database.fetch(select(1), {})

    assert second.heard == []
    cause = raised.value.__cause__
    assert cause is not None
    assert fault_of(cause) is Fault.LOGIN


@pytest.mark.requirement("T117", "T053")
async def test_each_host_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gone = pick_port()
    async with pretender(refusing("53300")) as full, pretender(refusing("57P03"), b"") as waking:
        hosts = f"127.0.0.1:{full.port},127.0.0.1:{gone},127.0.0.1:{waking.port}"
        settings = make_settings(database_url=f"postgresql://u:{PASSWORD}@{hosts}/todo")
        with pytest.raises(ServiceUnavailable, match="CannotConnectNowError, shutting_down"):
            await connect_postgres(settings.database.hosts, user="u", password=PASSWORD, database="x")

    told = [r.getMessage() for r in caplog.records if r.name == "backends.postgres"]
    assert [line.split()[3] for line in told] == hosts.split(",")


@pytest.mark.requirement("T117")
async def test_a_cancelled_search_skips_the_silent_host() -> None:
    async with pretender() as silent, pretender(refusing("28P01")) as second:
        hosts = f"127.0.0.1:{silent.port},127.0.0.1:{second.port}"
        settings = make_settings(database_url=f"postgresql://u:{PASSWORD}@{hosts}/todo")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await connect_postgres(settings.database.hosts, user="u")
        with pytest.raises(ServiceUnavailable, match="login"):
            await connect_postgres(settings.database.hosts, user="u")

    assert len(silent.heard) == 1


async def clone(server: PrivatePostgres, folder: Path) -> PrivatePostgres:
    """Copies a server into a standby, which only reads until it is promoted, and starts both."""
    await server.stop()
    copy = PrivatePostgres(folder)
    await asyncio.to_thread(shutil.copytree, server.data, copy.data)
    (copy.data / "standby.signal").touch()
    owner = server.data.stat()
    folder.chmod(0o777)  # noqa: ASYNC240 - a moment's work
    for path in (copy.data, *copy.data.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    await server.start()
    await copy.start()
    return copy


@pytest.mark.requirement("T117")
async def test_after_a_failover_the_other_host_serves() -> None:
    async with private_postgres() as primary:
        folder = Path(tempfile.mkdtemp(prefix="todo-api-"))
        database = await primary.make_database()
        await upgrade_schema(make_settings(database_url=primary.url(database)))
        standby = await clone(primary, folder)
        try:
            # The standby is tried first.
            url = primary.url(database).replace("?host=", f"?host={folder}&host=")
            async with running(make_settings(database_url=url)) as service:
                alice = service.user()
                assert await alice.new_task()
                async with standby.admin(database) as admin:
                    assert await admin.fetchval("SELECT count(*) FROM task") == 0

                await primary.stop()
                await standby.run("SELECT pg_promote()")
                async with asyncio.timeout(60):
                    while (await alice.post({"title": "x"})).status_code != 201:  # noqa: ASYNC110 - there is no event
                        await asyncio.sleep(0.1)
                async with standby.admin(database) as admin:
                    assert await admin.fetchval("SELECT count(*) FROM task") == 1
        finally:
            await standby.stop()
            shutil.rmtree(folder)


@pytest.mark.requirement("T117")
@pytest.mark.parametrize("attribute", ["read-write", "primary"])
async def test_a_single_host_may_have_to_take_writes(make_database: MakeDatabase, attribute: str) -> None:
    async with proxy_to(await make_database("postgresql")) as proxy:
        url = f"{proxy.url}?target_session_attrs={attribute}"
        async with connecting(url) as database:
            await database.fetch(select(1), {})
        async with connecting(url) as database:
            name = database.engine.url.database
            await database.fetch(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"), {})
        async with connecting(url) as database:
            if attribute == "primary":
                await database.fetch(select(1), {})
            else:
                with pytest.raises(ServiceUnavailable, match="read_only"):
                    await database.fetch(select(1), {})
