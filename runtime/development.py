"""The keyless start on a developer's machine: a kept secret and a ready-made token."""
# [Task]: T030, T128 [From]: specs/features/authentication.md

import asyncio
import logging
import multiprocessing
import os
import secrets
import shlex
import socket
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

import jwt

from config import SECRET_BYTES
from errors import StartupError

logger = logging.getLogger(__name__)

SECRET_FILE = Path(".dev-secret")
# A link isn't followed, and a pipe isn't waited for. Windows has neither flag.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
DEMO_USER = "demo"
DEMO_TOKEN_LIFETIME = timedelta(days=7)
LISTEN_PATIENCE_SECONDS = 10.0
LISTEN_POLL_SECONDS = 0.05
# A server opens its socket early, when few descriptors are taken.
LOOKED_AT_DESCRIPTORS = 1024


def development_secret() -> str:
    """The secret of a keyless start: made once and kept in a file that only its owner may read,
    so that tokens outlive a reload and all workers share it. Raises `StartupError`.
    """
    try:
        try:
            secret = read_secret()
        except FileNotFoundError:
            make_secret()
            secret = read_secret()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(
            f"No secret is set, and {SECRET_FILE} can't be used ({error}). Delete it, or set BETTER_AUTH_SECRET."
        ) from None
    if len(secret) < max(SECRET_BYTES.values()):
        raise StartupError(f"{SECRET_FILE} is damaged. Delete it.")
    return secret


def read_secret() -> str:
    descriptor = os.open(SECRET_FILE, os.O_RDONLY | NO_FOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        # Which only its owner can do.
        SECRET_FILE.chmod(0o600)
        return os.read(descriptor, 1024).decode()
    finally:
        os.close(descriptor)


def make_secret() -> None:
    """Writes it aside and links it into place: a worker that starts at the same time sees a whole
    secret or none, and whoever links first wins.
    """
    with NamedTemporaryFile("w", dir=SECRET_FILE.parent, prefix=f"{SECRET_FILE}.") as draft:
        draft.write(secrets.token_urlsafe(max(SECRET_BYTES.values())))
        draft.flush()
        with suppress(FileExistsError):
            os.link(draft.name, SECRET_FILE)


async def print_demo(secret: str, algorithm: str) -> None:
    """Prints a token of a demo user and a `curl` line with it, once the server listens, and once
    for all processes of a start.
    """
    if not is_first_of_start():
        return
    logger.warning("Development mode: no BETTER_AUTH_SECRET is set, so the one in %s signs the tokens", SECRET_FILE)
    deadline = asyncio.get_running_loop().time() + LISTEN_PATIENCE_SECONDS
    while not (address := listening_address()):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(LISTEN_POLL_SECONDS)
    hint = "" if address else ", with your server's port in the place of 8000"
    *options, origin = address or ["http://127.0.0.1:8000"]
    now = datetime.now(UTC)
    token = jwt.encode({"sub": DEMO_USER, "iat": now, "exp": now + DEMO_TOKEN_LIFETIME}, secret, algorithm)
    words = [
        *("curl", *options, f"{origin}/api/{DEMO_USER}/tasks"),
        *("-H", f"Authorization: Bearer {token}"),
        *("-H", "Content-Type: application/json"),
        *("-d", '{"title": "Try the API"}'),
    ]
    print(  # noqa: T201 - a secret is not for the log
        f"\nA token of the user {DEMO_USER}:\n\n{token}\n\nMake a task with it{hint}:\n",
        shlex.join(words),
        sep="\n",
        end="\n\n",
        flush=True,
    )


def is_first_of_start() -> bool:
    """Whether no other worker of the same start, and none before a reload, has asked this. The
    first leaves a mark for the others.
    """
    # A new one for each start, which all processes inherit that a server makes.
    start = sha256(multiprocessing.current_process().authkey).hexdigest()[:16]
    mark = SECRET_FILE.with_name(f"{SECRET_FILE}.start-{start}")
    try:
        mark.touch(0o600, exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        # A folder where nothing can be written: better twice than never.
        return True
    for other in set(mark.parent.glob(f"{SECRET_FILE}.start-*")) - {mark}:
        other.unlink(missing_ok=True)
    return True


def listening_address() -> list[str]:
    """What `curl` has to be told to reach this process, from the socket that it listens on; empty
    where there is none. Nothing tells an application its port, which may be the server's choice
    (`--port 0`).
    """
    for descriptor in range(LOOKED_AT_DESCRIPTORS):
        with suppress(OSError):
            candidate = socket.socket(fileno=descriptor)
            try:
                name = candidate.getsockname()
                if not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    continue
                if isinstance(name, str):
                    return ["--unix-socket", str(Path(name).absolute()), "http://localhost"]
                if candidate.family in {socket.AF_INET, socket.AF_INET6}:
                    host = name[0] if ":" not in name[0] else f"[{name[0]}]"
                    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared
                    return [f"http://{host}:{name[1]}"]
            finally:
                candidate.detach()
    return []
