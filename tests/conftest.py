"""Fixtures. The service starts once for each backend; each test has its own users."""
# [Task]: T001, T020 [From]: specs/features/task-crud.md, specs/features/authentication.md

import logging
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Executable, event

from db import Database, Row
from logs import quiet_libraries
from main import create_app
from tests.certificates import make_certificate
from tests.databases import MakeDatabase, postgres_database, postgres_server
from tests.keys import KeyServer, serving_keys
from tests.leaks import watch
from tests.proxy import Proxy, proxy_to
from tests.server import serving
from tests.service import Service, StartService, User, check_statement, make_settings, running
from tests.streams import asking_often

BACKENDS = ["sqlite", "postgresql"]

# httpx looks for this package in the whole path at each request, unless it is known to be missing.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seconds", type=float, default=20, help="how long things break in tests/faults")
    parser.addoption("--fault-seed", type=int, default=0, help="which break, and in what order")


@pytest.fixture(scope="session", autouse=True)
def watched_statements() -> Iterator[None]:
    """Checks that no request of any test runs a statement outside of `statements.py`."""
    fetch = Database.fetch

    async def checked(self: Database, statement: Executable, parameters: Any) -> list[Row]:
        check_statement(None, statement)
        return await fetch(self, statement, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "fetch", checked)
        # A session's statements pass SQLAlchemy's events.
        event.listen(Engine, "before_execute", check_statement)
        yield
        event.remove(Engine, "before_execute", check_statement)


@pytest.fixture(scope="session", autouse=True)
def watched_log() -> Iterator[None]:
    """Searches every log line, of any level, for secrets."""
    quiet_libraries()
    root = logging.getLogger()
    level = root.level
    root.addHandler(watch)
    root.setLevel(logging.DEBUG)
    yield
    root.removeHandler(watch)
    root.setLevel(level)
    assert watch.take() == []


@pytest.fixture(autouse=True)
def nothing_leaks(watched_log: None) -> Iterator[None]:
    """Checks that no test makes the service reveal a secret."""
    yield
    assert watch.take() == []


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
async def make_database(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MakeDatabase]:
    """Creates empty databases, and returns their URLs."""
    async with AsyncExitStack() as stack:

        async def make(backend: str) -> str:
            if backend == "sqlite":
                return f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('sqlite')}/todo.db"
            return await stack.enter_async_context(postgres_database(postgres))

        yield make


@pytest.fixture(scope="session", params=BACKENDS)
async def service(request: pytest.FixtureRequest, make_database: MakeDatabase) -> AsyncIterator[Service]:
    """The service on each backend."""
    async with running(make_settings(database_url=await make_database(request.param))) as service:
        yield service


@pytest.fixture(scope="session")
async def plain_service(make_database: MakeDatabase) -> AsyncIterator[Service]:
    """The service on SQLite alone, for tests that reach no database."""
    async with running(make_settings(database_url=await make_database("sqlite"))) as service:
        yield service


@pytest.fixture
async def start(make_database: MakeDatabase) -> AsyncIterator[StartService]:
    """Starts a service with these settings, on an empty SQLite database unless they name one, until the test ends."""
    async with AsyncExitStack() as stack:

        async def start_service(**values: Any) -> Service:
            values.setdefault("database_url", await make_database("sqlite"))
            return await stack.enter_async_context(running(make_settings(**values)))

        yield start_service


@pytest.fixture
async def often(make_database: MakeDatabase) -> AsyncIterator[Service]:
    """A service that asks often what other workers changed."""
    async with asking_often(database_url=await make_database("sqlite")) as service:
        yield service


@pytest.fixture
def without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes tests of streams quick, since one that pauses after an event ends only then."""
    monkeypatch.setattr("routes.events.PAUSE_SECONDS", 0)


@pytest.fixture
def always_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `/ready` check the database each time."""
    monkeypatch.setattr("readiness.GOOD_FOR_SECONDS", 0)


@pytest.fixture(scope="session", params=BACKENDS)
async def live_port(request: pytest.FixtureRequest, make_database: MakeDatabase) -> AsyncIterator[int]:
    """The port of the service on each backend, behind a real uvicorn."""
    settings = make_settings(database_url=await make_database(request.param))
    with serving(create_app(settings)) as port:
        yield port


@pytest.fixture(params=BACKENDS)
async def database_url(request: pytest.FixtureRequest, make_database: MakeDatabase) -> str:
    """An empty database of each backend, for a test that needs its own."""
    return await make_database(request.param)


@pytest.fixture
async def proxy(make_database: MakeDatabase) -> AsyncIterator[Proxy]:
    """A proxy before an empty database on Postgres."""
    async with proxy_to(await make_database("postgresql")) as proxy:
        yield proxy


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    async with serving_keys() as server:
        yield server


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A TLS server's context, whose certificate is the test's `cert.pem`."""
    return make_certificate(tmp_path)


@pytest.fixture
def alice(service: Service) -> User:
    return service.user()


@pytest.fixture
def bob(service: Service) -> User:
    return service.user()
