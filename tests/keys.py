"""Keys as a Better Auth server publishes them, tokens that are signed with them, and the server."""
# [Task]: T025, T026 [From]: specs/features/authentication.md

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.service import make_token

ORIGIN = "https://app.example"
USER = "key-holder"

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS: dict[str, tuple[Any, type[Any], str]] = {
    "EdDSA": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm, "EdDSA"),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm, "ES256"),
    "ES512": (ec.generate_private_key(ec.SECP521R1()), ECAlgorithm, "ES512"),
    "RS256": (RSA_KEY, RSAAlgorithm, "RS256"),
    "PS256": (RSA_KEY, RSAAlgorithm, "PS256"),
}


def public_jwk(name: str, **members: Any) -> dict[str, Any]:
    """A key as Better Auth publishes it; a member of None is left out."""
    private, algorithm, alg = KEYS[name]
    jwk = algorithm.to_jwk(private.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    jwk |= {"alg": alg, "kid": name} | members
    return {member: value for member, value in jwk.items() if value is not None}


def published_token(name: str = "EdDSA", kid: str | None = "", **claims: Any) -> str:
    """A token as Better Auth signs it, unless told otherwise."""
    private, _, algorithm = KEYS[name]
    headers: dict[str, Any] = {"typ": None}
    if kid is not None:
        headers["kid"] = kid or name
    content = {"iss": ORIGIN, "aud": ORIGIN, "iat": int(time.time())} | claims
    return make_token(USER, key=private, algorithm=algorithm, headers=headers, **content)


class KeyServer:
    """An HTTP server that publishes keys and counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk(name) for name in KEYS]
        self.body: bytes | None = None
        self.status = 200
        self.headers = ""
        self.request = b""
        self.asked = 0
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.request = await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.is_asked.set()
            body = self.body
            if body is None:
                body = json.dumps({"keys": self.keys}).encode()
            await self.may_answer.wait()
            head = f"HTTP/1.1 {self.status} Status\r\nContent-Length: {len(body)}\r\n{self.headers}"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def serving_keys() -> AsyncIterator[KeyServer]:
    keys = KeyServer()
    server = await asyncio.start_server(keys.answer, "127.0.0.1", 0)
    keys.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/auth/jwks"
    yield keys
    keys.may_answer.set()
    server.close()
    await server.wait_closed()
