"""A start without a key on a developer's machine: a secret in a file, and a token to try the API with."""
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

import httpx
import jwt

from config import SECRET_BYTES
from errors import StartupError

logger = logging.getLogger(__name__)

SECRET_FILE = Path(".dev-secret")
SECRET_LENGTH = max(SECRET_BYTES.values())
# Doesn't follow a link, and doesn't wait for a pipe. Windows has neither flag.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
DEMO_USER = "demo"
LISTEN_PATIENCE_SECONDS = 10.0


def development_secret() -> str:
    """Returns the secret from a file that only its owner may read, and creates the file if there is none. So
    tokens outlive a reload, and all workers share the secret. Raises `StartupError`.
    """
    try:
        if not os.path.lexists(SECRET_FILE):
            make_secret()
        return read_secret()
    except (OSError, ValueError) as error:
        reason = f"No secret is set, and {SECRET_FILE} can't be used ({error}). Delete it, or set BETTER_AUTH_SECRET."
        raise StartupError(reason) from None


def make_secret() -> None:
    """Links a finished file into place: a worker that starts at the same time sees a whole secret or none, and
    the first link wins.
    """
    with NamedTemporaryFile("w", dir=SECRET_FILE.parent, prefix=f"{SECRET_FILE}.") as draft:
        draft.write(secrets.token_urlsafe(SECRET_LENGTH))
        draft.flush()
        with suppress(FileExistsError):
            os.link(draft.name, SECRET_FILE)


def read_secret() -> str:
    with open(SECRET_FILE, opener=lambda path, flags: os.open(path, flags | NO_FOLLOW)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        # This fails for everybody but the file's owner.
        SECRET_FILE.chmod(0o600)
        secret = file.read(1024)
    if len(secret) < SECRET_LENGTH:
        raise ValueError("it is damaged")
    return secret


async def print_demo(secret: str, algorithm: str) -> None:
    """Prints a token of a demo user, the link to /docs, and a `curl` line with the token, as soon as the server
    listens. Only the first process of a start does so.
    """
    if not is_first_of_start():
        return
    logger.warning(
        "Development mode: no BETTER_AUTH_SECRET is set, so tokens are verified by the secret in %s", SECRET_FILE
    )
    with suppress(TimeoutError):
        async with asyncio.timeout(LISTEN_PATIENCE_SECONDS):
            while not (address := listening_address()):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.05)
    hint = "" if address else ", with your server's port in the place of 8000"
    *options, origin = address or ["http://127.0.0.1:8000"]
    # A browser opens no Unix socket.
    way = "Make" if options else f"Paste it into Authorize at {origin}/docs, or make"
    now = datetime.now(UTC)
    token = jwt.encode({"sub": DEMO_USER, "iat": now, "exp": now + timedelta(days=7)}, secret, algorithm)
    headers = "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"
    body = "-d", '{"title": "Try the API"}'
    line = shlex.join(["curl", *options, f"{origin}/api/{DEMO_USER}/tasks", *headers, *body])
    print(  # noqa: T201 - a secret is not for the log
        f"\nA token of the user {DEMO_USER}:\n\n{token}\n\n{way} a task with it{hint}:\n\n{line}\n", flush=True
    )


def is_first_of_start() -> bool:
    """Whether this process is the first of a start to ask, among all workers and reloads. It leaves a mark file
    for the others.
    """
    # All processes of a server inherit this key, which is new at each start.
    start = sha256(multiprocessing.current_process().authkey).hexdigest()[:16]
    mark = SECRET_FILE.with_name(f"{SECRET_FILE}.start-{start}")
    try:
        mark.touch(0o600, exist_ok=False)
    except OSError as error:
        # In a read-only folder every process prints: better twice than never.
        return not isinstance(error, FileExistsError)
    for other in set(mark.parent.glob(f"{SECRET_FILE}.start-*")) - {mark}:
        other.unlink(missing_ok=True)
    return True


def listening_address() -> list[str]:
    """Finds the socket on which this process listens, and returns the arguments of `curl` for it, or none. No
    server tells an application its port, which may be the system's choice (`--port 0`).
    """
    # A server opens its socket early, while few descriptors are taken.
    for descriptor in range(1024):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as candidate:
                match candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and candidate.getsockname():
                    case str(path):
                        return ["--unix-socket", str(Path(path).absolute()), "http://localhost"]
                    case str(host), int(port), *_:
                        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
                        return [str(httpx.URL(scheme="http", host=host, port=port))]
    return []
