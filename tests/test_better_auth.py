"""Tokens of a real Better Auth server, for each way in which it signs them."""
# [Task]: T024, T025 [From]: specs/features/authentication.md

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.service import StartService, bearer

FOLDER = Path(__file__).parent / "better_auth"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").exists(),
    reason="Better Auth needs Node.js 20.19+ and: npm ci --prefix tests/better_auth",
)


@dataclass
class Frontend:
    """A Better Auth server with a signed-in user."""

    origin: str
    user_id: str
    client: httpx.AsyncClient

    async def token(self, path: str) -> str:
        response = await self.client.get(path)
        token: str = response.json()["token"]
        return token


@asynccontextmanager
async def better_auth(**environment: str) -> AsyncIterator[Frontend]:
    process = await asyncio.create_subprocess_exec(
        "node",
        "server.mjs",
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "BETTER_AUTH_SECRET": SECRET} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        origin = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient(base_url=origin) as client:
            account = {"name": "Ada", "email": "ada@example.com", "password": "correct horse"}
            response = await client.post("/api/auth/sign-up/email", json=account)
            yield Frontend(origin, response.json()["user"]["id"], client)
    finally:
        process.stdin.close()
        await process.wait()


class StatusOf(Protocol):
    async def __call__(self, frontend: Frontend, token: str, **settings: Any) -> int: ...


@pytest.fixture
def status_of(start: StartService, make_database: MakeDatabase) -> StatusOf:
    """Gets the status with which a service with these settings answers a token."""

    async def status_of(frontend: Frontend, token: str, **settings: Any) -> int:
        service = await start(database_url=await make_database("sqlite"), **settings)
        answer = await service.client.get(f"/api/{frontend.user_id}/tasks", headers=bearer(token))
        return answer.status_code

    return status_of


@pytest.mark.requirement("T025")
@pytest.mark.parametrize("algorithm", ["", "EdDSA", "ES256", "ES512", "RS256", "PS256"])
async def test_a_token_of_the_jwt_plugin_is_accepted(status_of: StatusOf, algorithm: str) -> None:
    async with better_auth(KEY_ALG=algorithm) as frontend:
        token = await frontend.token("/api/auth/token")

        by_keys = {"better_auth_secret": None, "better_auth_url": frontend.origin}
        assert await status_of(frontend, token, **by_keys) == 200
        another_origin = by_keys | {
            "better_auth_url": "http://other.example",
            "jwks_url": frontend.origin + "/api/auth/jwks",
        }
        assert await status_of(frontend, token, **another_origin) == 401
        assert await status_of(frontend, token) == 401


@pytest.mark.requirement("T024")
async def test_a_token_signed_with_the_secret_is_accepted(status_of: StatusOf) -> None:
    async with better_auth() as frontend:
        token = await frontend.token("/api/token")

        assert await status_of(frontend, token) == 200
        assert await status_of(frontend, token, better_auth_url=frontend.origin) == 200
        checked = {"jwt_issuer": frontend.origin, "jwt_audience": frontend.origin}
        assert await status_of(frontend, token, **checked) == 200


@pytest.mark.requirement("T023", "T024")
@pytest.mark.parametrize("signer", ["secret", "jwks"])
async def test_a_session_and_its_cookies_are_not_tokens(status_of: StatusOf, signer: str) -> None:
    async with better_auth(CACHE_SIGNER=signer) as frontend:
        await frontend.client.get("/api/auth/get-session")
        cookies = dict(frontend.client.cookies)
        session = json.loads((await frontend.client.get("/api/auth/get-session")).content)

        assert cookies["better-auth.session_data"].count(".") == 2
        for value in (*cookies.values(), session["session"]["token"]):
            assert await status_of(frontend, value, better_auth_url=frontend.origin) == 401
