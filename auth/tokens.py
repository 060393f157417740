"""Verifies the JWTs that a Better Auth frontend sends, more strictly than RFC 7519 asks for."""
# [Task]: T022, T023, T024, T025, T082, T125 [From]: specs/features/authentication.md

import base64
import json
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt
from pydantic_core import from_json

from auth.jwks import KeySet
from models import USER_ID_LENGTH

MAX_TOKEN_BYTES = 8 * 1024
CLOCK_SKEW_SECONDS = 10
# How many tokens are remembered; a worker of few users needs few, and each costs about 1 KiB.
REMEMBERED_TOKENS = 4096
HMAC_ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})
# Better Auth signs its session cookie with the same secret. That is a cookie, no API token.
SESSION_CACHE_AUDIENCE = "better-auth:session-cache"


class InvalidToken(Exception):
    """The token can't be accepted. The message, for the log, holds nothing of the token."""


class ExpiredToken(InvalidToken):
    """The token was good until its `exp`."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What of a good token has to be looked at again: its time, and the key it was good with."""

    subject: str
    expires_at: float
    algorithm: str
    key_id: str | None
    key: jwt.PyJWK


class TokenVerifier:
    """Checks tokens of two families, told apart by the header's `alg` and never mixed: those
    signed with the shared secret, and those signed with a key that the frontend publishes.

    `issuer` and `audience` go for both; without them a shared-secret token's are left unchecked
    and a published-key token's have to be `origin`.
    """

    def __init__(
        self,
        *,
        secret: str | None,
        algorithm: str,
        keys: KeySet | None,
        origin: str | None,
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        self._secret = None
        if secret is not None:
            jwk = {"kty": "oct", "k": encode_segment(secret.encode())}
            self._secret = jwt.PyJWK(jwk, algorithm)
        self._algorithm = algorithm
        self._keys = keys
        self._origin = origin
        self._issuer = issuer
        self._audience = audience
        # By digest: the tokens themselves aren't kept. Only good ones get here, oldest first.
        self._remembered: dict[bytes, VerifiedToken] = {}

    async def verify(self, token: str) -> str:
        """The `sub` of a good token: the user's id.

        A token that was good is remembered, and good again while its `exp` is to come and the key
        that it was verified with is in force. All else about a token never changes.

        Raises `InvalidToken`, `ExpiredToken`, and `ServiceUnavailable` where the published keys
        can't be had.
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
        return verified.subject

    async def _verify(self, token: str) -> VerifiedToken:
        header, claims = parse_token(token)
        check_header(header)
        check_claims(claims)
        algorithm, key_id = header["alg"], header.get("kid")
        key = await self._find_key(algorithm, key_id)
        issuer, audience = self._issuer, self._audience
        if key is self._secret:
            audiences = claims.get("aud")
            if not isinstance(audiences, list):
                audiences = [audiences]
            if SESSION_CACHE_AUDIENCE in audiences:
                raise InvalidToken("a session cookie, not an API token")
        else:
            issuer, audience = issuer or self._origin, audience or self._origin
        try:
            jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=issuer,
                audience=audience,
                leeway=CLOCK_SKEW_SECONDS,
                options={"verify_aud": audience is not None, "verify_jti": False, "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError:
            raise ExpiredToken("expired") from None
        except jwt.PyJWTError as error:
            raise InvalidToken(self._explain(error, issuer, audience)) from None
        expires_at = int(claims["exp"]) + CLOCK_SKEW_SECONDS
        return VerifiedToken(claims["sub"], expires_at, algorithm, key_id, key)

    async def _find_key(self, algorithm: str, key_id: str | None) -> jwt.PyJWK:
        """The key that such a token has to be signed with: its algorithm picks the family."""
        if algorithm == self._algorithm and self._secret is not None:
            return self._secret
        # What is said of the algorithm is said of known ones: a stranger can write any there.
        if algorithm in HMAC_ALGORITHMS:
            raise InvalidToken(
                "signed with a shared secret, and BETTER_AUTH_SECRET isn't set"
                if self._secret is None
                else f"signed with a shared secret by {algorithm}, and JWT_ALGORITHM is another"
            )
        if not KeySet.serves(algorithm):
            raise InvalidToken("an algorithm that isn't served")
        if self._keys is None:
            raise InvalidToken("signed with a key of Better Auth's, and BETTER_AUTH_URL isn't set")
        if not key_id:
            raise InvalidToken("no key id")
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            raise InvalidToken("none of the keys of JWKS_URL (or BETTER_AUTH_URL)")
        return key

    def _explain(self, error: jwt.PyJWTError, issuer: str | None, audience: str | None) -> str:
        """What was expected, by which setting; never what the token has."""
        claim = error.claim if isinstance(error, jwt.MissingRequiredClaimError) else None
        if claim == "iss" or isinstance(error, jwt.InvalidIssuerError):
            source = "JWT_ISSUER" if self._issuer else "the origin of BETTER_AUTH_URL"
            return f"its iss isn't {issuer!r}, {source}"
        if claim == "aud" or isinstance(error, jwt.InvalidAudienceError):
            source = "JWT_AUDIENCE" if self._audience else "the origin of BETTER_AUTH_URL"
            return f"its aud isn't {audience!r}, {source}"
        return type(error).__name__


def parse_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a JWS in compact form (RFC 7515, section 7.1), unverified.

    Raises `InvalidToken` for anything that isn't three canonical base64url segments of which
    the first two are JSON objects.
    """
    try:
        header, claims, _signature = map(decode_segment, token.split("."))
    except ValueError:
        raise InvalidToken("not three segments") from None
    return parse_object(header), parse_object(claims)


def encode_segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode_segment(segment: str) -> bytes:
    try:
        content = base64.urlsafe_b64decode(segment + "==")
    except ValueError:
        raise InvalidToken("not base64url") from None
    # The decoder skips foreign characters, needless padding and unused bits that aren't zero.
    if encode_segment(content) != segment:
        raise InvalidToken("not canonical base64url")
    return content


def parse_object(content: bytes) -> dict[str, Any]:
    try:
        # The stricter of two parsers: UTF-8, no lone surrogates, no NaN, bounded depth and digits.
        from_json(content, allow_inf_nan=False)
        # The one that sees duplicate members.
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


def check_header(header: dict[str, Any]) -> None:
    """Header parameters that point to keys (`jku`, `x5u`, `jwk` and the like) are left alone."""
    if not isinstance(header.get("alg"), str):
        raise InvalidToken("no algorithm")
    if "crit" in header:
        raise InvalidToken("critical extensions")
    if "typ" in header and str(header["typ"]).upper() != "JWT":
        raise InvalidToken("another type than JWT")
    if not isinstance(header.get("kid", ""), str):
        raise InvalidToken("a key id that is no string")


def check_claims(claims: dict[str, Any]) -> None:
    """The claims' types; PyJWT compares their values. Types are checked before the signature is,
    since PyJWT would read `"exp": true` or `"exp": "1"` as a number.
    """
    for name in ("exp", "nbf", "iat"):
        if (name == "exp" or name in claims) and type(claims.get(name)) not in {int, float}:
            raise InvalidToken(f"{name} is no number")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= USER_ID_LENGTH:
        raise InvalidToken("sub is no user id")
    if "\0" in subject:
        raise InvalidToken("sub has a NUL character")
