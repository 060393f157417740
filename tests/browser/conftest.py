"""The app, once for all tests, for each way in which the service verifies tokens; a browser; and people."""
# [Task]: T170, T171 [From]: specs/features/frontend.md

from collections.abc import AsyncIterator

import pytest

from tests.browser.browser import CHROMIUM, Browser, Person, running_browser
from tests.browser.stack import Stack, build, running_stack
from tests.databases import MakeDatabase
from tests.typescript import HAS_NODE, NODE_MODULES

IS_POSSIBLE = bool(CHROMIUM) and (NODE_MODULES / "playwright-core").exists() and HAS_NODE


@pytest.fixture(scope="session")
def built() -> None:
    if not IS_POSSIBLE:
        pytest.skip(
            "The browser tests need Node.js 20.19+, chromium, and: npm ci --prefix examples/nextjs --ignore-scripts"
        )
    build()


@pytest.fixture(scope="session")
async def by_keys(
    built: None, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The app, whose tokens the service verifies by Better Auth's published keys."""
    database_url = await make_database("postgresql")
    async with running_stack(database_url, tmp_path_factory.mktemp("keys"), is_secret_shared=False) as stack:
        yield stack


@pytest.fixture(scope="session")
async def by_secret(
    built: None, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The app, which shares a secret with the service."""
    database_url = await make_database("postgresql")
    async with running_stack(database_url, tmp_path_factory.mktemp("secret"), is_secret_shared=True) as stack:
        yield stack


@pytest.fixture(params=["by_keys", "by_secret"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The app, in each of these ways."""
    stack: Stack = request.getfixturevalue(request.param)
    return stack


@pytest.fixture(scope="session")
async def chromium(built: None) -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest.fixture
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """A browser in which nothing is open."""
    yield chromium
    await chromium.clear()


@pytest.fixture
async def ada(by_keys: Stack, browser: Browser) -> Person:
    """Somebody who is signed in."""
    person = await browser.meet(by_keys.origin)
    await person.sign_up()
    return person
