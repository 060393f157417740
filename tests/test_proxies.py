"""The service behind the reverse proxies of deploy/: nginx and Caddy, with TLS and HTTP/2."""
# [Task]: T176 [From]: specs/features/hosting.md

import asyncio
import shutil
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.certificates import make_certificate
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.reverse_proxies import PROGRAMS, reverse_proxy
from tests.server import Process, running_process, uvicorn_process
from tests.service import User, make_token
from tests.waiting import BOUND_SECONDS

pytestmark = [
    pytest.mark.requirement("T176"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed"),
]

SETTINGS = {"BETTER_AUTH_SECRET": SECRET, "REQUIRE_HTTPS": "true"}
# As the unit of deploy/ starts it: longer than the proxies keep a connection.
KEEP_ALIVE = ("--timeout-keep-alive", "75")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.skipif(program is None, reason=f"{name} isn't installed"))
        for name, program in PROGRAMS.items()
    ],
)
def proxy_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the proxies' files, with their certificate."""
    folder = tmp_path_factory.mktemp("proxies")
    make_certificate(folder)
    return folder


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async with uvicorn_process(tmp_path_factory.mktemp("service"), *KEEP_ALIVE, **SETTINGS) as process:
        yield process


@pytest.fixture(scope="module")
async def origin(proxy_name: str, folder: Path, server: Process) -> AsyncIterator[str]:
    async with reverse_proxy(proxy_name, folder, await server.url()) as origin:
        yield origin


def curl(folder: Path, user: str, *arguments: str) -> Any:
    token = f"Authorization: Bearer {make_token(user)}"
    command = ("curl", "--http2", "-sS", "--cacert", f"{folder}/cert.pem", "-H", token, *arguments)
    return running_process(*command, cwd=folder)


def client_of(folder: Path, origin: str) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    return httpx.AsyncClient(base_url=origin, verify=context, trust_env=False, timeout=60)


async def test_a_stream_passes_without_being_buffered(origin: str, folder: Path) -> None:
    async with curl(folder, "ada", "-i", "-N", f"{origin}/api/tasks/events") as stream:
        await stream.wait_for("event: ready")
        assert stream.output.startswith("HTTP/2 200")
        async with curl(folder, "ada", "-i", f"{origin}/api/tasks", "--json", '{"title": "A task"}') as made:
            assert await made.end() == 0
        assert made.output.startswith("HTTP/2 201")
        assert "strict-transport-security: " in made.output
        # A proxy that buffers would never tell.
        async with asyncio.timeout(BOUND_SECONDS):
            await stream.wait_for("event: changed")


async def test_a_stop_of_the_service_ends_a_stream_as_a_whole(proxy_name: str, folder: Path, tmp_path: Path) -> None:
    async with (
        uvicorn_process(tmp_path, *KEEP_ALIVE, **SETTINGS) as server,
        reverse_proxy(proxy_name, folder, await server.url()) as origin,
        curl(folder, "ada", "-N", f"{origin}/api/tasks/events") as stream,
    ):
        await stream.wait_for("event: ready")
        server.process.send_signal(signal.SIGTERM)
        # curl knows whether HTTP/2's last frame came.
        assert await stream.end() == 0, stream.output


async def test_a_client_can_not_claim_another_scheme(origin: str, folder: Path) -> None:
    forged = {"X-Forwarded-Proto": "http", "X-Forwarded-For": "203.0.113.7"}
    async with client_of(folder, origin) as client:
        answer = await User(client, "ada").get(headers=forged)
    assert answer.status_code == 200


async def test_a_body_that_is_too_large_is_the_services_413(origin: str, folder: Path) -> None:
    async with client_of(folder, origin) as client:
        answer = await User(client, "ada").post({"title": "t", "description": "x" * 500_000})
        assert (answer.status_code, answer.json()) == (413, {"detail": "The body must be at most 65536 bytes"})
        # The connection goes on.
        assert (await User(client, "ada").new_task("t"))["title"] == "t"


def ports_of_proxy(server: Process) -> set[int]:
    """The proxy's ends of its connections to the service."""
    opened = psutil.Process(server.process.pid).net_connections("tcp")
    return {one.raddr.port for one in opened if one.status == psutil.CONN_ESTABLISHED}


async def test_a_connection_to_the_service_is_used_again(origin: str, server: Process, folder: Path) -> None:
    async with client_of(folder, origin) as client:
        user = User(client, "ada")
        await user.new_task()
        before = ports_of_proxy(server)
        for number in range(30):
            assert (await user.post({"title": f"{number}"})).status_code == 201
        after = ports_of_proxy(server)
    assert before & after
    # Caddy's question for its health opens another if it comes during a request.
    assert len(before | after) < 10


async def test_metrics_are_of_no_concern_to_anybody_outside(proxy_name: str, folder: Path, tmp_path: Path) -> None:
    token = "a-token-for-the-metrics"
    async with (
        uvicorn_process(tmp_path, *KEEP_ALIVE, METRICS_TOKEN=token, **SETTINGS) as server,
        reverse_proxy(proxy_name, folder, url := await server.url()) as origin,
        client_of(folder, origin) as client,
    ):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/metrics", headers=headers)).status_code == 404
        assert (await client.get(f"{url}/metrics", headers=headers)).status_code == 200


# As the comments of the files say.
PREFIXED = {
    "nginx": (("location / {", "location /todo/ {"), ("proxy_pass http://todo_api;", "proxy_pass http://todo_api/;")),
    "caddy": (("\treverse_proxy", "\thandle_path /todo/* {\n\treverse_proxy"), ("\n}\n", "\n}\n}\n")),
}


async def test_a_prefix_can_be_stripped(proxy_name: str, folder: Path, tmp_path: Path) -> None:
    async with (
        uvicorn_process(tmp_path, *KEEP_ALIVE, "--root-path", "/todo", **SETTINGS) as server,
        reverse_proxy(proxy_name, folder, await server.url(), replacing=PREFIXED[proxy_name]) as origin,
        client_of(folder, f"{origin}/todo") as client,
    ):
        user = User(client, "ada")
        made = await user.post({"title": "t"})
        assert (made.status_code, made.headers["Location"]) == (201, f"/todo/api/ada/tasks/{made.json()['id']}")
        await user.new_task()
        assert "</todo/api/ada/tasks?" in (await user.get("?limit=1")).headers["Link"]
        assert (await client.get("/docs")).status_code == 200


async def post_as_clients_do(user: User, title: str) -> None:
    """Repeats a POST with its key, until the proxy has noticed which replica is away."""
    headers = {"Idempotency-Key": title}
    async with asyncio.timeout(BOUND_SECONDS):
        while (answer := await user.post({"title": title}, headers=headers)).status_code in {502, 503}:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.1)
    assert answer.status_code == 201


async def test_a_replica_that_stops_costs_nothing(
    proxy_name: str, make_database: MakeDatabase, folder: Path, tmp_path: Path
) -> None:
    settings = SETTINGS | {"DATABASE_URL": await make_database("postgresql")}
    async with (
        uvicorn_process(tmp_path, *KEEP_ALIVE, **settings) as first,
        uvicorn_process(tmp_path, *KEEP_ALIVE, **settings) as second,
        reverse_proxy(proxy_name, folder, await first.url(), await second.url()) as origin,
        client_of(folder, origin) as client,
    ):
        user = User(client, "ada")
        for _ in range(10):
            assert (await user.get()).status_code == 200
        first.process.terminate()
        await first.end()
        for number in range(10):
            await post_as_clients_do(user, f"{number}")
        assert len((await user.get()).json()) == 10
