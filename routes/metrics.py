"""The metrics, guarded by METRICS_TOKEN."""
# [Task]: T096 [From]: specs/reliability.md

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from auth.access import verify_scraper
from metrics import all_metrics

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def get_metrics(request: Request) -> Response:
    """All metrics in the form that is asked for, in Prometheus' text form if that isn't known."""
    verify_scraper(request)
    try:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
    except TypeError:
        # A version that isn't a number.
        encode, media_type = choose_encoder("")
    headers = {"Content-Type": media_type, "Cache-Control": "no-store"}
    return Response(encode(all_metrics()), headers=headers)
