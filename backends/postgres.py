"""Connects to the first host of a `DATABASE_URL` that serves. Whatever decides where a connection
leads is given to asyncpg, which would else take it from the environment (`PGHOST` and the like).
"""
# [Task]: T053, T116, T117 [From]: specs/database/schema.md

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import asyncpg

from backends.faults import Fault, explain, fault_of, unavailable
from backends.tls import TLS
from backends.url import Host

logger = logging.getLogger(__name__)

# For so long a host that failed is asked after those that didn't.
REMEMBERED_SECONDS = 30.0

# The hosts that didn't serve when they were last asked, for all engines of the process.
FAILED_AT: dict[Host, float] = {}


async def connect_postgres(hosts: Sequence[Host], *_: Any, **options: Any) -> asyncpg.Connection:
    """`asyncpg.connect`, whose many ways to fail become one: `ServiceUnavailable`. Each host has
    its whole `timeout`; a refused login ends the search, since the next host has the same.
    """
    for host in sorted(hosts, key=failed_lately):
        if host in FAILED_AT:
            # One asks whether it is back. Who comes meanwhile asks the others first.
            FAILED_AT[host] = time.monotonic()
        try:
            connection = await connect_to(host, options)
        except (Exception, asyncio.CancelledError) as error:
            FAILED_AT[host] = time.monotonic()
            if isinstance(error, asyncio.CancelledError):
                raise
            failure = error
        else:
            FAILED_AT.pop(host, None)
            return connection
        fault = fault_of(failure)
        if fault is Fault.LOGIN:
            break
        if len(hosts) > 1 and not isinstance(failure, FileNotFoundError):
            logger.warning("The database at %s %s", host, explain(failure, fault))
    if isinstance(failure, TimeoutError):
        raise unavailable(failure, Fault.CONNECT_TIMEOUT) from failure
    raise unavailable(failure, fault_of(failure) or Fault.UNREACHABLE, is_undone=True) from failure


def failed_lately(host: Host) -> float:
    """The key by which hosts are sorted: 0 where it didn't."""
    failed_at = FAILED_AT.get(host, 0.0)
    return failed_at if time.monotonic() - failed_at < REMEMBERED_SECONDS else 0.0


async def connect_to(host: Host, options: dict[str, Any]) -> asyncpg.Connection:
    *others, last = host.tls
    for tls in others:
        try:
            return await connect_by(host, tls, options)
        except Exception as error:
            # The server has no TLS or wants it, as libpq's prefer and allow expect.
            if fault_of(error) is not Fault.TLS and getattr(error, "sqlstate", "") != "28000":
                raise
    return await connect_by(host, last, options)


async def connect_by(host: Host, tls: TLS, options: dict[str, Any]) -> asyncpg.Connection:
    place = {"host": host.name, "port": host.port, "ssl": tls}
    return await asyncpg.connect(**options | place, direct_tls=False, gsslib="gssapi")
