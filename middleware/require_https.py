"""No answers to plain HTTP."""
# [Task]: T158 [From]: specs/features/limits.md

import logging

from starlette import status
from starlette.types import ASGIApp, Receive, Scope, Send

from errors import error_response
from middleware.normalize import path_without_prefix

logger = logging.getLogger(__name__)

# What a host asks inside its own network.
EXEMPT = frozenset({"/health", "/ready", "/metrics"})


class RequireHTTPS:
    """Answers 403 to a request that came by plain HTTP. The scheme is what the server says, which believes the proxies
    that it trusts. Such a request is never redirected, since its token has been sent in the clear already.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and is_refused(scope):
            logger.warning("Forbidden: by plain HTTP. Is the proxy that ends TLS in FORWARDED_ALLOW_IPS?")
            app = error_response(status.HTTP_403_FORBIDDEN, "HTTPS required")
        await app(scope, receive, send)


def is_refused(scope: Scope) -> bool:
    is_required = scope["app"].state.settings.require_https
    return is_required and scope.get("scheme") != "https" and path_without_prefix(scope) not in EXEMPT
