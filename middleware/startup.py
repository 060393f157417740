"""A plain message for a refused start."""
# [Task]: T052, T078 [From]: specs/database/schema.md, specs/api/rest-endpoints.md

import sys
from collections.abc import Awaitable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import StartupError


class PlainStartupErrors:
    """Gives the server the message of a `StartupError` in place of Starlette's traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not awaited here: each request and each stream would have one more frame.
        run = self.start if scope["type"] == "lifespan" else self.app
        return run(scope, receive, send)

    async def start(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_plainly(message: Message) -> None:
            # Starlette sends the failure while it handles the error.
            if isinstance(error := sys.exception(), StartupError):
                message["message"] = str(error)
            await send(message)

        with suppress(StartupError):
            await self.app(scope, receive, send_plainly)
