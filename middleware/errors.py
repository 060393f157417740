"""Answers to unforeseen errors, and to requests that take too long."""
# [Task]: T063, T089, T096, T099, T151 [From]: specs/api/rest-endpoints.md, specs/reliability.md, specs/features/live-changes.md

import asyncio
import logging

from starlette import status
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import answer_503, error_response
from metrics import TIMEOUTS

logger = logging.getLogger(__name__)

# The server takes a piece of the answer at a time, and waits until the client has read enough of it.
PIECE_BYTES = 64 * 1024


class AnswerErrors:
    """Answers 500 to what is unforeseen, and 503 to what is cancelled or takes longer than `seconds` as a whole. A
    large answer goes out in pieces, each with as much time for its client to take it.

    It is inside of CORS, since a browser would see Starlette's own 500, sent outside of it, only as a CORS error.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        has_started = False
        limit = asyncio.timeout(self.seconds)

        async def send_in_pieces(message: Message) -> None:
            nonlocal has_started
            has_started = True
            body = message.get("body", b"")
            if message.get("more_body"):
                limit.reschedule(None)  # an open stream
            pieces = range(0, len(body) - PIECE_BYTES, PIECE_BYTES)
            for start in pieces:
                await send({**message, "body": body[start : start + PIECE_BYTES], "more_body": True})
                limit.reschedule(asyncio.get_running_loop().time() + self.seconds)
            await send({**message, "body": body[len(pieces) * PIECE_BYTES :]} if pieces else message)

        try:
            async with limit:
                await self.app(scope, receive, send_in_pieces)
        except (Exception, asyncio.CancelledError) as error:
            if has_started and not limit.expired() and not isinstance(error, ClientDisconnect):
                raise
            response = answer_to(error, is_late=limit.expired())
            # The server ends the connection of an answer that isn't all there.
            if not has_started:
                await response(scope, receive, send)
            if isinstance(error, asyncio.CancelledError):
                raise


def answer_to(error: BaseException, *, is_late: bool) -> Response:
    if isinstance(error, ClientDisconnect):
        # Nobody is there to read it, but the server wants every request answered.
        return error_response(status.HTTP_400_BAD_REQUEST, "The client went away")
    if is_late:
        # Whatever the end of the time cut short says nothing of its own.
        TIMEOUTS.labels("request").inc()
        logger.error("The request took longer than REQUEST_TIMEOUT")
        return answer_503("The request took too long, try again")
    if isinstance(error, asyncio.CancelledError):
        # By a server whose time to stop is over.
        return answer_503("The service is stopping, try again")
    logger.error("Unforeseen error", exc_info=error)
    return error_response(status.HTTP_500_INTERNAL_SERVER_ERROR, "Internal server error")
