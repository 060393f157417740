"""The stream of a list's changes: server-sent events (WHATWG HTML, section 9.2)."""
# [Task]: T147, T149, T150, T151, T154 [From]: specs/features/live-changes.md

import asyncio
import time
from random import randint
from typing import Any

from fastapi import APIRouter, Request, Response, status
from starlette.types import Receive, Scope, Send

from auth.access import CurrentUser, UserDatabase
from auth.tokens import CLOCK_SKEW_SECONDS
from errors import invalid_request
from live import Live, Stream
from metrics import EVENTS_TOLD
from routes.conditional import mark_of
from routes.openapi import TEXT, header_parameter
from routes.task_route import TaskRoute

router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"], route_class=TaskRoute)

MOST_CHARACTERS = 64
LAST_EVENT_ID: dict[str, Any] = header_parameter(
    "Last-Event-ID",
    "The id of the last event, or the list's tag without its quotes and `W/`: if the list is another by now, `changed`"
    " follows at once.",
    {"type": "string", "maxLength": MOST_CHARACTERS},
)
# An event, as FastAPI documents those of its own streams.
EVENT = {"event": {"enum": ["ready", "changed"]}, "id": TEXT, "data": {"const": "{}"}, "retry": {"type": "integer"}}
STREAM = {"schema": TEXT, "itemSchema": {"type": "object", "properties": EVENT, "required": ["event", "id", "data"]}}
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
# A little less than the 15 s that are promised.
HEARTBEAT_SECONDS = 14.0
HEARTBEAT = ":\n\n"
# Between events, so that there are at most ten a second.
PAUSE_SECONDS = 0.1
# A timer may be early by a tick of its clock.
TIMER_SECONDS = 0.002
# A token may be valid for longer than a timer can count.
LONGEST_SECONDS = 10.0**8


class EventStream(Response):
    """A stream for one user, whose refusals (429, 503) come before it begins. A class of its own, since Starlette's
    costs twice the memory.
    """

    media_type = "text/event-stream"

    def __init__(self, live: Live, user: UserDatabase, last_id: str) -> None:
        super().__init__()
        # Without a length, and shared by all streams.
        self.raw_headers = list(HEADERS)
        self.live = live
        self.user = user
        self.last_id = last_id

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        user_id = self.user.user_id
        # No context manager, of which each stream would hold 0.6 kB.
        stream = self.live.open(user_id)
        try:
            await self.live.ask([user_id])
            await send({"type": "http.response.start", "status": status.HTTP_200_OK, "headers": self.raw_headers})
            leaving = asyncio.create_task(end_when_gone(stream, receive))
            try:
                await self.tell(stream, send)
            finally:
                leaving.cancel()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.live.close(user_id, stream)

    async def tell(self, stream: Stream, send: Send) -> None:
        """Sends what there is to tell until the stream is over. A client that takes nothing of it holds this up at
        `send`, and is told of all changes meanwhile by one event.
        """
        clock, mark = asyncio.get_running_loop().time, mark_of(self.user)
        # A stream ends at the token's `exp`, without the skew that other clocks are allowed. As an integer, this may be
        # more than a float can hold.
        now = time.time()
        end = clock() + min(self.user.expires_at - CLOCK_SKEW_SECONDS, now + LONGEST_SECONDS) - now
        told = stream.watch.version
        text = f"retry: {randint(1000, 5000)}\nevent: ready\nid: {mark}{told}\ndata: {{}}\n\n"  # noqa: S311 - no secret
        if self.last_id not in {"", f"{mark}{told}"}:
            text += changed(f"{mark}{told}")
        while True:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            if text != HEARTBEAT:
                await asyncio.sleep(PAUSE_SECONDS)
            await stream.wait(until=min(clock() + HEARTBEAT_SECONDS, end))
            if stream.is_over or clock() >= end - TIMER_SECONDS:
                return
            text = HEARTBEAT
            if stream.watch.version != told:
                told = stream.watch.version
                text = changed(f"{mark}{told}")


def changed(event_id: str) -> str:
    EVENTS_TOLD.inc()
    return f"event: changed\nid: {event_id}\ndata: {{}}\n\n"


async def end_when_gone(stream: Stream, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.end()


@router.get(
    "/events",
    response_class=Response,
    openapi_extra={"parameters": [LAST_EVENT_ID]},
    responses={200: {"description": "The stream", "content": {EventStream.media_type: STREAM}}},
)
async def watch_tasks(request: Request, user: CurrentUser) -> Response:
    """A stream of server-sent events that tells that the list changed, not what: ask for it again. It begins with
    `ready`; an event's id is the list's tag without its quotes and `W/`.
    """
    last_id = ", ".join(request.headers.getlist("last-event-id"))
    if len(last_id) > MOST_CHARACTERS:
        message = f"Should be at most {MOST_CHARACTERS} characters"
        raise invalid_request(("header", "Last-Event-ID"), message, "string_too_long")
    return EventStream(request.app.state.live, user, last_id)
