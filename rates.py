"""Rate limits: how many requests a user may make, counted by `limits` in memory or in Redis."""
# [Task]: T155, T157 [From]: specs/features/limits.md

import asyncio
import logging
import math
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pydantic import Secret

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

logger = logging.getLogger(__name__)

IN_MEMORY = "memory://"
MOST_REQUESTS = 10**9
LONGEST_SECONDS = 366 * 86_400
# How long a request waits for the store, and how long the others don't wait for it after it failed.
STORE_SECONDS = 1.0
AWAY_SECONDS = 1.0
WARNING_SECONDS = 60.0
# So many requests ask the store at once; the others wait for their turn.
MOST_AT_ONCE = 20
# How often counts of windows that are over are forgotten.
SWEEP_SECONDS = 60.0


def check_rates(text: str) -> str:
    """Returns rates as `limits` writes them: `600/minute`, several with `;` between. Raises `ValueError`."""
    try:
        rates = parse_many(text)
        is_served = all(one.amount <= MOST_REQUESTS and one.get_expiry() <= LONGEST_SECONDS for one in rates)
        # `limits` takes `1/0 minute` for `1/minute`.
        is_served = is_served and 0 not in map(int, re.findall("[0-9]+", text))
    except ValueError:
        is_served = False
    if not is_served:
        raise ValueError(
            "is no limit that can be kept; write a number per second, minute, hour, day, month or year: 600/minute"
        )
    return text


def check_store(value: Secret[str]) -> Secret[str]:
    """Returns the URL of a store, for which Valkey's is Redis's. Raises `ValueError`, without any of the URL."""
    if (url := value.get_secret_value()) == IN_MEMORY:
        return value
    scheme, _, rest = url.partition("://")
    if scheme not in {"redis", "rediss", "valkey"} or not rest:
        raise ValueError("is neither memory:// nor a URL of redis://, rediss:// or valkey://")
    url = f"{scheme.replace('valkey', 'redis')}://{rest}"
    try:
        # Only a connection, which isn't opened, looks at all of the URL's parameters.
        pool = make_pool(url)
        pool.connection_class(**pool.connection_kwargs)
    except Exception:  # noqa: BLE001 - of many types, and with the password
        raise ValueError("is no URL that redis-py can read") from None
    return Secret(url)


def make_pool(url: str) -> "ConnectionPool":
    # Here, since they take a tenth of a start, and most do without.
    from redis.asyncio import ConnectionPool  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import ConnectionError as Lost  # noqa: PLC0415

    return ConnectionPool.from_url(
        url,
        socket_connect_timeout=STORE_SECONDS,
        socket_timeout=STORE_SECONDS,
        # Of a store that restarted, each old connection fails at its next use.
        retry=Retry(NoBackoff(), 1, (Lost,)),
    )


class Memory(MemoryStorage):
    """Counts in memory. The storage of `limits` itself looks at the counts of all users at each hit, which with 10,000
    of them takes a millisecond.
    """

    def __init__(self) -> None:
        super().__init__()
        self._swept_at = time.time()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        if now >= self._swept_at + SWEEP_SECONDS:
            self._swept_at = now
            for over in [one for one, ends_at in self.expirations.items() if ends_at <= now]:
                await self.clear(over)
        # This forgets the count of a window that is over.
        count = await self.get(key) + amount
        self.storage[key] = count
        self.expirations.setdefault(key, now + expiry)
        return count


class Quota(NamedTuple):
    """What is left to a user of one rate: of `amount` requests in a `window`, in seconds, which ends in `seconds`."""

    amount: int
    window: int
    remaining: int
    seconds: int
    is_over: bool


class RateLimiter:
    """Counts the requests of each user. A store that is away refuses nobody."""

    def __init__(self, rates: str, store: str) -> None:
        # Each once, since equal ones would share a count.
        self._rates = dict.fromkeys(parse_many(rates))
        self._pool = None if store == IN_MEMORY else make_pool(store)
        # `limits` hands its options on to redis-py, but types only the simple ones. The pool has the URL, of which
        # `limits` itself would want a port.
        options: dict[str, Any] = {"implementation": "redispy", "connection_pool": self._pool}
        self._limiter = FixedWindowRateLimiter(RedisStorage("redis://", **options) if self._pool else Memory())
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._away_until = self._quiet_until = -math.inf

    async def count(self, user_id: str) -> list[Quota]:
        """Counts a request, and returns what is left; nothing if the store is away."""
        # Those who wait for their turn don't wait for the store, which may be fast, and leave at once if it is away.
        async with self._turns:
            return [] if time.monotonic() < self._away_until else await self._count_all(user_id)

    async def _count_all(self, user_id: str) -> list[Quota]:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return [await self._count(rate, user_id) for rate in self._rates]
        except Exception as error:  # noqa: BLE001 - a store of any fault refuses nobody
            now = time.monotonic()
            self._away_until = now + AWAY_SECONDS
            if now >= self._quiet_until:
                self._quiet_until = now + WARNING_SECONDS
                # Not its message, which may name the URL.
                logger.warning("RATE_LIMIT_STORAGE can't be used, and no request is limited: %s", type(error).__name__)
            return []

    async def _count(self, rate: RateLimitItem, user_id: str) -> Quota:
        is_within = await self._limiter.hit(rate, user_id)
        reset_at, remaining = await self._limiter.get_window_stats(rate, user_id)
        window = rate.get_expiry()
        seconds = min(max(1, math.ceil(reset_at - time.time())), window)
        return Quota(rate.amount, window, remaining, seconds, not is_within)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.disconnect()
