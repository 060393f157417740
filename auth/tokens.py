"""Verifies the JWTs of a Better Auth frontend, more strictly than RFC 7519 requires."""
# [Task]: T022, T023, T024, T025, T082, T125 [From]: specs/features/authentication.md

import base64
import json
import time
from dataclasses import InitVar, dataclass
from hashlib import sha256
from typing import Any

import jwt
from jwt.types import Options
from pydantic_core import from_json

from auth.jwks import SERVED_ALGORITHMS, KeySet
from errors import first_reason
from models import USER_ID_LENGTH

MAX_TOKEN_BYTES = 8 * 1024
CLOCK_SKEW_SECONDS = 10
# How many verified tokens are remembered, each at about 1 KiB.
REMEMBERED_TOKENS = 4096
NUMBERS = frozenset({int, float})
HMAC_ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})
# Better Auth signs its session cookie with the same secret, but that is no API token.
SESSION_CACHE_AUDIENCE = "better-auth:session-cache"


class InvalidToken(Exception):
    """The token can't be accepted. The message, meant for the log, contains nothing of the token."""


class ExpiredToken(InvalidToken):
    """The token was valid until its `exp`."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The user of a valid token, and what is checked when it is used again: its `exp`, with the skew that other clocks
    are allowed, and the key that it was verified with.
    """

    subject: str
    expires_at: int
    algorithm: str
    key_id: str | None
    key: jwt.PyJWK


@dataclass(kw_only=True, eq=False, repr=False)
class TokenVerifier:
    """Verifies tokens of two families, which the header's `alg` tells apart and which never mix: those signed with the
    shared `secret` by `algorithm`, and those signed with one of the published `keys`.

    `issuer` and `audience` apply to both. Without them those of shared-secret tokens are unchecked, and those of
    published-key tokens must be `origin`.
    """

    # Not kept as text, which could be shown.
    secret: InitVar[str | None]
    algorithm: str
    keys: KeySet | None
    origin: str | None
    issuer: str | None = None
    audience: str | None = None

    def __post_init__(self, secret: str | None) -> None:
        k = encode_segment((secret or "").encode())
        self._secret = jwt.PyJWK({"kty": "oct", "k": k}, self.algorithm) if secret else None
        # Valid tokens, the oldest first, by digest, so that the tokens themselves aren't kept.
        self._remembered: dict[bytes, VerifiedToken] = {}

    async def verify(self, token: str) -> VerifiedToken:
        """Returns what a valid token says: its user's id is the `subject`.

        A valid token is remembered, and stays valid until it expires or the key that it was verified with is withdrawn.
        Nothing else about a token changes.

        Raises `InvalidToken`, `ExpiredToken`, and `ServiceUnavailable` if the published keys are unavailable.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("longer than 8 KiB")
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        verified = self._remembered.get(digest)
        if (
            verified is None
            or time.time() >= verified.expires_at
            or await self._find_key(verified.algorithm, verified.key_id) is not verified.key
        ):
            verified = await self._verify(token)
            self._remembered.pop(digest, None)
            if len(self._remembered) >= REMEMBERED_TOKENS:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = verified
        return verified

    async def _verify(self, token: str) -> VerifiedToken:
        header, claims = parse_token(token)
        check(header, claims)
        key = await self._find_key(header["alg"], header.get("kid"))
        is_shared, audiences = key is self._secret, claims.get("aud")
        if is_shared and SESSION_CACHE_AUDIENCE in (audiences if isinstance(audiences, list) else [audiences]):
            raise InvalidToken("a session cookie, not an API token")
        issuer = self.issuer or (None if is_shared else self.origin)
        audience = self.audience or (None if is_shared else self.origin)
        options: Options = {"verify_jti": False, "enforce_minimum_key_length": True, "verify_aud": audience is not None}
        expected: Any = {"issuer": issuer, "audience": audience, "leeway": CLOCK_SKEW_SECONDS}
        try:
            jwt.decode(token, key, [key.algorithm_name], options, **expected)
        except jwt.ExpiredSignatureError:
            raise ExpiredToken("expired") from None
        except jwt.PyJWTError as error:
            raise InvalidToken(self._explain(error, issuer, audience)) from None
        expires_at = int(claims["exp"]) + CLOCK_SKEW_SECONDS
        return VerifiedToken(claims["sub"], expires_at, header["alg"], header.get("kid"), key)

    async def _find_key(self, algorithm: str, key_id: str | None) -> jwt.PyJWK:
        """Returns the key that a token must be signed with; its algorithm decides on the family."""
        if algorithm == self.algorithm and self._secret:
            return self._secret
        # The log names only known algorithms, since a stranger can write anything there.
        if algorithm in HMAC_ALGORITHMS and self._secret:
            reason = f"signed with a shared secret by {algorithm}, and JWT_ALGORITHM is another"
        elif algorithm in HMAC_ALGORITHMS:
            reason = "signed with a shared secret, and BETTER_AUTH_SECRET isn't set"
        elif algorithm not in SERVED_ALGORITHMS:
            reason = "an algorithm that isn't served"
        elif self.keys is None:
            reason = "signed with a key of Better Auth's, and BETTER_AUTH_URL isn't set"
        elif not key_id:
            reason = "no key id"
        elif key := await self.keys.find(key_id, algorithm):
            return key
        else:
            reason = "none of the keys of JWKS_URL (or BETTER_AUTH_URL)"
        raise InvalidToken(reason)

    def _explain(self, error: jwt.PyJWTError, issuer: str | None, audience: str | None) -> str:
        """Says what was expected, and by which setting, but not what the token contains."""
        for claim, kind, expected, setting in (
            ("iss", jwt.InvalidIssuerError, issuer, self.issuer and "JWT_ISSUER"),
            ("aud", jwt.InvalidAudienceError, audience, self.audience and "JWT_AUDIENCE"),
        ):
            if isinstance(error, kind) or getattr(error, "claim", None) == claim:
                return f"its {claim} isn't {expected!r}, {setting or 'the origin of BETTER_AUTH_URL'}"
        return type(error).__name__


def parse_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the unverified header and claims of a JWS in compact form (RFC 7515, section 7.1).

    Raises `InvalidToken` for anything but three canonical base64url segments, the first two of them JSON objects.
    """
    segments = token.split(".")
    if len(segments) != 3:  # noqa: PLR2004 - header, claims, signature
        raise InvalidToken("not three segments")
    header, claims, _signature = map(decode_segment, segments)
    return parse_object(header), parse_object(claims)


