"""A process of its own that holds streams open and says when each was told of a change: a line of JSON in on standard
input, a line of JSON out. Times are of the system's one monotonic clock.
"""
# [Task]: T164 [From]: specs/performance.md

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

AT_ONCE = 50
PATIENCE_SECONDS = 60
READY, CHANGED = b"event: ready", b"event: changed"


class Watcher(asyncio.Protocol):
    """One stream, whose events are so short that each comes in one piece."""

    told_at: float | None = None

    def __init__(self) -> None:
        self.is_ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if CHANGED in data:
            self.told_at = time.monotonic()
        if READY in data:
            self.is_ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_ready.done():
            self.is_ready.set_exception(exc or ConnectionError("a stream ended before it began"))


class Watchers:
    def __init__(self) -> None:
        self.all: list[Watcher] = []

    async def open(self, port: int, requests: list[str]) -> dict[str, Any]:
        loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

        async def open_one(request: str) -> None:
            async with turns:
                transport, watcher = await loop.create_connection(Watcher, "127.0.0.1", port)
                self.all.append(watcher)
                transport.write(request.encode())
                await watcher.is_ready

        await asyncio.gather(*map(open_one, requests))
        return {}

    async def forget(self) -> dict[str, Any]:
        """Forgets what was told so far."""
        for watcher in self.all:
            watcher.told_at = None
        return {}

    async def told(self, count: int) -> dict[str, Any]:
        """Waits until so many have been told, and says when the first and the last of them were."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(times := [one.told_at for one in self.all if one.told_at]) < count:  # noqa: ASYNC110 - a change tells many
                await asyncio.sleep(0.01)
        return {"first": min(times), "last": max(times)}

    async def close(self) -> dict[str, Any]:
        for watcher in self.all:
            watcher.transport.abort()
        self.all.clear()
        return {}


async def main() -> None:
    watchers = Watchers()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, arguments = json.loads(line)
        try:
            answer = await getattr(watchers, name)(**arguments)
        except (OSError, TimeoutError) as error:
            answer = {"error": str(error) or type(error).__name__}
        print(json.dumps(answer), flush=True)  # noqa: T201 - how it answers


if __name__ == "__main__":
    uvloop.run(main())
