# [Task]: T060, T061 [From]: specs/api/rest-endpoints.md
"""Whether the service lives, and whether it can serve."""

from fastapi import APIRouter, Request

from db import PING, fetch_all
from openapi import operation_id
from schemas import Health, Problem, Readiness

router = APIRouter(tags=["health"], generate_unique_id_function=operation_id)


@router.get("/health")
async def get_health() -> Health:
    """Whether the process lives. Touches no database."""
    return Health(status="healthy")


@router.get("/ready", responses={503: {"model": Problem, "description": "The database is away"}})
async def get_readiness(request: Request) -> Readiness:
    """Whether the database can be reached."""
    await fetch_all(request, PING)
    return Readiness(status="ready")
