"""A process of its own that sends requests and says how long each took: a line of JSON in on
standard input, a line of JSON out.
"""
# [Task]: T083 [From]: specs/performance.md

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import httptools
import uvloop


class Client(asyncio.Protocol):
    """One connection that is kept, and sends one request after the other."""

    def __init__(self, requests: Iterator[bytes], seconds: list[float], status: int) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._seconds = seconds
        self._status = status

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._seconds.append(time.perf_counter() - self._sent_at)
        status = self._parser.get_status_code()
        if status != self._status:
            self.done.set_exception(RuntimeError(f"answered {status}, not {self._status}"))
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def drive(port: int, requests: list[str], connections: int, status: int) -> dict[str, Any]:
    """Sends each request once, over so many connections at a time."""
    seconds: list[float] = []
    rest = iter([request.encode() for request in requests])
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(rest, seconds, status), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    return {"elapsed": time.perf_counter() - started, "latencies": seconds}


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            answer = uvloop.run(drive(**json.loads(line)))
        except (OSError, RuntimeError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201 - how it answers
