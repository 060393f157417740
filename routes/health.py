"""The checks of liveness and readiness."""
# [Task]: T060, T061, T104, T153 [From]: specs/api/rest-endpoints.md, specs/features/live-changes.md

from fastapi import APIRouter, HTTPException, Request, status

from readiness import ReadinessCheck
from routes.openapi import operation_id
from schemas import Health, Problem, Readiness

router = APIRouter(tags=["health"], generate_unique_id_function=operation_id)


@router.get("/health")
async def get_health() -> Health:
    """Whether the process is running. Doesn't use the database."""
    return Health(status="healthy")


@router.get("/ready", responses={503: {"model": Problem, "description": "It can't serve now"}})
async def get_readiness(request: Request) -> Readiness:
    """Whether the database can be reached and the tasks can be read there."""
    check: ReadinessCheck = request.app.state.readiness
    request.app.state.live.note_use()
    if (fault := await check.fault()) is not None:
        # Not raised itself, since the check has logged and counted it, once for all who ask.
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, fault.detail, {"Retry-After": str(fault.retry_after)})
    return Readiness(status="ready")
