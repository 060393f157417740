# [Task]: T060, T061 [From]: specs/api/rest-endpoints.md
"""Whether the service lives, and whether it can serve."""

from fastapi import APIRouter
from sqlalchemy import select

from db import SingleStatementDep
from schemas import Health, Problem, Readiness

router = APIRouter(tags=["health"])


@router.get("/health")
async def get_health() -> Health:
    """Whether the process lives. Touches no database."""
    return Health(status="healthy")


@router.get("/ready", responses={503: {"model": Problem, "description": "The database is away"}})
async def get_readiness(db: SingleStatementDep) -> Readiness:
    """Whether the database can be reached."""
    await db.rows(select(1))
    return Readiness(status="ready")
