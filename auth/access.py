"""Who may: the dependency that every task route declares, and the check on the metrics."""
# [Task]: T020, T022, T028, T096 [From]: specs/features/authentication.md, specs/reliability.md

import hmac
import logging
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Path, Request, status
from fastapi.security import HTTPBearer
from pydantic import SecretStr

from auth.tokens import ExpiredToken, InvalidToken, TokenVerifier
from config import Settings
from errors import ServiceUnavailable

logger = logging.getLogger(__name__)

# RFC 6750, section 3.
CHALLENGE = "Bearer"
INVALID = 'Bearer error="invalid_token", error_description="The token is invalid"'
EXPIRED = 'Bearer error="invalid_token", error_description="The token has expired"'


def unauthorized(detail: str, challenge: str, *, reason: str) -> HTTPException:
    logger.warning("Not authenticated: %s", reason)
    return HTTPException(status.HTTP_401_UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


class UserAccess(HTTPBearer):
    """The id of the user whose tasks may be touched: the token's, and the path's.

    Answers 401 without a good token in the one `Authorization` header, 403 for another user's path,
    503 where the keys to verify the token with can't be had.
    """

    # One dependency, not FastAPI's bearer token and another behind it: each costs every request.
    async def __call__(  # type: ignore[override] # the user, who is what a route wants to know
        self, request: Request, user_id: Annotated[str, Path(description="The user's id: the `sub` of the token.")]
    ) -> str:
        verifier: TokenVerifier = request.app.state.token_verifier
        # The verdict is put into the scope, for `MeasureRequests` to count if it is there.
        scope = request.scope
        try:
            subject = await verifier.verify(bearer_token(request))
        except ExpiredToken as error:
            scope["verdict"] = "expired"
            raise unauthorized("Token has expired", EXPIRED, reason=str(error)) from None
        except InvalidToken as error:
            scope["verdict"] = "invalid"
            raise unauthorized("Invalid token", INVALID, reason=str(error)) from None
        except HTTPException:
            scope["verdict"] = "missing"
            raise
        except ServiceUnavailable:
            scope["verdict"] = "unverifiable"
            raise
        if subject != user_id:
            scope["verdict"] = "forbidden"
            logger.warning("Forbidden: a good token of another user")
            raise HTTPException(status.HTTP_403_FORBIDDEN, "Cannot access another user's tasks")
        scope["verdict"] = "accepted"
        return subject


def verify_scraper(request: Request) -> None:
    """Answers 401 unless the one `Authorization` header has `METRICS_TOKEN`."""
    settings: Settings = request.app.state.settings
    # Where it isn't set there is no such route.
    expected = cast("SecretStr", settings.metrics_token).get_secret_value()
    try:
        token = bearer_token(request)
    except InvalidToken as error:
        raise unauthorized("Invalid token", INVALID, reason=str(error)) from None
    # As bytes, since text has to be ASCII to be compared; a header is read as Latin-1.
    if not hmac.compare_digest(token.encode("latin-1"), expected.encode()):
        raise unauthorized("Invalid token", INVALID, reason="not the token of the metrics")


def bearer_token(request: Request) -> str:
    """The token of the one `Authorization` header; FastAPI's own class would let a second pass."""
    headers = request.headers.getlist("authorization")
    scheme, _, token = headers[0].partition(" ") if headers else ("", "", "")
    if len(headers) > 1:
        raise InvalidToken("several Authorization headers")
    if scheme.lower() != "bearer":
        raise unauthorized("Not authenticated", CHALLENGE, reason="no bearer token")
    return token


verify_user_access = UserAccess(
    scheme_name="BearerAuth",
    bearerFormat="JWT",
    description="The JWT of the frontend's Better Auth, whose `sub` is the user's id.",
)

CurrentUser = Annotated[str, Depends(verify_user_access)]
