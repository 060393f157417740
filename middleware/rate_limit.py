"""A limit on the requests of each user."""
# [Task]: T155, T156 [From]: specs/features/limits.md

from starlette import status
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.access import bearer_token
from auth.tokens import InvalidToken
from errors import ServiceUnavailable, error_response
from metrics import LIMITS_REACHED
from middleware.normalize import is_task_path, with_headers


class LimitRate:
    """Counts each request with a good token, and answers 429 to those over `RATE_LIMIT`, before anything else of the
    request is looked at. Any other token is left to the route, which refuses it.

    Adds `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_task_path(scope):
            return await self.app(scope, receive, send)
        state = scope["app"].state
        try:
            token = await state.token_verifier.verify(bearer_token(Request(scope)))
        except (InvalidToken, ServiceUnavailable):
            return await self.app(scope, receive, send)
        quotas = await state.rate_limiter.count(token.subject)
        policy = ", ".join(f'"per-{one.window}s";q={one.amount};w={one.window}' for one in quotas)
        left = ", ".join(f'"per-{one.window}s";r={one.remaining};t={one.seconds}' for one in quotas)
        added = [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())] if quotas else []
        app = self.app
        if over := [one.seconds for one in quotas if one.is_over]:
            LIMITS_REACHED.labels("rate").inc()
            headers = {"Retry-After": str(max(over))}
            app = error_response(status.HTTP_429_TOO_MANY_REQUESTS, "Too many requests", headers)
        return await app(scope, receive, with_headers(send, added))
