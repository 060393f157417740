"""Readiness: one check of the database, shared by all requests for `/ready`."""
# [Task]: T061, T104 [From]: specs/api/rest-endpoints.md

import asyncio
import logging
import math
import time

from backends.faults import UNAVAILABLE, unavailable
from config import Settings
from db import Database
from errors import ServiceUnavailable

logger = logging.getLogger(__name__)

# The limit of a check's statement and of the wait for it, and how long its result holds. Together they
# are less than the 5 s after which everything works again: a check may begin just before the end of a
# fault. To connect, it has the time that requests have, since a database may be waking.
CHECK_SECONDS = 3.0
GOOD_FOR_SECONDS = 1.0


class ReadinessCheck:
    """Checks the database on a connection of its own, for which no other request waits and which is
    closed when it has idled.
    """

    def __init__(self, settings: Settings) -> None:
        limit = min(CHECK_SECONDS, settings.db_statement_timeout)
        # Without METRICS_TOKEN, the pool's metrics don't count its connection.
        own = {"db_pool_size": 0, "db_max_overflow": 1, "db_statement_timeout": limit, "metrics_token": None}
        self._database = Database(settings.model_copy(update=own))
        self._check: asyncio.Task[ServiceUnavailable | None] | None = None
        self._good_until = -math.inf

    async def fault(self) -> ServiceUnavailable | None:
        """Returns why the service can't serve, or None if it can, as found at most a second ago."""
        if self._check is None or (self._check.done() and time.monotonic() >= self._good_until):
            self._check = asyncio.create_task(self._run())
        try:
            # The check goes on for other requests when this one is cancelled or waits no longer.
            return await asyncio.wait_for(asyncio.shield(self._check), CHECK_SECONDS)
        except TimeoutError:
            return ServiceUnavailable("The database is silent.", detail=UNAVAILABLE)

    async def _run(self) -> ServiceUnavailable | None:
        try:
            if not await self._database.check():
                logger.warning("Ready, but the database of DATABASE_URL is read only: writes are answered by a 503")
        except Exception as error:  # noqa: BLE001 - whatever it is, requests meet it, too
            fault = unavailable(error)
            logger.error("Not ready: %s", fault)  # noqa: TRY400 - the reason is in the message
            fault.count()
            return fault
        else:
            return None
        finally:
            self._good_until = time.monotonic() + GOOD_FOR_SECONDS

    async def close(self) -> None:
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait([self._check])
        await self._database.close()
