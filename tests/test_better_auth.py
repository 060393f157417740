"""Tokens of a real Better Auth server, in every way that it signs them."""
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
from typing import Any

import httpx
import pytest

from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.service import bearer, make_settings, running

FOLDER = Path(__file__).parent / "better_auth"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").exists(),
    reason="Better Auth needs Node.js 20.19+ and: npm ci --prefix tests/better_auth",
)


@dataclass
class Frontend:
    """A Better Auth server with a user who is signed in."""

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


async def status_of(frontend: Frontend, token: str, make_database: MakeDatabase, **settings: Any) -> int:
    url = await make_database("sqlite")
    async with running(make_settings(database_url=url, **settings)) as service:
        path = f"/api/{frontend.user_id}/tasks"
        answer = await service.client.get(path, headers=bearer(token))
        return answer.status_code


@pytest.mark.requirement("T025")
@pytest.mark.parametrize("algorithm", ["", "EdDSA", "ES256", "ES512", "RS256", "PS256"])
async def test_a_token_of_the_jwt_plugin(make_database: MakeDatabase, algorithm: str) -> None:
    async with better_auth(KEY_ALG=algorithm) as frontend:
        token = await frontend.token("/api/auth/token")

        by_keys = {"better_auth_secret": None, "better_auth_url": frontend.origin}
        assert await status_of(frontend, token, make_database, **by_keys) == 200
        another_origin = by_keys | {
            "better_auth_url": "http://other.example",
            "jwks_url": frontend.origin + "/api/auth/jwks",
        }
        assert await status_of(frontend, token, make_database, **another_origin) == 401
        assert await status_of(frontend, token, make_database) == 401


@pytest.mark.requirement("T024")
async def test_a_token_that_the_frontend_signs_with_the_secret(make_database: MakeDatabase) -> None:
    async with better_auth() as frontend:
        token = await frontend.token("/api/token")

        assert await status_of(frontend, token, make_database) == 200
        both = {"better_auth_url": frontend.origin}
        assert await status_of(frontend, token, make_database, **both) == 200
        checked = {"jwt_issuer": frontend.origin, "jwt_audience": frontend.origin}
        assert await status_of(frontend, token, make_database, **checked) == 200


@pytest.mark.requirement("T023", "T024")
@pytest.mark.parametrize("signer", ["secret", "jwks"])
async def test_the_session_and_its_cookies_are_no_tokens(make_database: MakeDatabase, signer: str) -> None:
    async with better_auth(CACHE_SIGNER=signer) as frontend:
        await frontend.client.get("/api/auth/get-session")
        cookies = dict(frontend.client.cookies)
        session = json.loads((await frontend.client.get("/api/auth/get-session")).content)

        assert cookies["better-auth.session_data"].count(".") == 2
        for value in (*cookies.values(), session["session"]["token"]):
            settings = {"better_auth_url": frontend.origin}
            assert await status_of(frontend, value, make_database, **settings) == 401