def encode_segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode_segment(segment: str) -> bytes:
    try:
        content = base64.urlsafe_b64decode(segment + "==")
    except ValueError:
        raise InvalidToken("not base64url") from None
    # The decoder ignores foreign characters, needless padding and unused bits that aren't zero.
    if encode_segment(content) != segment:
        raise InvalidToken("not canonical base64url")
    return content


def parse_object(content: bytes) -> dict[str, Any]:
    try:
        # The stricter of two parsers: it refuses lone surrogates, NaN, deep nesting, and anything but UTF-8.
        from_json(content, allow_inf_nan=False)
        # The parser that shows duplicate members.
        value = json.loads(content, object_pairs_hook=unique_members)
    except ValueError:
        raise InvalidToken("not JSON") from None
    if not isinstance(value, dict):
        raise InvalidToken("not a JSON object")
    return value


def unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate members")
    return members


def check(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """Checks the types, and leaves the values to PyJWT, which would take `"exp": true` or `"exp": "1"` for a number.
    Header parameters that point to keys (`jku`, `x5u`, `jwk` and the like) are ignored.
    """
    subject = claims.get("sub")
    reasons = {
        "no algorithm": not isinstance(header.get("alg"), str),
        "critical extensions": "crit" in header,
        "another type than JWT": str(header.get("typ", "JWT")).upper() != "JWT",
        "a key id that is no string": not isinstance(header.get("kid", ""), str),
        "exp is no number": type(claims.get("exp")) not in NUMBERS,
        "nbf is no number": type(claims.get("nbf", 0)) not in NUMBERS,
        "iat is no number": type(claims.get("iat", 0)) not in NUMBERS,
        "sub is no user id": not isinstance(subject, str) or not 0 < len(subject) <= USER_ID_LENGTH,
        "sub has a NUL character": "\0" in str(subject),
    }
    if reason := first_reason(reasons):
        raise InvalidToken(reason)
