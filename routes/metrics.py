"""The metrics, guarded by METRICS_TOKEN."""
# [Task]: T096 [From]: specs/reliability.md

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from auth.access import verify_scraper
from metrics import all_metrics

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def get_metrics(request: Request) -> Response:
    """All metrics in the format that `Accept` asks for, or else in Prometheus' text format."""
    verify_scraper(request)
    try:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
    except TypeError:
        # `Accept` has a version that is no number.
        encode, media_type = choose_encoder("")
    headers = {"Content-Type": media_type, "Cache-Control": "no-store"}
    return Response(encode(all_metrics()), headers=headers)
