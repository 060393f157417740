# [Task]: T030 [From]: specs/features/authentication.md
"""The keyless start on a developer's machine: a kept secret and a ready-made token."""

import asyncio
import logging
import os
import secrets
import shlex
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import jwt

from config import SECRET_BYTES
from faults import StartupError

logger = logging.getLogger(__name__)

SECRET_FILE: Final = Path(".dev-secret")
DEMO_USER: Final = "demo"
DEMO_TOKEN_LIFETIME: Final = timedelta(days=7)
LISTEN_PATIENCE_SECONDS: Final = 10.0
LISTEN_POLL_SECONDS: Final = 0.05


def development_secret() -> str:
    """The secret of a keyless start: made once and kept in a file that only its owner may read,
    so that tokens outlive a reload and all workers share it. Raises `StartupError`.
    """
    try:
        if not SECRET_FILE.exists():
            # Written aside and linked into place: a worker that starts at the same time sees a
            # whole secret or none, and whoever links first wins.
            draft = SECRET_FILE.with_name(f"{SECRET_FILE.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(max(SECRET_BYTES.values())))
            with suppress(FileExistsError):
                os.link(draft, SECRET_FILE)
            draft.unlink()
        SECRET_FILE.chmod(0o600)
        secret = SECRET_FILE.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(
            f"The service can't start: no secret is set, and {SECRET_FILE} can't be used"
            f" ({error}). Set BETTER_AUTH_SECRET."
        ) from None
    if len(secret) < max(SECRET_BYTES.values()):
        raise StartupError(f"The service can't start: {SECRET_FILE} is damaged. Delete it.")
    logger.warning(
        "Development mode: no BETTER_AUTH_SECRET is set, so the one in %s signs the tokens",
        SECRET_FILE,
    )
    return secret


async def print_demo(secret: str, algorithm: str) -> None:
    """Prints a token of a demo user and a `curl` line with it, once the server listens."""
    deadline = asyncio.get_running_loop().time() + LISTEN_PATIENCE_SECONDS
    while (address := listening_address()) is None:
        if asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(LISTEN_POLL_SECONDS)
    now = datetime.now(UTC)
    token = jwt.encode(
        {"sub": DEMO_USER, "iat": now, "exp": now + DEMO_TOKEN_LIFETIME}, secret, algorithm
    )
    words = [
        *("curl", f"http://{address}/api/{DEMO_USER}/tasks"),
        *("-H", f"Authorization: Bearer {token}"),
        *("-H", "Content-Type: application/json"),
        *("-d", '{"title": "Try the API"}'),
    ]
    print(f"\nA token of the user {DEMO_USER}:\n\n{token}\n\nMake a task with it:\n")  # noqa: T201 - a secret is not for the log
    print(shlex.join(words), end="\n\n", flush=True)  # noqa: T201 - likewise


def listening_address() -> str | None:
    """Where this process can be reached on this machine, from the sockets it listens on. Nothing
    tells an application its port, which may be the server's choice (`--port 0`).
    """
    for descriptor in Path("/dev/fd").iterdir():
        with suppress(OSError):
            candidate = socket.socket(fileno=int(descriptor.name))
            try:
                is_tcp = candidate.family in {socket.AF_INET, socket.AF_INET6}
                if is_tcp and candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    host, port = candidate.getsockname()[:2]
                    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
                    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            finally:
                candidate.detach()
    return None
