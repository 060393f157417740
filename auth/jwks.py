"""The cache of the keys that Better Auth publishes (RFC 7517)."""
# [Task]: T025, T026, T027, T124 [From]: specs/features/authentication.md

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from auth.key_client import FETCH_TIMEOUT_SECONDS, KeyClient, NoKeyList
from errors import ServiceUnavailable

logger = logging.getLogger(__name__)

# A withdrawn key stops working after this time at the latest.
MAX_AGE_SECONDS = 600.0
# The least time between two fetches for unknown key ids, and until a failed fetch is repeated…
REFETCH_SECONDS = 30.0
# …or, while there is no list at all, this:
RETRY_WITHOUT_KEYS_SECONDS = 1.0
# How many unknown key ids are remembered. Any more are made up.
REMEMBERED_MISSES = 100

# The algorithms that a key may verify, by its type and curve.
ALGORITHMS: dict[tuple[str | None, str | None], tuple[str, ...]] = {
    ("OKP", "Ed25519"): ("EdDSA",),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-521"): ("ES512",),
    ("RSA", None): ("RS256", "PS256"),
}

SERVED_ALGORITHMS = frozenset(name for names in ALGORITHMS.values() for name in names)

# The lower bound is that of RFC 7518, section 3.3. Above the upper one a verification takes too long.
RSA_BITS = range(2048, 8192 + 1)
MAX_RSA_EXPONENT = 2**32
# The y of the points of order 1, 2, 4 and 8 on edwards25519: as public keys, they let anybody sign.
FIELD = 2**255 - 19
ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = frozenset({0, 1, FIELD - 1, ORDER_8, FIELD - ORDER_8})

Keys = dict[str, dict[str, jwt.PyJWK]]


