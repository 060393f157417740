"""Measures requests, where somebody may read what comes of it."""
# [Task]: T096 [From]: specs/reliability.md

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db import Database
from metrics import HTTP_REQUESTS, TOKEN_VERDICTS
from middleware.http import METHODS

# HEAD is GET by now (`Manners`).
KNOWN_METHODS = frozenset({*METHODS, "OPTIONS"})
# Of the paths and the methods that the service doesn't know.
OTHER = "other"
NOTE_SECONDS = 1.0


class MeasureRequests:
    """Counts each request by its route, its method and its status, with its duration and what was
    found of its token.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        status = 500
        started = time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            seconds = time.perf_counter() - started
            # The router's, which leaves it there.
            route = scope["route"].path if "route" in scope else OTHER
            method = scope["method"] if scope["method"] in KNOWN_METHODS else OTHER
            HTTP_REQUESTS.labels(route, method, status).observe(seconds)
            if "verdict" in scope:
                TOKEN_VERDICTS.labels(scope["verdict"]).inc()


async def keep_noting(database: Database) -> None:
    """Says again and again how the pool is used: the one of several workers that is asked for the
    metrics can't ask the others.
    """
    while True:
        database.note_use()
        await asyncio.sleep(NOTE_SECONDS)
