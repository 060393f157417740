# [Task]: T025, T026, T027, T082 [From]: specs/features/authentication.md
"""Tokens signed with published keys, and the life of the list of keys."""

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from errors import ServiceUnavailable
from jwks import KeySet
from tests.databases import MakeDatabase
from tests.service import Service, bearer, make_settings, make_token, running, sign_raw
from tokens import InvalidToken, TokenVerifier

ORIGIN = "https://app.example"
USER = "key-holder"
INVALID = (401, {"detail": "Invalid token"})
UNAVAILABLE = (503, {"detail": "The keys to verify tokens with are unavailable, try again"})

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS: dict[str, tuple[Any, type[Any], str]] = {
    "EdDSA": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm, "EdDSA"),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm, "ES256"),
    "ES512": (ec.generate_private_key(ec.SECP521R1()), ECAlgorithm, "ES512"),
    "RS256": (RSA_KEY, RSAAlgorithm, "RS256"),
    "PS256": (RSA_KEY, RSAAlgorithm, "PS256"),
}


def public_jwk(name: str, **members: Any) -> dict[str, Any]:
    """A key as Better Auth publishes it; a member of None is left out."""
    private, algorithm, alg = KEYS[name]
    jwk = algorithm.to_jwk(private.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    jwk |= {"alg": alg, "kid": name} | members
    return {member: value for member, value in jwk.items() if value is not None}


def published_token(name: str = "EdDSA", kid: str | None = "", **claims: Any) -> str:
    """A token as Better Auth signs it, unless told otherwise."""
    private, _, algorithm = KEYS[name]
    headers: dict[str, Any] = {"typ": None}
    if kid is not None:
        headers["kid"] = kid or name
    content = {"iss": ORIGIN, "aud": ORIGIN, "iat": int(time.time())} | claims
    return make_token(USER, key=private, algorithm=algorithm, headers=headers, **content)


class KeyServer:
    """An HTTP server that publishes keys and counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk(name) for name in KEYS]
        self.body: bytes | None = None
        self.status = 200
        self.headers = ""
        self.asked = 0
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.is_asked.set()
            await self.may_answer.wait()
            body = self.body
            if body is None:
                body = json.dumps({"keys": self.keys}).encode()
            head = f"HTTP/1.1 {self.status} Status\r\nContent-Length: {len(body)}\r\n{self.headers}"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    keys = KeyServer()
    server = await asyncio.start_server(keys.answer, "127.0.0.1", 0)
    keys.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/auth/jwks"
    yield keys
    keys.may_answer.set()
    server.close()
    await server.wait_closed()


Start = Callable[..., contextlib.AbstractAsyncContextManager[Service]]


@pytest.fixture
def start(make_database: MakeDatabase, key_server: KeyServer) -> Start:
    """Starts a service that takes its keys from the key server."""

    @asynccontextmanager
    async def start_service(**values: Any) -> AsyncIterator[Service]:
        defaults = {"better_auth_url": ORIGIN, "jwks_url": key_server.url}
        url = await make_database("sqlite")
        async with running(make_settings(database_url=url, **(defaults | values))) as service:
            yield service

    return start_service


async def ask(service: Service, token: str) -> tuple[int, Any]:
    response = await service.client.get(f"/api/{USER}/tasks", headers=bearer(token))
    return response.status_code, response.json()


@pytest.mark.requirement("T025")
@pytest.mark.parametrize("name", KEYS)
async def test_every_algorithm_of_better_auth(start: Start, name: str) -> None:
    async with start() as service:
        assert await ask(service, published_token(name)) == (200, [])


@pytest.mark.requirement("T025")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("EdDSA", {"kid": None}),
        ("EdDSA", {"kid": "unknown"}),
        ("EdDSA", {"kid": "ES256"}),
        ("ES256", {"kid": "ES512"}),
        ("RS256", {"kid": "PS256"}),
        ("PS256", {"kid": "RS256"}),
        ("EdDSA", {"iss": "https://other.example"}),
        ("EdDSA", {"iss": ORIGIN + "/"}),
        ("EdDSA", {"iss": None}),
        ("EdDSA", {"aud": "https://other.example"}),
        ("EdDSA", {"aud": None}),
        ("EdDSA", {"aud": []}),
        ("EdDSA", {"sub": None}),
        ("EdDSA", {"exp": None}),
        ("EdDSA", {"nbf": time.time() + 3600}),
    ],
)
async def test_a_published_key_token_that_is_no_good(
    start: Start, name: str, changes: dict[str, Any]
) -> None:
    async with start() as service:
        assert await ask(service, published_token(name, **changes)) == INVALID


@pytest.mark.requirement("T025")
async def test_an_expired_published_key_token(start: Start) -> None:
    async with start() as service:
        token = published_token(exp=time.time() - 60)
        assert await ask(service, token) == (401, {"detail": "Token has expired"})


@pytest.mark.requirement("T024", "T025")
async def test_families_never_mix(start: Start, key_server: KeyServer) -> None:
    shared = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": "c2VjcmV0" * 8}
    key_server.keys.append(shared)
    public = json.dumps(public_jwk("EdDSA"))
    async with start() as service:
        # Signed with what anyone can read, as a shared secret.
        for key in (public, public_jwk("EdDSA")["x"], shared["k"], "secret" * 8):
            for kid in ("EdDSA", "oct", None):
                header = json.dumps({"alg": "HS256", "kid": kid} if kid else {"alg": "HS256"})
                claims = json.dumps({"sub": USER, "exp": time.time() + 900})
                assert await ask(service, sign_raw(header, claims, key)) == INVALID
        # A shared-secret token is served beside the others, whatever `kid` it has.
        token = make_token(USER, headers={"kid": "EdDSA"})
        assert await ask(service, token) == (200, [])


@pytest.mark.requirement("T024", "T025")
async def test_without_a_secret_no_shared_secret_token_passes(start: Start) -> None:
    async with start(better_auth_secret=None) as service:
        assert await ask(service, make_token(USER)) == INVALID
        assert await ask(service, published_token()) == (200, [])


@pytest.mark.requirement("T024")
async def test_without_published_keys_only_the_secret_counts(service: Service) -> None:
    assert await ask(service, published_token()) == INVALID


@pytest.mark.requirement("T025")
async def test_issuer_and_audience_can_be_set(start: Start) -> None:
    async with start(jwt_issuer="me", jwt_audience="you") as service:
        assert await ask(service, published_token()) == INVALID
        assert await ask(service, published_token(iss="me", aud="you")) == (200, [])


@pytest.mark.requirement("T025")
@pytest.mark.parametrize(
    "members",
    [
        {"alg": "ES256"},
        {"alg": "Ed25519"},
        {"alg": 5},
        {"use": "enc"},
        {"use": "wrap"},
        {"kty": "EC"},
        {"kty": None},
        {"kty": ["OKP"]},
        {"crv": "Ed448"},
        {"crv": None},
        {"crv": []},
        {"x": "AAAA"},
        {"x": 5},
        {"x": None},
        {"kid": None},
        {"kid": 5},
    ],
)
async def test_a_key_that_cannot_verify_is_passed_over(
    start: Start, key_server: KeyServer, members: dict[str, Any]
) -> None:
    key_server.keys = [public_jwk("EdDSA", **members), public_jwk("ES256")]
    async with start() as service:
        assert await ask(service, published_token("EdDSA")) == INVALID
        assert await ask(service, published_token("ES256")) == (200, [])


@pytest.mark.requirement("T025")
async def test_a_key_without_alg_or_with_use_sig(start: Start, key_server: KeyServer) -> None:
    key_server.keys = [
        public_jwk("EdDSA", alg=None, use="sig"),
        public_jwk("RS256", alg=None, kid="rsa"),
    ]
    async with start() as service:
        assert await ask(service, published_token("EdDSA")) == (200, [])
        assert await ask(service, published_token("RS256", kid="rsa")) == (200, [])
        assert await ask(service, published_token("PS256", kid="rsa")) == (200, [])


@pytest.mark.requirement("T025")
async def test_weak_and_foreign_keys_verify_nothing(start: Start, key_server: KeyServer) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    leaked = public_jwk("RS256") | RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True)
    foreign = ed448.Ed448PrivateKey.generate()
    key_server.keys = [
        RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True) | {"kid": "weak"},
        OKPAlgorithm.to_jwk(foreign.public_key(), as_dict=True) | {"kid": "foreign"},
        leaked,
    ]
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        weak_token = make_token(
            USER, key=weak, algorithm="RS256", headers={"kid": "weak"}, iss=ORIGIN, aud=ORIGIN
        )
    foreign_token = make_token(
        USER, key=foreign, algorithm="EdDSA", headers={"kid": "foreign"}, iss=ORIGIN, aud=ORIGIN
    )
    async with start() as service:
        assert await ask(service, weak_token) == INVALID
        assert await ask(service, foreign_token) == INVALID
        assert await ask(service, published_token("RS256")) == INVALID


@pytest.mark.requirement("T027")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (404, None),
        (302, None),
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"keys": {}}'),
        (200, b'{"keys": [5]}'),
        (200, b'{"keys": null}'),
        (200, b"\xff"),
        (200, b'{"keys": []}'.ljust(256 * 1024 + 1)),
    ],
)
async def test_no_list_of_keys_is_503(
    start: Start, key_server: KeyServer, status: int, body: bytes | None
) -> None:
    key_server.status, key_server.body = status, body
    async with start() as service:
        response = await service.client.get(f"/api/{USER}/tasks", headers=bearer(published_token()))
        assert (response.status_code, response.json()) == UNAVAILABLE
        assert response.headers["Retry-After"] == "5"
        assert await ask(service, make_token(USER)) == (200, [])


@pytest.mark.requirement("T026", "T027")
async def test_a_list_of_keys_is_never_unpacked(start: Start, key_server: KeyServer) -> None:
    # Unpacked, a few hundred bytes could fill the memory.
    key_server.body = gzip.compress(json.dumps({"keys": key_server.keys}).encode())
    key_server.headers = "Content-Encoding: gzip\r\n"
    async with start() as service:
        assert await ask(service, published_token()) == UNAVAILABLE


@pytest.mark.requirement("T027")
async def test_an_unreachable_key_server_is_503(start: Start) -> None:
    async with start(jwks_url="http://127.0.0.1:9/") as service:
        assert await ask(service, published_token()) == UNAVAILABLE
        # Judged before the keys are asked for.
        assert await ask(service, published_token(sub="")) == INVALID
        assert await ask(service, published_token(kid=None)) == INVALID


@pytest.mark.requirement("T027")
@pytest.mark.parametrize("body", [b'{"keys": []}', b'{"keys": []}'.ljust(256 * 1024)])
async def test_an_empty_list_of_keys_is_a_list(
    start: Start, key_server: KeyServer, body: bytes
) -> None:
    key_server.body = body
    async with start() as service:
        assert await ask(service, published_token()) == INVALID


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def key_set(key_server: KeyServer) -> AsyncIterator[tuple[KeySet, Clock]]:
    clock = Clock()
    async with httpx.AsyncClient() as client:
        keys = KeySet(key_server.url, client, clock)
        yield keys, clock
        keys.close()


@pytest.mark.requirement("T026")
async def test_keys_are_fetched_when_first_needed_and_kept(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    assert key_server.asked == 0

    for _ in range(5):
        assert await keys.find("EdDSA", "EdDSA")
        clock.now += 119

    assert key_server.asked == 1


@pytest.mark.requirement("T026")
async def test_an_unknown_key_is_looked_for_at_most_once_in_30_seconds(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.keys.append(public_jwk("ES256", kid="rotated"))

    assert await keys.find("rotated", "ES256")
    assert key_server.asked == 2

    for _ in range(29):
        clock.now += 1
        assert await keys.find("unknown", "EdDSA") is None
    assert key_server.asked == 2
    clock.now += 1
    assert await keys.find("unknown", "EdDSA") is None
    assert key_server.asked == 3


@pytest.mark.requirement("T026")
async def test_a_first_fetch_for_an_unknown_key_counts_as_the_one(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, _ = key_set
    for _ in range(3):
        assert await keys.find("unknown", "EdDSA") is None

    assert key_server.asked == 1


@pytest.mark.requirement("T026")
@pytest.mark.parametrize("later", [1, 1000])
async def test_a_withdrawn_key_stops_after_ten_minutes(
    key_server: KeyServer, key_set: tuple[KeySet, Clock], later: float
) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.keys = [public_jwk("ES256")]

    clock.now += 599
    assert await keys.find("EdDSA", "EdDSA")
    clock.now += later
    assert await keys.find("EdDSA", "EdDSA") is None


@pytest.mark.requirement("T026", "T082")
async def test_a_remembered_token_stops_with_its_key(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    verifier = TokenVerifier(secret=None, algorithm="HS256", keys=keys, origin=ORIGIN)
    token, other = published_token("EdDSA"), published_token("ES256")
    for _ in range(2):
        assert await verifier.verify(token) == await verifier.verify(other) == USER
    assert key_server.asked == 1

    key_server.keys = [public_jwk("ES256"), public_jwk("RS256", kid="EdDSA")]
    clock.now += 600
    with pytest.raises(InvalidToken):
        await verifier.verify(token)
    assert await verifier.verify(other) == USER
    assert key_server.asked == 2


@pytest.mark.requirement("T026")
async def test_keys_in_hand_serve_on_while_the_key_server_is_away(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.status = 500

    for _ in range(30):
        clock.now += 60
        assert await keys.find("EdDSA", "EdDSA")
        assert await keys.find("unknown", "EdDSA") is None
    # A try in half a minute is enough.
    if keys._fetch_under_way is not None:
        await keys._fetch_under_way
    clock.now += 29
    assert await keys.find("EdDSA", "EdDSA")
    assert keys._fetch_under_way is None
    key_server.status = 200
    key_server.keys = []
    clock.now += 1
    assert await keys.find("EdDSA", "EdDSA")  # the last time: a fetch is under way now
    assert keys._fetch_under_way is not None
    await keys._fetch_under_way
    assert await keys.find("EdDSA", "EdDSA") is None


async def fetch_and_fail(key_server: KeyServer, keys: KeySet, clock: Clock) -> None:
    """Leaves a list in hand that is ten minutes old, and its next fetch just failed."""
    assert await keys.find("EdDSA", "EdDSA")
    key_server.status = 500
    clock.now += 600
    assert await keys.find("EdDSA", "EdDSA")


@pytest.mark.requirement("T026")
@pytest.mark.parametrize("later", [30, 59])
async def test_nobody_waits_twice_for_a_key_server_that_is_away(
    key_server: KeyServer, key_set: tuple[KeySet, Clock], later: float
) -> None:
    keys, clock = key_set
    await fetch_and_fail(key_server, keys, clock)
    key_server.may_answer.clear()
    clock.now += later

    assert await keys.find("EdDSA", "EdDSA")
    assert keys._fetch_under_way is not None


@pytest.mark.requirement("T026")
@pytest.mark.parametrize("later", [60, 3600])
async def test_after_a_quiet_time_a_withdrawn_key_stops_all_the_same(
    key_server: KeyServer, key_set: tuple[KeySet, Clock], later: float
) -> None:
    keys, clock = key_set
    await fetch_and_fail(key_server, keys, clock)
    key_server.status, key_server.keys = 200, []
    clock.now += later

    assert await keys.find("EdDSA", "EdDSA") is None


@pytest.mark.requirement("T026")
async def test_whoever_needs_the_key_that_is_just_being_fetched_waits_for_it(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, _ = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.keys.append(public_jwk("ES256", kid="rotated"))
    key_server.is_asked.clear()
    key_server.may_answer.clear()

    first = asyncio.create_task(keys.find("rotated", "ES256"))
    await key_server.is_asked.wait()
    second = asyncio.create_task(keys.find("rotated", "ES256"))
    assert await keys.find("EdDSA", "EdDSA")  # in hand, so there is nothing to wait for
    key_server.may_answer.set()

    assert await first
    assert await second
    assert key_server.asked == 2


@pytest.mark.requirement("T026", "T027")
async def test_a_key_server_that_comes_back_is_noticed_within_a_second(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    key_server.status = 500
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            await keys.find("EdDSA", "EdDSA")
    assert key_server.asked == 1

    key_server.status = 200
    clock.now += 1
    assert await keys.find("EdDSA", "EdDSA")


@pytest.mark.requirement("T026")
async def test_many_requests_share_one_fetch(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, _ = key_set

    found = await asyncio.gather(*(keys.find("EdDSA", "EdDSA") for _ in range(20)))

    assert all(found)
    assert key_server.asked == 1


@pytest.mark.requirement("T026", "T027")
async def test_a_fetch_ends_after_its_time_and_blocks_nobody_else(
    start: Start, key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwks.FETCH_TIMEOUT_SECONDS", 2)
    key_server.may_answer.clear()
    async with start() as service:
        waiting = asyncio.create_task(ask(service, published_token()))
        await key_server.is_asked.wait()

        assert await ask(service, make_token(USER)) == (200, [])
        assert not waiting.done()
        assert await waiting == UNAVAILABLE


@pytest.mark.requirement("T026")
async def test_a_request_that_is_given_up_leaves_the_fetch_to_the_others(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, _ = key_set
    key_server.may_answer.clear()
    first, second = (asyncio.create_task(keys.find("EdDSA", "EdDSA")) for _ in range(2))
    await key_server.is_asked.wait()

    first.cancel()
    key_server.may_answer.set()

    assert await second
    assert key_server.asked == 1
