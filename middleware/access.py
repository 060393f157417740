# [Task]: T020, T022, T028 [From]: specs/features/authentication.md
"""Who may: the dependency that every task route declares."""

import logging
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Path, Request, status
from fastapi.security import HTTPBearer

from tokens import ExpiredToken, InvalidToken, TokenVerifier

logger = logging.getLogger(__name__)

# RFC 6750, section 3.
CHALLENGE: Final = "Bearer"
INVALID: Final = 'Bearer error="invalid_token", error_description="The token is invalid"'
EXPIRED: Final = 'Bearer error="invalid_token", error_description="The token has expired"'


def unauthorized(detail: str, challenge: str, *, reason: str) -> HTTPException:
    logger.warning("Not authenticated: %s", reason)
    return HTTPException(
        status.HTTP_401_UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge}
    )


class UserAccess(HTTPBearer):
    """The id of the user whose tasks may be touched: the token's, and the path's.

    Answers 401 without a good token in the one `Authorization` header, 403 for another user's path,
    503 where the keys to verify the token with can't be had.
    """

    # One dependency, not FastAPI's bearer token and another behind it: each costs every request.
    async def __call__(  # type: ignore[override] # the user, who is what a route wants to know
        self,
        request: Request,
        user_id: Annotated[str, Path(description="The user's id: the `sub` of the token.")],
    ) -> str:
        verifier: TokenVerifier = request.app.state.token_verifier
        try:
            subject = await verifier.verify(bearer_token(request))
        except ExpiredToken as error:
            raise unauthorized("Token has expired", EXPIRED, reason=str(error)) from None
        except InvalidToken as error:
            raise unauthorized("Invalid token", INVALID, reason=str(error)) from None
        if subject != user_id:
            logger.warning("Forbidden: a good token of another user")
            raise HTTPException(status.HTTP_403_FORBIDDEN, "Cannot access another user's tasks")
        return subject


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
