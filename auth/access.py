"""Verifies access: the user of the token must be the user in the path."""
# [Task]: T014, T020, T021, T022, T028, T096, T144, T148, T161 [From]: specs/features/task-crud.md, specs/features/authentication.md, specs/reliability.md, specs/features/live-changes.md, specs/features/user-deletion.md

import hmac
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Path, Request, status
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from sqlalchemy import Executable

from auth.tokens import ExpiredToken, InvalidToken
from backends.faults import UserGone
from backends.postgres import reads_only
from db import Database, Row
from errors import ServiceUnavailable
from live import Live
from metrics import TOKEN_VERDICTS

logger = logging.getLogger(__name__)

ACCEPTED = TOKEN_VERDICTS.labels("accepted")

Fetch = Callable[[Executable, dict[str, Any]], Awaitable[list[Row]]]


class MissingToken(InvalidToken):
    """The request has no bearer token."""


CHALLENGE = 'Bearer error="invalid_token", error_description="The token {}"'
# The verdict as the metrics name it, the detail, and the challenge of RFC 6750, section 3.
REFUSALS = {
    MissingToken: ("missing", "Not authenticated", "Bearer"),
    InvalidToken: ("invalid", "Invalid token", CHALLENGE.format("is invalid")),
    ExpiredToken: ("expired", "Token has expired", CHALLENGE.format("has expired")),
}


class UserDatabase:
    """The database for one user, who is the `owner` of every statement."""

    def __init__(
        self, user_id: str, database: Database, live: Live | None = None, *, expires_at: float = math.inf
    ) -> None:
        self.user_id = user_id
        # When the user's token expires, in seconds since the epoch.
        self.expires_at = expires_at
        self.is_postgres = database.is_postgres
        self._database = database
        self._live = live
        self._fetch: Fetch = database.fetch

    async def all(self, statement: Executable, **parameters: Any) -> list[Row]:
        """Runs one statement and returns its rows. Raises `ServiceUnavailable`, and answers 401 if the user is gone."""
        try:
            return await self._fetch(statement, parameters | {"owner": self.user_id})
        except UserGone:
            raise unauthorized(InvalidToken("its user is gone from USER_TABLE")) from None
        finally:
            self._note_use(None if reads_only(statement) else self.user_id)

    async def one(self, statement: Executable, **parameters: Any) -> Row | None:
        """Like `all`, and returns the only row, if there is one."""
        rows = await self.all(statement, **parameters)
        return rows[0] if rows else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["UserDatabase"]:
        """Runs several statements as one transaction: committed at the end, rolled back on an error."""
        try:
            async with self._database.session() as session:
                connection = await session.connection()

                async def fetch(statement: Executable, parameters: dict[str, Any]) -> list[Row]:
                    result = await connection.execute(statement, parameters)
                    return [dict(row) for row in result.mappings()]

                inner = UserDatabase(self.user_id, self._database)
                inner._fetch = fetch
                yield inner
        finally:
            self._note_use(self.user_id)

    def _note_use(self, changed: str | None) -> None:
        """Notes a use, also after a failure, since whether a write was done is unknown then."""
        if self._live:
            self._live.note_use(changed)


class AuthorizedRequest(Request):
    """A request whose access may have been verified before its body was read."""

    user_database: UserDatabase | None = None


class UserAccess(SecurityBase):
    """Verifies that the token is valid and belongs to the user in the path, and returns that user's database.

    Answers 401 unless the one `Authorization` header has a valid token, 403 for another user's path, and 503 if the
    published keys are unavailable. This is a single dependency, since each one costs every request 24 µs.
    """

    scheme_name = "BearerAuth"
    model = HTTPBearer(bearerFormat="JWT", description="The JWT of the frontend's Better Auth; its `sub` is the user.")

    async def __call__(
        self, request: Request, user_id: Annotated[str, Path(description="The user's id: the `sub` of the token.")]
    ) -> UserDatabase:
        if isinstance(request, AuthorizedRequest) and request.user_database:
            return request.user_database
        try:
            token = await request.app.state.token_verifier.verify(bearer_token(request))
        except InvalidToken as error:
            TOKEN_VERDICTS.labels(REFUSALS[type(error)][0]).inc()
            raise unauthorized(error) from None
        except ServiceUnavailable:
            TOKEN_VERDICTS.labels("unverifiable").inc()
            raise
        # Without a user in the path it is the token's.
        if user_id not in {token.subject, ""}:
            TOKEN_VERDICTS.labels("forbidden").inc()
            logger.warning("Forbidden: a valid token of another user")
            raise HTTPException(status.HTTP_403_FORBIDDEN, "Cannot access another user's tasks")
        ACCEPTED.inc()
        state = request.app.state
        return UserDatabase(token.subject, state.database, state.live, expires_at=token.expires_at)


def verify_scraper(request: Request) -> None:
    """Answers 401 unless the one `Authorization` header has `METRICS_TOKEN`."""
    expected = request.app.state.settings.metrics_token.get_secret_value()
    try:
        token = bearer_token(request)
    except InvalidToken as error:
        raise unauthorized(error) from None
    # As bytes, since `compare_digest` takes no text beyond ASCII; headers are decoded as Latin-1.
    if not hmac.compare_digest(token.encode("latin-1"), expected.encode()):
        raise unauthorized(InvalidToken("not METRICS_TOKEN"))


def bearer_token(request: Request) -> str:
    """Reads the token of the one `Authorization` header; FastAPI's own class would accept several."""
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise InvalidToken("several Authorization headers")
    scheme, _, token = headers[0].partition(" ") if headers else ("", "", "")
    if scheme.lower() != "bearer":
        raise MissingToken("no bearer token")
    return token


def unauthorized(error: InvalidToken) -> HTTPException:
    logger.warning("Not authenticated: %s", error)
    _, detail, challenge = REFUSALS[type(error)]
    return HTTPException(status.HTTP_401_UNAUTHORIZED, detail, {"WWW-Authenticate": challenge})


verify_user_access = UserAccess()

CurrentUser = Annotated[UserDatabase, Depends(verify_user_access)]
