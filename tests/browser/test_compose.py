"""The programs of compose.yaml, with its environment, on loopback: Caddy, the service, the app and Postgres."""
# [Task]: T175 [From]: specs/features/hosting.md

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.browser.browser import Browser
from tests.browser.stack import next_server
from tests.compose import composed
from tests.databases import MakeDatabase
from tests.leaks import PASSWORD, SECRET, watch
from tests.reverse_proxies import PROGRAMS
from tests.server import INHERITED, ROOT, pick_port, running_process, uvicorn_process
from tests.service import bearer
from tests.waiting import until

CADDY = PROGRAMS["caddy"]
pytestmark = [
    pytest.mark.requirement("T175"),
    pytest.mark.skipif(CADDY is None, reason="Caddy isn't installed"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed"),
]


@dataclass
class App:
    """The app at its origin, whose certificate is signed by a CA in this file."""

    origin: str
    redirecting: str
    ca: Path
    service_pid: int

    def client(self) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=self.ca)
        return httpx.AsyncClient(base_url=self.origin, headers={"Origin": self.origin}, verify=context, trust_env=False)


def database_of(environment: dict[str, str], url: str) -> dict[str, str]:
    """The environment with another server's database, and otherwise the same parameters."""
    _, _, parameters = environment["DATABASE_URL"].partition("?")
    return environment | {"DATABASE_URL": f"{url}{'&' if '?' in url else '?'}{parameters}"}


@asynccontextmanager
async def caddy(folder: Path, http_port: int, places: dict[str, str], **environment: str) -> AsyncIterator[None]:
    """The proxy. Its authority is kept in this folder, and nobody is made to trust it."""
    assert CADDY
    text = (ROOT / "deploy/compose.Caddyfile").read_text()
    for name, place in places.items():
        assert name in text
        text = text.replace(name, place)
    options = ("admin off", "skip_install_trust", "default_bind 127.0.0.1", f"http_port {http_port}")
    (folder / "Caddyfile").write_text("\n".join(["{", *options, "log {\nlevel ERROR\n}", "}", text]))
    command = (CADDY, "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile")
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), f"{folder}")
    async with running_process(*command, cwd=folder, env=INHERITED | homes | environment) as process:
        while not (folder / "caddy/pki/authorities/local/root.crt").exists():
            assert process.process.returncode is None, process.output
            await asyncio.sleep(0.01)
        yield


@pytest.fixture(scope="module")
async def app(built: None, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    folder = tmp_path_factory.mktemp("compose")
    port, http_port, api_port, web_port = (pick_port() for _ in range(4))
    places = {"api:8000": f"127.0.0.1:{api_port}", "web:3000": f"127.0.0.1:{web_port}"}
    services = composed(DOMAIN=f"localhost:{port}", POSTGRES_PASSWORD=PASSWORD, AUTH_SECRET=SECRET)["services"]
    url = await make_database("postgresql")

    def environment_of(name: str) -> dict[str, str]:
        environment: dict[str, str] = services[name]["environment"]
        for there, here in places.items():
            environment = {key: value.replace(there, here) for key, value in environment.items()}
        return environment

    api, web = (database_of(environment_of(name), url) for name in ("api", "web"))
    async with (
        next_server(web_port, **web),
        uvicorn_process(folder, "--port", f"{api_port}", **api) as service,
        caddy(folder, http_port, places, **environment_of("proxy")),
    ):
        app = App(
            api["BETTER_AUTH_URL"],
            f"http://localhost:{http_port}",
            folder / "caddy/pki/authorities/local/root.crt",
            service.process.pid,
        )

        async def is_ready() -> bool:
            # The certificate may not be there yet.
            with suppress(httpx.TransportError):
                return (await client.get("/todo-api/ready")).is_success
            return False

        async with app.client() as client:
            await until(is_ready)
        yield app


async def test_a_person_signs_up_and_sees_the_task_in_two_tabs(app: App, browser: Browser) -> None:
    person = await browser.meet(app.origin, ignoreHTTPSErrors=True)
    await person.sign_up()
    first, second = await person.open(), await person.open()

    await first.add("Buy milk")

    for tab in (first, second):
        await tab.lists("Buy milk")


async def test_the_app_itself_finds_the_service(app: App) -> None:
    async with app.client() as client:
        account = {"name": "Bob", "email": "bob@example.com", "password": "correct horse"}
        assert (await client.post("/api/auth/sign-up/email", json=account)).status_code == 200
        token = watch.issue((await client.get("/api/auth/token")).json()["token"])
        made = await client.post("/todo-api/api/tasks", json={"title": "Buy bread"}, headers=bearer(token))
        assert made.status_code == 201
        assert (await client.get(made.headers["Location"], headers=bearer(token))).json() == made.json()
        page = await client.get("/tasks")

    # The service verified the app's token, and the app's server has rendered the task.
    assert "Buy bread" in page.text


async def test_browsers_speak_http_2(app: App, tmp_path: Path) -> None:
    for path, status in (("/", 200), ("/todo-api/health", 200), ("/todo-api/api/tasks", 401)):
        curl = (
            "curl",
            "-sS",
            "--http2",
            "--cacert",
            f"{app.ca}",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
        )
        async with running_process(*curl, app.origin + path, cwd=tmp_path) as process:
            await process.end()
        assert process.output == f"2 {status}"


async def test_plain_http_leads_to_https(app: App) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{app.redirecting}/tasks")

    assert (answer.status_code, answer.headers["Location"].startswith("https://localhost")) == (308, True)


async def test_the_service_has_two_workers(app: App) -> None:
    children = psutil.Process(app.service_pid).children()

    assert len([child for child in children if "spawn_main" in " ".join(child.cmdline())]) == 2
