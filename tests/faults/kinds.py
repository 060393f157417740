"""The faults of the storm. Each returns at its end, when all that it broke could work again."""
# [Task]: T093 [From]: specs/reliability.md

import asyncio
import signal
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tests.faults.deployment import Deployment
from tests.faults.postgres import PrivatePostgres
from tests.faults.proxy import FaultyProxy

# The time of a fault that could last for ever: longer than that of a statement.
FAULT_SECONDS = 2.5


@dataclass
class Site:
    """The parts that can break."""

    postgres: PrivatePostgres
    database: str
    proxy: FaultyProxy
    service: Deployment
    chance: Random


class Kind(Protocol):
    """Breaks something, and returns when it could work again."""

    __name__: str

    async def __call__(self, site: Site) -> None: ...


async def last() -> None:
    await asyncio.sleep(FAULT_SECONDS)


async def delay(site: Site) -> None:
    """The network is slow, each way."""
    site.proxy.delay = site.chance.uniform(0.05, 0.8)
    await last()
    site.proxy.delay = 0


async def cut(site: Site) -> None:
    """The network resets every connection."""
    site.proxy.cut()


async def half_open(site: Site) -> None:
    """The network forgets every connection, without a word, and takes new ones."""
    site.proxy.forget()


async def silent(site: Site) -> None:
    """The network holds everything back, and delivers it later."""
    site.proxy.passes.clear()
    await last()
    site.proxy.passes.set()


async def refuse(site: Site) -> None:
    """The network refuses every connection."""
    site.proxy.refuse()
    site.proxy.cut()
    await last()
    await site.proxy.listen()


async def drop_replies(site: Site) -> None:
    """The network cuts the connection of every write after its commit and before the reply."""
    site.proxy.drops_replies = True
    await last()
    site.proxy.drops_replies = False


async def kill_database(site: Site) -> None:
    await site.postgres.kill()
    await asyncio.sleep(site.chance.uniform(0, FAULT_SECONDS))
    await site.postgres.start()


async def restart_database(site: Site) -> None:
    await site.postgres.stop()
    await asyncio.sleep(site.chance.uniform(0, FAULT_SECONDS))
    await site.postgres.start()


async def terminate_connections(site: Site) -> None:
    await site.postgres.run(terminate_all(site))


async def lock(site: Site) -> None:
    """Another client locks every row, or the whole table as a migration does, for longer than a statement may take."""
    statements = [
        "SELECT FROM task FOR UPDATE",
        "SELECT FROM task_list_version FOR UPDATE",
        "LOCK TABLE task IN ACCESS EXCLUSIVE MODE",
    ]
    async with site.postgres.admin(site.database) as admin, admin.transaction():
        await admin.execute(site.chance.choice(statements))
        await last()


async def read_only(site: Site) -> None:
    """The server is read only, as a standby is."""
    await site.postgres.run("ALTER SYSTEM SET default_transaction_read_only = on")
    await site.postgres.run("SELECT pg_reload_conf()")
    await last()
    await site.postgres.run("ALTER SYSTEM RESET default_transaction_read_only")
    await site.postgres.run("SELECT pg_reload_conf()")


async def exhaust_connections(site: Site) -> None:
    """The server allows two connections, one for each worker, which is fewer than the service wants."""
    await site.postgres.run(f"ALTER DATABASE {site.database} CONNECTION LIMIT 2")
    await site.postgres.run(terminate_all(site))
    await last()
    await site.postgres.run(f"ALTER DATABASE {site.database} CONNECTION LIMIT -1")


async def kill_worker(site: Site) -> None:
    """A worker is killed, and the supervisor starts another."""
    site.chance.choice(site.service.workers()).send_signal(signal.SIGKILL)


async def stop_worker(site: Site) -> None:
    """A worker is suspended, and goes on later."""
    worker = site.chance.choice(site.service.workers())
    worker.suspend()
    await last()
    worker.resume()


async def restart_service(site: Site) -> None:
    await site.service.stop()
    await site.service.start()


def terminate_all(site: Site) -> str:
    return (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{site.database}' AND pid <> pg_backend_pid()"
    )


KINDS: list[Kind] = [
    delay,
    cut,
    half_open,
    silent,
    refuse,
    drop_replies,
    kill_database,
    restart_database,
    terminate_connections,
    lock,
    read_only,
    exhaust_connections,
    kill_worker,
    stop_worker,
    restart_service,
]
