# [Task]: T025, T026, T027 [From]: specs/features/authentication.md
"""The keys that a Better Auth server publishes (RFC 7517), fetched, kept and refetched."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import jwt
from pydantic import BaseModel

from errors import ServiceUnavailable

logger = logging.getLogger(__name__)

FETCH_TIMEOUT_SECONDS: Final = 5.0
MAX_RESPONSE_BYTES: Final = 256 * 1024
# A withdrawn key stops working after this long at the latest.
MAX_AGE_SECONDS: Final = 600.0
# How often an unknown key id may cause a fetch, and how soon a failed one is tried again…
REFETCH_SECONDS: Final = 30.0
# …or, where there is no list at all to go on with:
RETRY_WITHOUT_KEYS_SECONDS: Final = 1.0

# Which algorithms a key of a type and curve may verify.
ALGORITHMS: Final[dict[tuple[str, str | None], tuple[str, ...]]] = {
    ("OKP", "Ed25519"): ("EdDSA",),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-521"): ("ES512",),
    ("RSA", None): ("RS256", "PS256"),
}


class KeyList(BaseModel):
    """A JWK set (RFC 7517, section 5), its keys as they come."""

    keys: list[dict[str, Any]]


class KeySet:
    """The published keys by their ids. Fetched when first needed, when a key id is unknown (at
    most once in 30 s) and after 10 minutes; while the key server is away, the keys in hand
    serve on. Fetches run one at a time, and everybody who needs one waits for the same.
    """

    def __init__(
        self, url: str, client: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._keys: dict[str, dict[str, jwt.PyJWK]] | None = None
        self._fetched_at = -math.inf
        self._failed_at = -math.inf
        self._searched_at = -math.inf
        self._fetch: asyncio.Task[None] | None = None

    @staticmethod
    def serves(algorithm: str) -> bool:
        return any(algorithm in algorithms for algorithms in ALGORITHMS.values())

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """The key of this id if it may verify this algorithm.

        Raises `ServiceUnavailable` where no list of keys could be had yet.
        """
        now = self._clock()
        if self._keys is None:
            if now >= self._failed_at + RETRY_WITHOUT_KEYS_SECONDS:
                await self._refresh()
            if self._keys is not None and key_id not in self._keys:
                self._searched_at = now
        elif now >= max(self._fetched_at + MAX_AGE_SECONDS, self._failed_at + REFETCH_SECONDS):
            fetch = self._refresh()
            # Nobody waits again for a key server that was away just now.
            if now >= self._failed_at + 2 * REFETCH_SECONDS:
                await fetch
        elif key_id not in self._keys:
            if now >= self._searched_at + REFETCH_SECONDS:
                self._searched_at = now
                await self._refresh()
            elif self._fetch_under_way:
                await self._refresh()

        if self._keys is None:
            raise ServiceUnavailable(
                "The published keys of JWKS_URL could not be fetched.",
                detail="The keys to verify tokens with are unavailable, try again",
                retry_after=math.ceil(FETCH_TIMEOUT_SECONDS),
            )
        return self._keys.get(key_id, {}).get(algorithm)

    def close(self) -> None:
        """Gives up a fetch that is under way."""
        if self._fetch is not None:
            self._fetch.cancel()

    @property
    def _fetch_under_way(self) -> asyncio.Task[None] | None:
        return None if self._fetch is None or self._fetch.done() else self._fetch

    def _refresh(self) -> asyncio.Future[None]:
        """The fetch that is under way, or a new one."""
        self._fetch = self._fetch_under_way or asyncio.create_task(self._fetch_keys())
        # Shielded, since others may wait for it too when this request is given up.
        return asyncio.shield(self._fetch)

    async def _fetch_keys(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                self._keys = read_keys(await self._download())
            self._fetched_at = self._clock()
        except (httpx.HTTPError, OSError, ValueError) as error:
            self._failed_at = self._clock()
            logger.warning(
                "The published keys could not be fetched from JWKS_URL: %s", type(error).__name__
            )

    async def _download(self) -> bytes:
        content = bytearray()
        # A compressed list could be of any size before it is known to be too long.
        headers = {"Accept-Encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            response.raise_for_status()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_RESPONSE_BYTES:
                    raise ValueError("the list of keys is too long")
        return bytes(content)


def read_keys(content: bytes) -> dict[str, dict[str, jwt.PyJWK]]:
    """The keys of a JWK set that can verify tokens, by id and algorithm; others are passed over.

    Raises `ValueError` for what is no JWK set.
    """
    keys: dict[str, dict[str, jwt.PyJWK]] = {}
    for jwk in KeyList.model_validate_json(content).keys:
        key_id = jwk.get("kid")
        if not isinstance(key_id, str) or jwk.get("use", "sig") != "sig" or "d" in jwk:
            continue  # no id, for encryption, or the private half, which everybody has now
        for algorithm in algorithms_of(jwk):
            try:
                keys.setdefault(key_id, {}).setdefault(algorithm, jwt.PyJWK(jwk, algorithm))
            except jwt.PyJWTError:
                logger.warning("A published key is malformed and passed over")
    return keys


def algorithms_of(jwk: dict[str, Any]) -> tuple[str, ...]:
    """What a key may verify: what its type and curve allow, and of that only its own `alg`."""
    key_type, curve = jwk.get("kty"), jwk.get("crv")
    if not isinstance(key_type, str) or not isinstance(curve, str | None):
        return ()
    allowed = ALGORITHMS.get((key_type, curve), ())
    own = jwk.get("alg")
    return allowed if own is None else tuple(name for name in allowed if name == own)
