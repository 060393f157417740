"""The fixtures of the tests of faults, and the figures that they print."""
# [Task]: T093 [From]: specs/reliability.md

from collections.abc import AsyncIterator

import pytest

from tests.faults.postgres import PrivatePostgres, private_postgres

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
async def killable() -> AsyncIterator[PrivatePostgres]:
    """A PostgreSQL that no other test uses."""
    async with private_postgres() as server:
        yield server


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines to print when the run is over."""
    return pytestconfig.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.line(line)
