# [Task]: T048 [From]: specs/database/schema.md
"""A TCP proxy before PostgreSQL that counts round trips, and can hold back answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from database_url import parse_database_url


class Proxy:
    """`round_trips` counts how often the client spoke after the server had: what each waits for
    the network, however many messages are in it.
    """

    def __init__(self, upstream_url: str) -> None:
        target = parse_database_url(upstream_url)
        if target.connect_args["ssl"] is not False:
            pytest.skip("TEST_DATABASE_URL is a server with TLS, which no proxy can look into")
        self._target = target
        self.round_trips = 0
        self.connections = 0
        self.passes = asyncio.Event()
        self.passes.set()
        # While not set, connections up to this number are silent, and later ones pass.
        self.silent_up_to = 0
        self.has_connected = asyncio.Event()
        self.url = ""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._target.connect_args.get("host"), self._target.url.port or 5432
        if host is not None:
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._target.url.host or "localhost", port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.has_connected.set()
        server_reader, server_writer = await self.connect()
        is_clients_turn = True

        async def forward(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_client: bool
        ) -> None:
            nonlocal is_clients_turn
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    if from_client and is_clients_turn:
                        self.round_trips += 1
                    is_clients_turn = not from_client
                    if number > self.silent_up_to > 0:
                        pass
                    else:
                        await self.passes.wait()
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(
            forward(reader, server_writer, from_client=True),
            forward(server_reader, writer, from_client=False),
        )


@asynccontextmanager
async def proxy_to(upstream_url: str, kind: type[Proxy] = Proxy) -> AsyncIterator[Proxy]:
    """A proxy on loopback; its `url` is the database's, by way of the proxy."""
    proxy = kind(upstream_url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = parse_database_url(upstream_url).url.set(host="127.0.0.1", port=port)
    proxy.url = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        yield proxy
    finally:
        proxy.passes.set()
        server.close()
