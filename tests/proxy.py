"""A TCP proxy before PostgreSQL that counts round trips, and can hold back answers."""
# [Task]: T048 [From]: specs/database/schema.md

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import pytest

from backends.url import parse_database_url


class Link:
    """A client's connection, the one to the server that belongs to it, and their number."""

    def __init__(self, number: int, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.number = number
        self.is_clients_turn = True
        self.is_cut = asyncio.Event()
        self._ends = (client, server)

    def cut(self) -> None:
        """Ends both by a reset, without a goodbye."""
        self.is_cut.set()
        for writer in self._ends:
            with contextlib.suppress(OSError):  # which is closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """`round_trips` counts how often the client spoke after the server had: what each waits for
    the network, however many messages are in it.
    """

    def __init__(self, upstream_url: str) -> None:
        target = parse_database_url(upstream_url)
        if target.hosts[0].tls != (False,):
            pytest.skip("TEST_DATABASE_URL is a server with TLS, which no proxy can look into")
        self._target = target
        self.round_trips = 0
        self.connections = 0
        self.passes = asyncio.Event()
        self.passes.set()
        # While not set, connections up to this number are silent, and later ones pass.
        self.silent_up_to = 0
        self.has_connected = asyncio.Event()
        self.links: set[Link] = set()
        # Any free one, and the same again after a pause.
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The database's, by way of the proxy."""
        url = self._target.url.set(host="127.0.0.1", port=self.port)
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Takes no new connections, until it listens again."""
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = self._target.hosts[0]
        if host.name.startswith("/"):
            return await asyncio.open_unix_connection(f"{host.name}/.s.PGSQL.{host.port}")
        return await asyncio.open_connection(host.name, host.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.has_connected.set()
        try:
            server_reader, server_writer = await self.connect()
        except OSError:
            writer.transport.abort()
            return
        link = Link(number, writer, server_writer)
        self.links.add(link)

        async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_client: bool) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(await self.let_pass(link, data, from_client=from_client))
                    await sink.drain()
                await self.let_pass(link, b"", from_client=from_client)
            sink.close()

        await asyncio.gather(
            forward(reader, server_writer, from_client=True), forward(server_reader, writer, from_client=False)
        )
        self.links.discard(link)

    async def let_pass(self, link: Link, data: bytes, *, from_client: bool) -> bytes:
        """What goes on of these bytes, as soon as it may; none are the end of one side."""
        if data and from_client and link.is_clients_turn:
            self.round_trips += 1
        link.is_clients_turn = not from_client
        if not link.number > self.silent_up_to > 0:
            await self.passes.wait()
        return data


AnyProxy = TypeVar("AnyProxy", bound=Proxy)


@asynccontextmanager
async def listening(proxy: AnyProxy) -> AsyncIterator[AnyProxy]:
    await proxy.listen()
    try:
        yield proxy
    finally:
        proxy.refuse()
        proxy.passes.set()
        proxy.cut()


def proxy_to(upstream_url: str, kind: type[Proxy] = Proxy) -> AbstractAsyncContextManager[Proxy]:
    """A proxy of this kind on loopback."""
    return listening(kind(upstream_url))
