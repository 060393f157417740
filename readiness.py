"""Readiness: one check of the database for all who ask."""
# [Task]: T061, T104 [From]: specs/api/rest-endpoints.md

import asyncio
import logging
import math
import time

from backends.faults import UNAVAILABLE, DatabaseUnavailable, fault_of
from config import Settings
from db import Database
from errors import ServiceUnavailable

logger = logging.getLogger(__name__)

# The limit of a check's statement and of those who wait for it, and how long its result holds.
# Together they are less than the 5 s after which everything works again, since a check may have begun
# just before the end of a fault. Connecting has the time that requests have: a database may be waking.
CHECK_SECONDS = 3.0
GOOD_FOR_SECONDS = 1.0


class ReadinessCheck:
    """Checks the database by a connection of its own, which no request waits for and which goes when
    nobody has asked for a while.
    """

    def __init__(self, settings: Settings) -> None:
        limit = min(CHECK_SECONDS, settings.db_statement_timeout)
        # Not one of those that the pool's metrics count.
        own = {"db_pool_size": 0, "db_max_overflow": 1, "db_statement_timeout": limit, "metrics_token": None}
        self._database = Database(settings.model_copy(update=own))
        self._check: asyncio.Task[ServiceUnavailable | None] | None = None
        self._good_until = -math.inf

    async def fault(self) -> ServiceUnavailable | None:
        """Why the service can't serve, as of a second ago at most, or None where it can."""
        if self._check is None or (self._check.done() and time.monotonic() >= self._good_until):
            self._check = asyncio.create_task(self._run())
        try:
            # A client that goes away leaves the check to the others; so does a database that wakes.
            return await asyncio.wait_for(asyncio.shield(self._check), CHECK_SECONDS)
        except TimeoutError:
            return ServiceUnavailable("The database is silent.", detail=UNAVAILABLE)

    async def _run(self) -> ServiceUnavailable | None:
        try:
            if not await self._database.check():
                logger.warning("Ready, but the database of DATABASE_URL is read only: writes are a 503")
        except Exception as error:  # noqa: BLE001 - requests meet it, too, whatever it is
            fault = error if isinstance(error, ServiceUnavailable) else DatabaseUnavailable(error, fault_of(error))
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
