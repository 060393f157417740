"""The pages of hosts: their files, commands, settings and SQL, on a real uvicorn and a real PostgreSQL."""
# [Task]: T044, T045, T186 [From]: specs/database/schema.md, specs/features/hosting.md

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from io import StringIO
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
import yaml  # type: ignore[import-untyped] # schemathesis brings it, without types
from dotenv import dotenv_values
from sqlalchemy import make_url
from uvicorn.main import main as uvicorn_command

import live
from commands import connections
from config import NAMES, Settings
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import INHERITED, ROOT, Process, connect, pick_port, running_process
from tests.service import StartService, User, bearer, make_settings, make_token, running
from tests.snippets import HOSTS

pytestmark = pytest.mark.requirement("T186")

BLUEPRINT = yaml.safe_load(HOSTS["render", "yaml"])
RENDER = BLUEPRINT["services"][0]
RAILWAY = json.loads(HOSTS["railway", "json"])["deploy"]
FLY = tomllib.loads(HOSTS["fly", "toml"])
PROCFILE = dict(line.split(": ", 1) for line in HOSTS["heroku", "procfile"].splitlines())
# The variables of the service on each host.
VARIABLES: dict[str, dict[str, str]] = {
    host: {name: value or "" for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items()}
    for (host, language), text in HOSTS.items()
    if language == "dotenv"
} | {"render": {one["key"]: one["value"] for one in RENDER["envVars"] if "value" in one}, "fly": FLY["env"]}
# What else is read from the environment: by uvicorn, and by the host's own build.
OTHERS = {"FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY", "PORT", "PYTHON_VERSION"}
OTHERS |= {f"UVICORN_{parameter.name}".upper() for parameter in uvicorn_command.params}
# Seconds from SIGTERM to SIGKILL. Heroku's and Cloud Run's can't be set.
PATIENCE = {
    "render": RENDER["maxShutdownDelaySeconds"],
    "railway": RAILWAY["drainingSeconds"],
    "fly": FLY["kill_timeout"],
    "heroku": 30,
    "cloud-run": 10,
}
# The image's command is a shell's.
IN_IMAGE = json.loads(re.findall(r"^CMD (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1])[2]
PATHS = [RENDER["healthCheckPath"], RAILWAY["healthcheckPath"], FLY["http_service"]["checks"][0]["path"]]


def settings_of(host: str) -> Settings:
    """The settings that a page names, without those that another page of the host fills in."""
    values = {NAMES[name.lower()]: value for name, value in VARIABLES[host].items() if name.lower() in NAMES}
    if "$" in values.get("database_url", ""):
        del values["database_url"]
    return make_settings(**values)


@pytest.fixture
def here(tmp_path: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Supabase's certificate, as far as the service can tell, in which the test runs."""
    shutil.copy(tmp_path / "cert.pem", tmp_path / "prod-ca-2021.crt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("host", VARIABLES)
def test_the_service_takes_the_variables(host: str) -> None:
    assert {name for name in VARIABLES[host] if name.lower() not in NAMES} <= OTHERS

    assert settings_of(host).better_auth_url == "https://app.example.com"


@pytest.mark.usefixtures("here")
@pytest.mark.requirement("T045")
@pytest.mark.parametrize("host", ["neon", "supabase"])
def test_the_databases_certificate_is_verified(host: str) -> None:
    database = settings_of(host).database

    (place,) = database.hosts
    assert not database.pooled
    assert all(way and way.verify_mode is ssl.CERT_REQUIRED and way.check_hostname for way in place.tls)


@pytest.mark.requirement("T044")
@pytest.mark.parametrize(
    ("url", "idle"),
    [
        (VARIABLES["neon"]["DATABASE_URL"].replace("123456.", "123456-pooler."), 300),
        ("postgresql://postgres.p:x@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", 0),
        ("postgresql://fly-user:x@pgbouncer.cluster.flympg.net/fly-db?pgbouncer=true", 0),
    ],
    ids=["neon", "supabase", "fly"],
)
def test_a_hosts_pooler_is_recognised(url: str, idle: int) -> None:
    settings = make_settings(database_url=url)

    assert settings.database.pooled
    assert settings.seconds_until_idle == idle


@pytest.mark.parametrize("host", PATIENCE)
def test_the_service_stops_before_the_host_kills_it(host: str) -> None:
    assert settings_of(host).shutdown_timeout < PATIENCE[host]


async def test_the_health_checks_are_answered(start: StartService) -> None:
    service = await start()

    assert [(await service.client.get(path)).status_code for path in PATHS] == [200] * 3


def test_the_file_of_fly_fits_the_service() -> None:
    limits = FLY["http_service"]["concurrency"]

    assert FLY["kill_signal"] == "SIGTERM"
    assert str(FLY["http_service"]["internal_port"]) == FLY["env"]["PORT"]
    assert (limits["type"], limits["hard_limit"] > live.MOST_STREAMS) == ("requests", True)


def test_the_connections_of_two_dynos_fit_in_twenty() -> None:
    options = connections.read_arguments(["--workers", "2", "--limit", "20", "--reserved", "0"])

    assert connections.compute(options, settings_of("heroku"))[0]
    fits, lines = connections.compute(options, make_settings())
    assert (fits, lines[-1]) == (False, "They would fit with DB_POOL_SIZE=4 and DB_MAX_OVERFLOW=0.")


# --- commands


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    """A folder with the service alone, as in its image: without a `.env`."""
    folder = tmp_path / "app"
    folder.mkdir()
    for path in [*ROOT.glob("*.py"), *(path.parent for path in ROOT.glob("*/__init__.py")), ROOT / "pyproject.toml"]:
        (folder / path.name).symlink_to(path)
    return folder


def shell(command: str, folder: Path, host: str, **variables: str) -> AbstractAsyncContextManager[Process]:
    """A command as a host runs it, with the variables of the host's page, in a process group of its own."""
    path = f"{Path(sys.executable).parent}:{INHERITED['PATH']}"
    ours = {"PATH": path, "PYTHONUNBUFFERED": "1", "BETTER_AUTH_SECRET": SECRET, "BETTER_AUTH_URL": ""}
    environment = INHERITED | VARIABLES[host] | ours | variables
    return running_process("bash", "-c", command, cwd=folder, env=environment, start_new_session=True)


@pytest.mark.parametrize(
    ("host", "migrate", "serve"),
    [
        ("render", RENDER["preDeployCommand"], RENDER["startCommand"]),
        ("railway", RAILWAY["preDeployCommand"][0], RAILWAY["startCommand"]),
        ("fly", FLY["deploy"]["release_command"], IN_IMAGE),
    ],
)
async def test_the_commands_migrate_and_serve(app_folder: Path, host: str, migrate: str, serve: str) -> None:
    port = pick_port()
    variables = {"DATABASE_URL": "sqlite:///./todo.db", "PORT": f"{port}"}
    # What `uv run` would run, in the environment that is there.
    migrate, serve = (command.removeprefix("uv run --no-dev ") for command in (migrate, serve))
    async with shell(migrate, app_folder, host, **variables) as migration:
        assert await migration.end() == 0, migration.output

    async with shell(serve, app_folder, host, **variables) as server, httpx.AsyncClient() as client:
        await server.wait_for("running on")
        for place in ["127.0.0.1", "[::1]"] if "--host= " in serve else ["127.0.0.1"]:
            assert (await client.get(f"http://{place}:{port}/ready")).status_code == 200


@pytest.fixture
async def encrypted(make_database: MakeDatabase, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """The URL of a database whose certificate is its own, without a word of TLS. The tests' PostgreSQL is built without
    TLS, so that a relay speaks it, as some hosts' do.
    """
    url = make_url(await make_database("postgresql"))

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # SSLRequest, and the answer that TLS may begin (PostgreSQL 18, section 54.2.12).
        assert await reader.readexactly(8) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
        writer.write(b"S")
        try:
            await writer.start_tls(tls)
        except OSError:  # the client refuses the certificate
            return
        theirs = await (
            asyncio.open_connection(url.host, url.port or 5432)
            if url.host
            else asyncio.open_unix_connection(f"{url.query['host']}/.s.PGSQL.5432")
        )
        await asyncio.gather(pump(reader, theirs[1]), pump(theirs[0], writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield url.set(query={}, host="127.0.0.1", port=port).render_as_string(hide_password=False)
    server.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_the_procfile_serves_and_stops(app_folder: Path, encrypted: str) -> None:
    port = pick_port()
    variables = {"DATABASE_URL": encrypted, "PORT": f"{port}", "WEB_CONCURRENCY": "2"}
    async with shell(PROCFILE["release"], app_folder, "heroku", **variables) as release:
        assert await release.end() == 0, release.output

    async with (
        shell(PROCFILE["web"], app_folder, "heroku", **variables) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        await server.wait_for(r"(?s)(?:.*startup complete){2}")
        assert (await User(client, "ada").get()).status_code == 403
        client.headers["X-Forwarded-Proto"] = "https"
        await User(client, "ada").new_task()

        # A body that is still to come when everything is told to stop.
        body = json.dumps({"title": "In flight"}).encode()
        with connect(port) as connection:
            connection.sendall(request_of(body))
            assert (await asyncio.to_thread(connection.recv, 4096)).startswith(b"HTTP/1.1 100")
            os.killpg(server.process.pid, signal.SIGTERM)
            await server.wait_for("Shutting down")
            connection.sendall(body)
            answer = await asyncio.to_thread(connection.recv, 4096)
        assert answer.startswith(b"HTTP/1.1 201")
        await server.end()
    assert "Traceback" not in server.output


def request_of(body: bytes) -> bytes:
    """The head of a request that creates a task with this body, once the service asks for it."""
    headers = bearer(make_token("ada")) | {"Content-Type": "application/json", "Content-Length": str(len(body))}
    headers |= {"Host": "testserver", "X-Forwarded-Proto": "https", "Expect": "100-continue"}
    lines = ["POST /api/ada/tasks HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.requirement("T045")
async def test_a_certificate_of_ones_own_is_trusted_by_name(here: Path, encrypted: str) -> None:
    query = VARIABLES["supabase"]["DATABASE_URL"].partition("?")[2]
    async with running(make_settings(database_url=f"{encrypted}?{query}")) as service:
        assert (await service.user().new_task())["id"] == 1


@pytest.mark.requirement("T044")
async def test_cloud_sqls_socket_is_found(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = make_url(await make_database("postgresql"))
    place = make_url(VARIABLES["cloud-run"]["DATABASE_URL"]).query["host"]
    folder = tmp_path_factory.mktemp("sql") / Path(str(place)).name
    folder.symlink_to(str(url.query["host"]))

    there = url.set(query={"host": str(folder)}).render_as_string(hide_password=False)
    async with running(make_settings(database_url=there)) as service:
        assert (await service.user().new_task())["id"] == 1


# --- Supabase's Data API


@pytest.fixture
async def exposed(make_database: MakeDatabase) -> AsyncIterator[tuple[str, asyncpg.Connection, str]]:
    """The URL of a database whose owner isn't a superuser, an administrator there, and the SQL of the page, in which
    the roles of the Data API have names that no other test uses. They are granted each new table.
    """
    url, mark = await make_database("postgresql"), uuid4().hex
    owner, *strangers = roles = [f"{name}_{mark}" for name in ("owner", "anon", "authenticated")]
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE ROLE {owner} LOGIN; GRANT CREATE ON SCHEMA public TO {owner}")
    for role in strangers:
        await admin.execute(
            f"CREATE ROLE {role}; ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES TO {role}"
        )
    theirs = make_url(url).set(username=owner).render_as_string(hide_password=False)
    yield theirs, admin, re.sub(r"\b(anon|authenticated)\b", rf"\1_{mark}", HOSTS["supabase", "sql"])
    for role in reversed(roles):
        await admin.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
    await admin.close()


async def test_the_data_api_is_closed(exposed: tuple[str, asyncpg.Connection, str]) -> None:
    url, admin, statements = exposed
    settings = make_settings(database_url=url)
    owner = await asyncpg.connect(url)
    stranger = re.findall(r"\banon_\w+", statements)[0]
    async with running(settings) as service:
        user = service.user()
        await user.new_task()
        tag = (await user.get()).headers["ETag"]
        await admin.execute(f"SET ROLE {stranger}")
        assert await admin.fetchval("SELECT count(*) FROM task") == 1

        await owner.execute(statements)

        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await admin.fetchval("SELECT count(*) FROM task")
        # The triggers go on.
        await user.new_task()
        assert (await user.get(headers={"If-None-Match": tag})).status_code == 200
    # Rights that somebody grants anew show nothing.
    await owner.execute(f"GRANT ALL ON task, task_list_version, task_schema_version TO {stranger}")
    for table in ("task", "task_list_version", "task_schema_version"):
        assert await admin.fetchval(f"SELECT count(*) FROM {table}") == 0
    await admin.execute("RESET ROLE")
    async with running(settings) as service:
        assert len((await service.user(user.id).get()).json()) == 2
    tables = await admin.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relrowsecurity"
        " AND relnamespace = 'public'::regnamespace"
    )
    assert tables == []
    await owner.close()


# --- Vercel's previews


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://todo-app-3f9k2x1qz-acme.vercel.app", True),
        ("https://todo-app-git-new-list-acme.vercel.app", True),
        ("https://todo-app.vercel.app", False),
        ("https://todo-app-x-other.vercel.app", False),
        ("https://x.todo-app-x-acme.vercel.app", False),
        ("https://todo-app-x-acme.vercel.app.evil.example", False),
    ],
)
async def test_a_previews_page_may_call(start: StartService, origin: str, *, allowed: bool) -> None:
    service = await start(allowed_origins=VARIABLES["vercel"]["ALLOWED_ORIGINS"])
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}

    answer = await service.client.options("/api/ada/tasks", headers=asked)

    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
