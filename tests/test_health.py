# [Task]: T060, T061 [From]: specs/api/rest-endpoints.md
"""Health and readiness. That `/ready` is 503 without a database is in `test_db.py`."""

import pytest
from sqlalchemy import event

from tests.service import Service


@pytest.mark.requirement("T060")
async def test_health_touches_no_database(service: Service) -> None:
    pool = service.app.state.database.engine.sync_engine.pool

    def fail(*_: object) -> None:
        pytest.fail("a connection was taken")

    event.listen(pool, "checkout", fail)
    try:
        response = await service.client.get("/health")
    finally:
        event.remove(pool, "checkout", fail)

    assert (response.status_code, response.json()) == (200, {"status": "healthy"})


@pytest.mark.requirement("T061")
async def test_ready_asks_the_database(service: Service) -> None:
    response = await service.client.get("/ready")

    assert (response.status_code, response.json()) == (200, {"status": "ready"})
