"""A network between the service and its database that fails in all the ways of a real one."""
# [Task]: T093 [From]: specs/reliability.md

import asyncio
import re

from tests.proxy import Link, Proxy
from tests.server import pick_port

# CommandComplete of a statement that wrote a row, and ReadyForQuery, which is sent after the
# commit (PostgreSQL 18, section 54.7).
WROTE = re.compile(rb"C....(?:INSERT 0|UPDATE|DELETE) [1-9]\d*\0", re.DOTALL)
READY = b"Z\0\0\0\5I"


class FaultyProxy(Proxy):
    """Passes everything on, until it is told otherwise. While `passes` is cleared, the network is silent;
    what is sent meanwhile arrives when it is set again.
    """

    def __init__(self, upstream_url: str) -> None:
        super().__init__(upstream_url)
        self.port = pick_port()
        # In seconds, each way.
        self.delay = 0.0
        # Whether the connection is cut in place of a write's answer.
        self.drops_replies = False
        self.dropped = 0
        self._dropping: set[Link] = set()
        self._forgotten_up_to = 0

    def forget(self) -> None:
        """Makes the open connections fall silent for good, as if a router forgot them."""
        self._forgotten_up_to = self.connections

    async def let_pass(self, link: Link, data: bytes, *, from_client: bool) -> bytes:
        await asyncio.sleep(self.delay)
        await super().let_pass(link, data, from_client=from_client)
        if link.number <= self._forgotten_up_to:
            await link.is_cut.wait()
            return b""
        return data if from_client else self._drop(link, data)

    def _drop(self, link: Link, data: bytes) -> bytes:
        if self.drops_replies and WROTE.search(data):
            self._dropping.add(link)
        if link not in self._dropping:
            return data
        if data.endswith(READY):
            self.dropped += 1
            self._dropping.remove(link)
            link.cut()
        return b""
