"""Whether the service can serve: one look at the database for all who ask."""
# [Task]: T061, T104 [From]: specs/api/rest-endpoints.md

import asyncio
import logging
import math
import time

import statements
from backends.faults import UNAVAILABLE, fault_of, unavailable
from config import Settings
from db import Database
from errors import ServiceUnavailable

logger = logging.getLogger(__name__)

# How long a statement of a look and who asks for it wait, and for how long it holds: together less
# than the 5 s after which everything works again, since a look may have begun just before the end
# of a fault. To connect it has the time that requests have: a database that wakes may need it.
LOOK_SECONDS = 3.0
GOOD_FOR_SECONDS = 1.0

# A task that nobody has: read as requests read theirs.
NOBODYS = {"owner": "", "task_id": 0}


class Lookout:
    """Asks the database by a connection of its own, which no request waits for and which goes when
    nobody has asked for a while.
    """

    def __init__(self, settings: Settings) -> None:
        own = {
            "db_pool_size": 0,
            "db_max_overflow": 1,
            "db_statement_timeout": min(LOOK_SECONDS, settings.db_statement_timeout),
        }
        self._database = Database(settings.model_copy(update=own))
        self._look: asyncio.Task[ServiceUnavailable | None] | None = None
        self._good_until = -math.inf

    async def fault(self) -> ServiceUnavailable | None:
        """Why the service can't serve, as of a second ago at most, or None where it can."""
        if self._look is None or (self._look.done() and time.monotonic() >= self._good_until):
            self._look = asyncio.create_task(self._take_a_look())
        try:
            # Somebody who goes away leaves it to the others, and so does a database that wakes.
            return await asyncio.wait_for(asyncio.shield(self._look), LOOK_SECONDS)
        except TimeoutError:
            return ServiceUnavailable("The database is silent.", detail=UNAVAILABLE)

    async def _take_a_look(self) -> ServiceUnavailable | None:
        try:
            (look,) = await self._database.fetch(statements.LOOK, NOBODYS)
        except ServiceUnavailable as error:
            fault = error
        except Exception as error:  # noqa: BLE001 - whatever it is, requests meet it, too
            fault = unavailable(error, fault_of(error))
        else:
            if look["is_read_only"]:
                logger.warning("Ready, but the database of DATABASE_URL is read only: writes are a 503")
            return None
        finally:
            self._good_until = time.monotonic() + GOOD_FOR_SECONDS
        logger.error("Not ready: %s", fault)
        return fault

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])
        await self._database.close()
