# [Task]: T020, T022, T028 [From]: specs/features/authentication.md
"""Who may: the dependency that every task route declares."""

import logging
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Path, Request, status
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from tokens import ExpiredToken, InvalidToken, TokenVerifier

logger = logging.getLogger(__name__)

# RFC 6750, section 3.
CHALLENGE: Final = "Bearer"
INVALID: Final = 'Bearer error="invalid_token", error_description="The token is invalid"'
EXPIRED: Final = 'Bearer error="invalid_token", error_description="The token has expired"'


class BearerToken(HTTPBearer):
    """The token of the one `Authorization` header. Where there is none, or another scheme's, the
    answer is 401; FastAPI's own class would let a second header pass.
    """

    async def __call__(self, request: HTTPConnection) -> str:  # type: ignore[override] # the bare token will do
        headers = request.headers.getlist("authorization")
        scheme, _, token = headers[0].partition(" ") if headers else ("", "", "")
        if len(headers) > 1:
            raise unauthorized("Invalid token", INVALID, reason="several Authorization headers")
        if scheme.lower() != "bearer":
            raise unauthorized("Not authenticated", CHALLENGE, reason="no bearer token")
        return token


def unauthorized(detail: str, challenge: str, *, reason: str) -> HTTPException:
    logger.warning("Not authenticated: %s", reason)
    return HTTPException(
        status.HTTP_401_UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge}
    )


bearer_token = BearerToken(
    scheme_name="BearerAuth",
    bearerFormat="JWT",
    description="The JWT of the frontend's Better Auth, whose `sub` is the user's id.",
)


async def verify_user_access(
    request: Request,
    user_id: Annotated[str, Path(description="The user's id: the `sub` of the token.")],
    token: Annotated[str, Depends(bearer_token)],
) -> str:
    """The id of the user whose tasks may be touched: the token's, and the path's.

    Answers 401 without a good token, 403 for another user's path, 503 where the keys to verify
    the token with can't be had.
    """
    verifier: TokenVerifier = request.app.state.token_verifier
    try:
        subject = await verifier.verify(token)
    except ExpiredToken as error:
        raise unauthorized("Token has expired", EXPIRED, reason=str(error)) from None
    except InvalidToken as error:
        raise unauthorized("Invalid token", INVALID, reason=str(error)) from None
    if subject != user_id:
        logger.warning("Forbidden: a good token of another user")
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Cannot access another user's tasks")
    return subject


CurrentUser = Annotated[str, Depends(verify_user_access)]
