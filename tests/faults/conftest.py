# [Task]: T093 [From]: specs/reliability.md
"""What the tests of faults share."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.postgres import PrivatePostgres, private_postgres


@pytest.fixture(scope="session")
async def killable() -> AsyncIterator[PrivatePostgres]:
    """A PostgreSQL that is nobody else's."""
    async with private_postgres() as server:
        yield server
