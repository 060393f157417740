"""A real Better Auth server: its tokens, for each way in which it signs them, and the deletion of an account."""
# [Task]: T024, T025, T159, T162 [From]: specs/features/authentication.md, specs/features/user-deletion.md

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from main import create_app
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import pick_port, serving
from tests.service import StartService, bearer, make_settings, running
from tests.snippets import snippets
from tests.typescript import CLIENT, HAS_NODE, needs_typescript, transpile

FOLDER = Path(__file__).parent / "better_auth"
PASSWORD = "correct horse"

needs_better_auth = pytest.mark.skipif(
    not HAS_NODE or not (FOLDER / "node_modules").exists(),
    reason="Better Auth needs Node.js 20.19+ and: npm ci --prefix tests/better_auth --ignore-scripts",
)
pytestmark = needs_better_auth


@dataclass
class Frontend:
    """A Better Auth server with a signed-in user."""

    origin: str
    user_id: str
    client: httpx.AsyncClient

    async def token(self, path: str = "/api/auth/token") -> str:
        response = await self.client.get(path)
        token: str = response.json()["token"]
        return token

    async def delete_account(self) -> None:
        """Deletes the account as a page does, by `authClient.deleteUser()`."""
        headers = {"Origin": self.origin}
        answer = await self.client.post("/api/auth/delete-user", json={"password": PASSWORD}, headers=headers)
        assert answer.json()["success"], answer.text


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
            account = {"name": "Ada", "email": "ada@example.com", "password": PASSWORD}
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


# --- an account that is deleted


@pytest.mark.requirement("T159")
async def test_tasks_go_with_an_account_in_the_same_database(make_database: MakeDatabase) -> None:
    url = await make_database("postgresql")
    async with better_auth(POSTGRES=url) as frontend:
        by_keys = {"better_auth_secret": None, "better_auth_url": frontend.origin}
        async with running(make_settings(database_url=url, user_table="user", **by_keys)) as service:
            path, headers = f"/api/{frontend.user_id}/tasks", bearer(await frontend.token())
            for number in range(3):
                answer = await service.client.post(path, json={"title": f"Task {number}"}, headers=headers)
                assert answer.status_code == 201

            await frontend.delete_account()

            assert (await service.client.get(path, headers=headers)).json() == []
            answer = await service.client.post(path, json={"title": "Too late"}, headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token"})
    # Better Auth's next migration finds its tables as it made them, whatever refers to them.
    async with better_auth(POSTGRES=url) as frontend:
        assert await frontend.token()


@pytest.fixture
def documented_auth(tmp_path: Path) -> Path:
    """The `lib/auth.ts` of the frontend guide that deletes tasks, as JavaScript with the tests' own configuration."""
    (text,) = [text for text in snippets("ts").values() if text.startswith("// lib/auth.ts")]
    text = text.replace("/* your database */", "...globalThis.yours,").replace("@/lib/todo-api", "./index")
    transpile(tmp_path, {**CLIENT, "auth.ts": text})
    return tmp_path / "auth.js"


@needs_typescript
@pytest.mark.requirement("T162")
async def test_tasks_go_with_an_account_in_another_database(make_database: MakeDatabase, documented_auth: Path) -> None:
    port = pick_port()
    by_keys = {"better_auth_secret": None, "better_auth_url": f"http://127.0.0.1:{port}"}
    settings = make_settings(database_url=await make_database("sqlite"), **by_keys)
    with serving(create_app(settings)) as api_port:
        api = f"http://127.0.0.1:{api_port}"
        environment = {"PORT": str(port), "AUTH_MODULE": str(documented_auth), "TODO_API_URL": api}
        async with better_auth(**environment) as frontend, httpx.AsyncClient(base_url=api) as client:
            path, headers = f"/api/{frontend.user_id}/tasks", bearer(await frontend.token())
            # More than one request deletes.
            for _ in range(11):
                many = {"tasks": [{"title": "A task"}] * 100}
                assert (await client.post(f"{path}/bulk", json=many, headers=headers)).status_code == 201

            await frontend.delete_account()

            assert (await client.get(path, headers=headers)).json() == []
