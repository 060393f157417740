"""A proxy before the service that can lose an answer after the service has given it."""
# [Task]: T171 [From]: specs/features/frontend.md

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from tests.proxy import Link
from tests.server import pick_port
from tests.waiting import BOUND_SECONDS

REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")


class Connection:
    """A browser's connection, passed on to one with the service."""

    def __init__(self, proxy: "LossyProxy", number: int) -> None:
        self._proxy = proxy
        self._number = number
        self._method = self._path = ""
        self._has_served = False
        self._is_busy = False
        self.is_stream = False

    def is_spare(self, path: str) -> bool:
        """Whether a path that begins so was asked for last, and it can be used again."""
        return self._path.startswith(path) and not self._is_busy

    async def serve(self, reader: StreamReader, writer: StreamWriter, upstream: int) -> None:
        """Passes on what comes, until one side ends."""
        try:
            service_reader, service_writer = await asyncio.open_connection("127.0.0.1", upstream)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self._number, writer, service_writer)
        sides = [self._ask(reader, service_writer), self._answer(service_reader, writer)]
        tasks = [asyncio.create_task(side) for side in sides]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            link.cut()

    async def _ask(self, reader: StreamReader, service: StreamWriter) -> None:
        # A browser sends the head of a request in one piece, and the next one when that is answered.
        while data := await reader.read(65536):
            if request := REQUEST.match(data):
                self._method, self._path = request[1].decode(), request[2].decode()
                self._proxy.requests.append((self._method, self._has_served))
                self._is_busy = self._has_served = True
                self.is_stream = self._method == "GET" and self._path.endswith("/events")
            service.write(data)

    async def _answer(self, service: StreamReader, writer: StreamWriter) -> None:
        while data := await service.read(65536):
            is_concerned = self._method == self._proxy.losing_method
            if is_concerned and self._proxy.losing:
                self._proxy.losing -= 1
                return
            writer.write(data)
            self._is_busy = self.is_stream
            if is_concerned:
                self._proxy.has_answered.set()


class LossyProxy:
    """Passes everything on, and cuts the connection in place of an answer if it is told so."""

    def __init__(self, upstream: int) -> None:
        self.port = pick_port()
        self._upstream = upstream
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._is_away = False
        self.losing_method = ""
        self.losing = 0
        self.has_answered = asyncio.Event()
        # The method of each request, and whether its connection had served another before.
        self.requests: list[tuple[str, bool]] = []

    @property
    def streams(self) -> int:
        return sum(connection.is_stream for connection in self._connections)

    def count_spares(self, path: str) -> int:
        return sum(connection.is_spare(path) for connection in self._connections)

    def lose(self, method: str, times: int) -> None:
        """Loses the next answers to requests of this method."""
        self.losing_method, self.losing = method, times
        self.requests.clear()
        self.has_answered.clear()

    async def recovers(self) -> list[bool]:
        """Waits until such a request is answered after all, and returns for each one since then whether its connection
        had been used before.
        """
        async with asyncio.timeout(BOUND_SECONDS):
            await self.has_answered.wait()
        return [was_used for method, was_used in self.requests if method == self.losing_method]

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nothing of the service can be reached meanwhile."""
        self._is_away = True
        for task in self._connections.values():
            task.cancel()
        yield
        self._is_away = False

    async def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._is_away:
            writer.transport.abort()
            return
        connection = Connection(self, len(self._connections))
        task = asyncio.create_task(connection.serve(reader, writer, self._upstream))
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection))

    async def end(self) -> None:
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def lossy_proxy(port: int) -> AsyncIterator[LossyProxy]:
    """Such a proxy before this port of loopback."""
    proxy = LossyProxy(port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