class KeySet:
    """The published keys by their ids. They are fetched when first needed, for an unknown key id (at most once in
    30 s) and after 10 minutes; while the key server is away, the known keys remain in use. Fetches run one at a time,
    and all requests that need one share it.
    """

    def __init__(self, client: KeyClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._keys: Keys | None = None
        self._fetched_at = -math.inf
        self._failed_at = -math.inf
        self._searched_at = -math.inf
        # Ids that aren't in the last list.
        self._missing: set[str] = set()
        self._fetch: asyncio.Task[Keys | None] | None = None

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """Returns the key with this id if it may verify this algorithm, None if the list has no such key.

        Raises `ServiceUnavailable` if there is no list, or if the id isn't in it and no fresh one can be fetched now.
        """
        now = self._clock()
        if self._keys is None or key_id not in self._keys:
            return (await self._search(key_id)).get(algorithm)
        if now >= max(self._fetched_at + MAX_AGE_SECONDS, self._failed_at + REFETCH_SECONDS):
            fetch = self._refresh()
            # Requests don't wait again for a key server that was away just now.
            if now >= self._failed_at + 2 * REFETCH_SECONDS:
                await fetch
        return self._keys.get(key_id, {}).get(algorithm)

    async def _search(self, key_id: str) -> dict[str, jwt.PyJWK]:
        """Returns the keys with an id that isn't in the current list, from a fresh list."""
        if self._fetch_under_way:
            # It may bring the key, unless it was answered before the key was published.
            await self._refresh()
        if self._keys is not None and key_id in self._keys:
            return self._keys[key_id]

        now = self._clock()
        next_search = self._searched_at + REFETCH_SECONDS
        if self._keys is None:
            next_search = self._failed_at + RETRY_WITHOUT_KEYS_SECONDS
        # A fetch that is under way by now began after this search, and serves it, too.
        if self._fetch_under_way or now >= next_search:
            if self._keys is not None:
                # Before the fetch, so that an abandoned search counts, too.
                self._searched_at = now
            if (keys := await self._refresh()) is not None:
                if key_id not in keys:
                    self._searched_at = now
                    if len(self._missing) < REMEMBERED_MISSES:
                        self._missing.add(key_id)
                return keys.get(key_id, {})
        elif key_id in self._missing:
            return {}
        wait = FETCH_TIMEOUT_SECONDS if self._keys is None else self._searched_at + REFETCH_SECONDS - self._clock()
        raise ServiceUnavailable(
            "A token's key can't be looked for: the list of JWKS_URL (or BETTER_AUTH_URL) could not be fetched, or was"
            " less than 30 s ago.",
            detail="The keys to verify tokens with are unavailable, try again",
            retry_after=max(1, math.ceil(wait)),
        )

    async def close(self) -> None:
        """Cancels a fetch that is under way, and closes the client."""
        if self._fetch is not None:
            self._fetch.cancel()
        await self._client.close()

    @property
    def _fetch_under_way(self) -> asyncio.Task[Keys | None] | None:
        return None if self._fetch is None or self._fetch.done() else self._fetch

    def _refresh(self) -> asyncio.Future[Keys | None]:
        """Returns the fetch that is under way, or a new one. Its result is the new list, or None if it failed."""
        self._fetch = self._fetch_under_way or asyncio.create_task(self._fetch_keys())
        # Shielded, since other requests may wait for it when this one is cancelled.
        return asyncio.shield(self._fetch)

    async def _fetch_keys(self) -> Keys | None:
        try:
            keys = read_keys(await self._client.fetch())
        except NoKeyList as error:
            self._failed_at = self._clock()
            self._missing.clear()
            logger.warning(
                "The published keys could not be fetched from JWKS_URL (by default BETTER_AUTH_URL + /api/auth/jwks):"
                " %s",
                error,
            )
            return None
        self._fetched_at = self._clock()
        # A withdrawn key needs no search.
        self._missing = set(self._keys or ()) - keys.keys()
        self._keys = keys
        return keys


def read_keys(content: bytes) -> Keys:
    """Returns the keys of a JWK set (RFC 7517, section 5) that can verify tokens, by id and algorithm. Of several with
    the same id and algorithm, the first counts.

    Raises `NoKeyList` for anything but a JWK set.
    """
    document = None
    with suppress(ValueError, RecursionError):
        # As floats, since Python refuses an integer of thousands of digits.
        document = json.loads(content.decode(), parse_int=float)
    if not isinstance(document, dict) or not isinstance(entries := document.get("keys"), list):
        raise NoKeyList('the answer is no {"keys": […]}: see that it is where the keys are')
    keys: Keys = {}
    for jwk in entries:
        if not isinstance(jwk, dict) or not isinstance(key_id := jwk.get("kid"), str):
            continue
        # An id that is listed needs no search, even if its key is unusable.
        usable = keys.setdefault(key_id, {})
        for algorithm in algorithms_of(jwk):
            with suppress(jwt.PyJWTError):
                key = jwt.PyJWK(jwk, algorithm)
                if is_sound(key.key):
                    usable.setdefault(algorithm, key)
    logger.info("%d published keys, %d of use here", len(entries), sum(map(bool, keys.values())))
    return keys


def algorithms_of(jwk: dict[str, Any]) -> tuple[str, ...]:
    """Returns the algorithms that a key may verify by its type and curve, and by its `alg` if it has one."""
    kind = jwk.get("kty"), jwk.get("crv")
    # Skip keys for encryption, and private ones ("d"): once published, anybody can sign with them.
    if not all(isinstance(part, str | None) for part in kind) or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return ()
    return tuple(name for name in ALGORITHMS.get(kind, ()) if jwk.get("alg") in (None, name))


def is_sound(key: object) -> bool:
    """Whether a key is neither weak nor slow to verify with, as far as the key itself tells."""
    if isinstance(key, Ed25519PublicKey):
        y = int.from_bytes(key.public_bytes_raw(), "little") % 2**255
        return y % FIELD not in SMALL_ORDER
    if isinstance(key, RSAPublicKey):
        return key.key_size in RSA_BITS and key.public_numbers().e < MAX_RSA_EXPONENT
    return True
