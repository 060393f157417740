# [Task]: T096 [From]: specs/reliability.md
"""Measures requests, where somebody may read what comes of it."""

import time
from typing import Final, cast

from sqlalchemy import QueuePool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db import Database
from metrics import CONNECTIONS_IN_USE, HTTP_REQUESTS, REQUESTS_WAITING, TOKEN_VERDICTS
from middleware.http import METHODS

# HEAD is GET by now (`Manners`).
KNOWN_METHODS: Final = frozenset({*METHODS, "OPTIONS"})
# Of the paths and the methods that the service doesn't know.
OTHER: Final = "other"


class MeasureRequests:
    """Counts each request by its route, its method and its status, with its duration and what was
    found of its token, and notes how the pool is used.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        database: Database = scope["app"].state.database
        note_pool(database)
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
            note_pool(database)


def note_pool(database: Database) -> None:
    """Several workers can't be asked when somebody wants to know, so each says it as it changes."""
    CONNECTIONS_IN_USE.set(cast("QueuePool", database.engine.pool).checkedout())
    REQUESTS_WAITING.set(database.waiting)
