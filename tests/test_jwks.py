"""Tokens signed with published keys, and the cache of these keys."""
# [Task]: T025, T026, T027, T082, T124, T125 [From]: specs/features/authentication.md

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
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm
from jwt.utils import to_base64url_uint

from auth.jwks import KeySet, read_keys
from auth.key_client import KeyClient
from auth.tokens import InvalidToken, TokenVerifier, encode_segment
from errors import ServiceUnavailable
from tests.databases import MakeDatabase
from tests.keys import KEYS, ORIGIN, RSA_KEY, USER, KeyServer, public_jwk, published_token
from tests.service import Service, bearer, make_settings, make_token, running, sign_raw

INVALID = (401, {"detail": "Invalid token"})
UNAVAILABLE = (503, {"detail": "The keys to verify tokens with are unavailable, try again"})

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


async def ask_in_full(service: Service, token: str) -> httpx.Response:
    return await service.client.get(f"/api/{USER}/tasks", headers=bearer(token))


async def ask(service: Service, token: str) -> tuple[int, Any]:
    response = await ask_in_full(service, token)
    return response.status_code, response.json()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def key_set(key_server: KeyServer) -> AsyncIterator[tuple[KeySet, Clock]]:
    clock = Clock()
    keys = KeySet(KeyClient(key_server.url, "todo-api/test"), clock)
    yield keys, clock
    await keys.close()


@pytest.mark.requirement("T025")
@pytest.mark.parametrize("name", KEYS)
async def test_every_algorithm_of_better_auth_is_accepted(start: Start, name: str) -> None:
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
async def test_an_invalid_published_key_token_is_refused(start: Start, name: str, changes: dict[str, Any]) -> None:
    async with start() as service:
        assert await ask(service, published_token(name, **changes)) == INVALID


@pytest.mark.requirement("T125")
@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        ({}, {"iss": "hers"}, f"its iss isn't '{ORIGIN}', the origin of BETTER_AUTH_URL"),
        ({}, {"iss": None}, f"its iss isn't '{ORIGIN}', the origin of BETTER_AUTH_URL"),
        ({}, {"aud": "hers"}, f"its aud isn't '{ORIGIN}', the origin of BETTER_AUTH_URL"),
        ({}, {"aud": None}, f"its aud isn't '{ORIGIN}', the origin of BETTER_AUTH_URL"),
        ({"jwt_issuer": "me"}, {}, "its iss isn't 'me', JWT_ISSUER"),
        ({"jwt_audience": "you"}, {}, "its aud isn't 'you', JWT_AUDIENCE"),
        ({}, {"kid": "hers"}, "none of the keys of JWKS_URL (or BETTER_AUTH_URL)"),
    ],
)
async def test_the_log_says_what_was_expected(
    start: Start, caplog: pytest.LogCaptureFixture, settings: dict[str, str], changes: dict[str, Any], reason: str
) -> None:
    async with start(**settings) as service:
        assert await ask(service, published_token(**changes)) == INVALID

    assert f"Not authenticated: {reason}" in caplog.messages
    assert "hers" not in caplog.text


@pytest.mark.requirement("T025")
async def test_an_expired_published_key_token_is_refused(start: Start) -> None:
    async with start() as service:
        token = published_token(exp=time.time() - 60)
        assert await ask(service, token) == (401, {"detail": "Token has expired"})


@pytest.mark.requirement("T024", "T025")
async def test_families_never_mix(start: Start, key_server: KeyServer) -> None:
    shared = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": "c2VjcmV0" * 8}
    key_server.keys.append(shared)
    public = json.dumps(public_jwk("EdDSA"))
    async with start() as service:
        # Signed with the public key, which anyone can read, as a shared secret.
        for key in (public, public_jwk("EdDSA")["x"], shared["k"], "secret" * 8):
            for kid in ("EdDSA", "oct", None):
                header = json.dumps({"alg": "HS256", "kid": kid} if kid else {"alg": "HS256"})
                claims = json.dumps({"sub": USER, "exp": time.time() + 900})
                assert await ask(service, sign_raw(header, claims, key)) == INVALID
        # A shared-secret token is accepted beside the others, whatever its `kid`.
        token = make_token(USER, headers={"kid": "EdDSA"})
        assert await ask(service, token) == (200, [])


@pytest.mark.requirement("T024", "T025")
async def test_without_a_secret_no_shared_secret_token_passes(start: Start) -> None:
    async with start(better_auth_secret=None) as service:
        assert await ask(service, make_token(USER)) == INVALID
        assert await ask(service, published_token()) == (200, [])


@pytest.mark.requirement("T024")
async def test_without_published_keys_only_the_secret_counts(plain_service: Service) -> None:
    assert await ask(plain_service, published_token()) == INVALID


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
async def test_a_key_without_alg_or_with_use_sig_is_used(start: Start, key_server: KeyServer) -> None:
    key_server.keys = [public_jwk("EdDSA", alg=None, use="sig"), public_jwk("RS256", alg=None, kid="rsa")]
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
        weak_token = make_token(USER, key=weak, algorithm="RS256", headers={"kid": "weak"}, iss=ORIGIN, aud=ORIGIN)
    foreign_token = make_token(USER, key=foreign, algorithm="EdDSA", headers={"kid": "foreign"}, iss=ORIGIN, aud=ORIGIN)
    async with start() as service:
        assert await ask(service, weak_token) == INVALID
        assert await ask(service, foreign_token) == INVALID
        assert await ask(service, published_token("RS256")) == INVALID


@pytest.mark.requirement("T124")
@pytest.mark.parametrize(
    "entry",
    [
        *("null", "true", "5", "-1e999", "NaN", '"kid"', '"\\ud800"', "[]", "[[]]", "{}", "9" * 5000),
        *("[" * 300 + "]" * 300, '{"kid": {}}', '{"kid": "\\ud800"}', '{"kid": "x", "kty": {}}'),
        '{"kid": "x", "kty": "OKP", "crv": "Ed25519", "x": "\\ud800"}',
        '{"kid": "x", "kty": "OKP", "crv": "Ed25519", "x": "é"}',
        '{"kid": "x", "kty": "EC", "crv": "P-256", "x": {}, "y": []}',
        '{"kid": "x", "kty": "RSA", "n": "AQAB"}',
        '{"kid": "x", "kty": "RSA", "n": "", "e": ""}',
        '{"kid": "x", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}',
        '{"kid": "x", "kty": ["RSA"], "alg": ["RS256"], "use": []}',
    ],
    ids=lambda entry: entry[:50],
)
async def test_an_entry_that_is_no_key_is_passed_over(start: Start, key_server: KeyServer, entry: str) -> None:
    good = json.dumps(public_jwk("EdDSA"))
    key_server.body = f'{{"keys": [{entry}, {good}, {entry}]}}'.encode()
    async with start() as service:
        assert await ask(service, published_token()) == (200, [])


FIELD = 2**255 - 19
# The points of edwards25519 whose order divides 8 (RFC 8032, 5.1) by their y, each with both signs,
# and where 255 bits allow also in the form that isn't reduced.
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
SMALL_ORDER = [
    y | sign << 255 for y in (0, 1, FIELD - 1, FIELD, FIELD + 1, ORDER_8, FIELD - ORDER_8) for sign in (0, 1)
]


@pytest.mark.requirement("T124")
@pytest.mark.parametrize("point", SMALL_ORDER, ids=hex)
async def test_nobody_signs_for_a_point_of_small_order(start: Start, key_server: KeyServer, point: int) -> None:
    jwk = public_jwk("EdDSA", x=encode_segment(point.to_bytes(32, "little")), kid="small")
    verifies = jwt.PyJWK(jwk)
    claims = {"sub": USER, "iss": ORIGIN, "aud": ORIGIN, "exp": int(time.time()) + 900}
    # R is the neutral point and S is 0, which fits one in eight messages, or all.
    forgery = encode_segment(b"\1".ljust(64, b"\0"))
    for number in range(200):
        header = json.dumps({"alg": "EdDSA", "kid": "small"})
        content = json.dumps(claims | {"jti": str(number)})
        token = ".".join(encode_segment(part.encode()) for part in (header, content))
        with contextlib.suppress(jwt.InvalidSignatureError):
            jwt.decode(f"{token}.{forgery}", verifies, audience=ORIGIN)
            break
    else:
        pytest.fail("no forgery")

    key_server.keys.append(jwk)
    async with start() as service:
        assert await ask(service, f"{token}.{forgery}") == INVALID


def rsa_jwk(modulus: int, exponent: int, **members: Any) -> dict[str, Any]:
    numbers = {"n": to_base64url_uint(modulus).decode(), "e": to_base64url_uint(exponent).decode()}
    return {"kty": "RSA", "kid": "rsa"} | numbers | members


@pytest.mark.requirement("T124")
@pytest.mark.parametrize(
    ("bits", "exponent", "is_good"),
    [
        *[(2048, 3, True), (2048, 65537, True), (8192, 2**32 - 1, True)],
        *[(2047, 65537, False), (8193, 65537, False), (100_000, 65537, False)],
        *[(2048, 1, False), (2048, 0, False), (2048, 65536, False), (2048, 2**32 + 1, False)],
        *[(2048, 2**2047 - 1, False), (2048, 2**2049 - 1, False), (6, 3, False)],
    ],
)
def test_an_rsa_key_is_neither_weak_nor_costly(bits: int, exponent: int, *, is_good: bool) -> None:
    content = json.dumps({"keys": [rsa_jwk(2 ** (bits - 1) + 9, exponent)]}).encode()

    assert list(read_keys(content)["rsa"]) == (["RS256", "PS256"] if is_good else [])


@pytest.mark.requirement("T124")
def test_a_point_that_is_not_on_its_curve_is_passed_over() -> None:
    for name in ("ES256", "ES512"):
        jwk = public_jwk(name)
        content = json.dumps({"keys": [jwk | {"x": jwk["y"]}]}).encode()
        assert read_keys(content) == {name: {}}


@pytest.mark.requirement("T124")
async def test_of_two_keys_with_one_id_the_first_counts(start: Start, key_server: KeyServer) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    second = OKPAlgorithm.to_jwk(other.public_key(), as_dict=True) | {"kid": "EdDSA"}
    malformed = public_jwk("EdDSA", x="AAAA")
    key_server.keys = [malformed, public_jwk("EdDSA"), second, public_jwk("ES256", kid="EdDSA")]
    claims: dict[str, Any] = {"headers": {"kid": "EdDSA"}, "iss": ORIGIN, "aud": ORIGIN}
    async with start() as service:
        assert await ask(service, published_token()) == (200, [])
        token = make_token(USER, key=other, algorithm="EdDSA", **claims)
        assert await ask(service, token) == INVALID
        # Keys of different types may share an id.
        assert await ask(service, published_token("ES256", kid="EdDSA")) == (200, [])


@pytest.mark.requirement("T124")
async def test_an_id_that_is_listed_is_not_looked_for(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
    keys, _ = key_set
    key_server.keys = [public_jwk("EdDSA", x="AAAA"), public_jwk("ES256", use="enc")]

    for name in ("EdDSA", "ES256", "EdDSA"):
        assert await keys.find(name, name) is None
    assert key_server.asked == 1


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
        (200, b'{"keys": 5}'),
        (200, b'{"Keys": []}'),
        (200, b'{"keys": []'),
        (200, b'"keys"'),
        (200, b"[" * 100_000),
        (200, b'\xef\xbb\xbf{"keys": []}'),
        (200, b'{"keys": null}'),
        (200, b"\xff"),
        (200, b'{"keys": []}'.ljust(256 * 1024 + 1)),
    ],
)
async def test_an_answer_that_is_no_list_is_503(
    start: Start, key_server: KeyServer, status: int, body: bytes | None
) -> None:
    key_server.status, key_server.body = status, body
    async with start() as service:
        response = await ask_in_full(service, published_token())
        assert (response.status_code, response.json()) == UNAVAILABLE
        assert response.headers["Retry-After"] == "5"
        assert await ask(service, make_token(USER)) == (200, [])


@pytest.mark.requirement("T026", "T027")
async def test_a_list_of_keys_is_never_unpacked(start: Start, key_server: KeyServer) -> None:
    # Decompressed, a few hundred bytes could fill the memory.
    key_server.body = gzip.compress(json.dumps({"keys": key_server.keys}).encode())
    key_server.headers = "Content-Encoding: gzip\r\n"
    async with start() as service:
        assert await ask(service, published_token()) == UNAVAILABLE


@pytest.mark.requirement("T027")
async def test_an_unreachable_key_server_is_503(start: Start) -> None:
    async with start(jwks_url="http://127.0.0.1:9/") as service:
        assert await ask(service, published_token()) == UNAVAILABLE
        # Refused before the keys are needed.
        assert await ask(service, published_token(sub="")) == INVALID
        assert await ask(service, published_token(kid=None)) == INVALID


@pytest.mark.requirement("T027")
@pytest.mark.parametrize("body", [b'{"keys": []}', b'{"keys": []}'.ljust(256 * 1024), b'{"keys": [5]}'])
async def test_an_empty_list_of_keys_is_a_list(start: Start, key_server: KeyServer, body: bytes) -> None:
    key_server.body = body
    async with start() as service:
        assert await ask(service, published_token()) == INVALID


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
async def test_an_unknown_key_is_searched_once_in_30_seconds(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.keys.append(public_jwk("ES256", kid="rotated"))

    assert await keys.find("rotated", "ES256")
    assert key_server.asked == 2

    for seconds in range(29, 0, -1):
        clock.now += 1
        with pytest.raises(ServiceUnavailable) as unavailable:
            await keys.find("unknown", "EdDSA")
        assert unavailable.value.retry_after == seconds
    assert key_server.asked == 2
    clock.now += 1
    assert await keys.find("unknown", "EdDSA") is None
    assert key_server.asked == 3


@pytest.mark.requirement("T027")
async def test_an_invented_key_id_makes_no_401_of_a_new_key(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    assert await keys.find("invented", "EdDSA") is None
    key_server.keys.append(public_jwk("ES256", kid="rotated"))

    for _ in range(29):
        clock.now += 1
        with pytest.raises(ServiceUnavailable):
            await keys.find("rotated", "ES256")
        with pytest.raises(ServiceUnavailable):
            await keys.find(f"invented {clock.now}", "EdDSA")
        # It was just searched for in vain.
        assert await keys.find("invented", "EdDSA") is None
    clock.now += 1
    assert await keys.find("rotated", "ES256")
    assert key_server.asked == 3


@pytest.mark.requirement("T027")
@pytest.mark.parametrize("old", [False, True])
async def test_an_earlier_answer_makes_no_401_of_a_new_key(
    key_server: KeyServer, key_set: tuple[KeySet, Clock], *, old: bool
) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    if old:
        clock.now += 600
    key_server.is_asked.clear()
    key_server.may_answer.clear()

    stranger = asyncio.create_task(keys.find("EdDSA" if old else "invented", "EdDSA"))
    await key_server.is_asked.wait()  # and its answer is made, and under way
    key_server.keys.append(public_jwk("ES256", kid="rotated"))
    # Two requests, which share the fetch.
    new = [asyncio.create_task(keys.find("rotated", "ES256")) for _ in range(2)]
    await asyncio.sleep(0)
    key_server.may_answer.set()

    assert (await stranger is not None) == old
    if old:
        assert all(await asyncio.gather(*new))
        assert key_server.asked == 3
    else:
        for one in new:
            with pytest.raises(ServiceUnavailable) as unavailable:
                await one
            assert unavailable.value.retry_after == 30
        clock.now += 30
        assert await keys.find("rotated", "ES256")


@pytest.mark.requirement("T026", "T027")
async def test_a_search_that_is_given_up_counts_as_one(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
    keys, _ = key_set
    assert await keys.find("EdDSA", "EdDSA")
    for number in range(3):
        key_server.is_asked.clear()
        search = asyncio.create_task(keys.find(f"invented {number}", "EdDSA"))
        if number == 0:
            key_server.may_answer.clear()
            await key_server.is_asked.wait()
        await asyncio.sleep(0)
        search.cancel()
    key_server.may_answer.set()

    with pytest.raises(ServiceUnavailable):
        await keys.find("invented", "EdDSA")
    assert key_server.asked == 2


@pytest.mark.requirement("T027")
async def test_a_search_that_fails_is_503_until_the_next(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    assert await keys.find("vain", "EdDSA") is None
    key_server.status = 500
    clock.now += 30

    for kid, wait in (("unknown", 30), ("unknown", 29.5), ("vain", 29), ("other", 0.5)):
        clock.now = 60 - wait
        with pytest.raises(ServiceUnavailable) as unavailable:
            await keys.find(kid, "EdDSA")
        assert unavailable.value.retry_after == max(1, round(wait + 0.1))
        assert await keys.find("EdDSA", "EdDSA")
    assert key_server.asked == 3

    key_server.status = 200
    clock.now = 60
    assert await keys.find("unknown", "EdDSA") is None


@pytest.mark.requirement("T027")
async def test_the_503_of_a_search_says_when_the_next_is(start: Start, key_server: KeyServer) -> None:
    async with start() as service:
        assert await ask(service, published_token()) == (200, [])
        key_server.status = 500

        response = await ask_in_full(service, published_token(kid="unknown"))

        assert (response.status_code, response.json()) == UNAVAILABLE
        assert 25 <= int(response.headers["Retry-After"]) <= 30
        assert await ask(service, published_token()) == (200, [])


@pytest.mark.requirement("T027")
async def test_the_number_of_remembered_misses_is_bounded(
    key_server: KeyServer, key_set: tuple[KeySet, Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auth.jwks.REMEMBERED_MISSES", 2)
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    clock.now += 600
    key_server.is_asked.clear()
    key_server.may_answer.clear()

    known = asyncio.create_task(keys.find("EdDSA", "EdDSA"))
    await key_server.is_asked.wait()
    # The fetch that they wait for began before they came, so they share another.
    unknown = [asyncio.create_task(keys.find(str(number), "EdDSA")) for number in range(9)]
    await asyncio.sleep(0)
    key_server.may_answer.set()

    assert await known
    assert not any(await asyncio.gather(*unknown))
    assert key_server.asked == 3
    assert len(keys._missing) == 2


@pytest.mark.requirement("T026", "T027")
async def test_a_withdrawn_key_has_been_looked_for(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.keys = [public_jwk("ES256")]
    clock.now += 30
    assert await keys.find("unknown", "EdDSA") is None

    for name in ("EdDSA", "ES512"):
        assert await keys.find(name, name) is None
    assert key_server.asked == 2


@pytest.mark.requirement("T026")
async def test_a_first_fetch_counts_as_the_search(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
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
async def test_a_remembered_token_stops_with_its_key(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
    keys, clock = key_set
    verifier = TokenVerifier(secret=None, algorithm="HS256", keys=keys, origin=ORIGIN)
    token, other = published_token("EdDSA"), published_token("ES256")
    for _ in range(2):
        assert (await verifier.verify(token)).subject == (await verifier.verify(other)).subject == USER
    assert key_server.asked == 1

    key_server.keys = [public_jwk("ES256"), public_jwk("RS256", kid="EdDSA")]
    clock.now += 600
    with pytest.raises(InvalidToken):
        await verifier.verify(token)
    assert (await verifier.verify(other)).subject == USER
    assert key_server.asked == 2


@pytest.mark.requirement("T026")
async def test_old_keys_serve_while_the_key_server_is_away(
    key_server: KeyServer, key_set: tuple[KeySet, Clock]
) -> None:
    keys, clock = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.status = 500

    for _ in range(30):
        clock.now += 60
        assert await keys.find("EdDSA", "EdDSA")
        with pytest.raises(ServiceUnavailable):
            await keys.find("unknown", "EdDSA")
    # One try in half a minute is enough.
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
    """Lets the list become ten minutes old, and its next fetch fail."""
    assert await keys.find("EdDSA", "EdDSA")
    key_server.status = 500
    clock.now += 600
    assert await keys.find("EdDSA", "EdDSA")


@pytest.mark.requirement("T026")
@pytest.mark.parametrize("later", [30, 59])
async def test_nobody_waits_twice_for_an_absent_key_server(
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
async def test_a_withdrawn_key_stops_after_a_quiet_time(
    key_server: KeyServer, key_set: tuple[KeySet, Clock], later: float
) -> None:
    keys, clock = key_set
    await fetch_and_fail(key_server, keys, clock)
    key_server.status, key_server.keys = 200, []
    clock.now += later

    assert await keys.find("EdDSA", "EdDSA") is None


@pytest.mark.requirement("T026")
async def test_requests_for_one_new_key_share_its_fetch(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
    keys, _ = key_set
    assert await keys.find("EdDSA", "EdDSA")
    key_server.keys.append(public_jwk("ES256", kid="rotated"))
    key_server.is_asked.clear()
    key_server.may_answer.clear()

    first = asyncio.create_task(keys.find("rotated", "ES256"))
    await key_server.is_asked.wait()
    second = asyncio.create_task(keys.find("rotated", "ES256"))
    assert await keys.find("EdDSA", "EdDSA")  # known, so there is nothing to wait for
    key_server.may_answer.set()

    assert await first
    assert await second
    assert key_server.asked == 2


@pytest.mark.requirement("T026", "T027")
async def test_a_key_server_is_retried_within_a_second(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
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
async def test_many_requests_share_one_fetch(key_server: KeyServer, key_set: tuple[KeySet, Clock]) -> None:
    keys, _ = key_set

    found = await asyncio.gather(*(keys.find("EdDSA", "EdDSA") for _ in range(20)))

    assert all(found)
    assert key_server.asked == 1


@pytest.mark.requirement("T026", "T027")
async def test_a_fetch_times_out_and_blocks_no_other_request(
    start: Start, key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auth.key_client.FETCH_TIMEOUT_SECONDS", 2)
    key_server.may_answer.clear()
    async with start() as service:
        waiting = asyncio.create_task(ask(service, published_token()))
        await key_server.is_asked.wait()

        assert await ask(service, make_token(USER)) == (200, [])
        assert not waiting.done()
        assert await waiting == UNAVAILABLE


@pytest.mark.requirement("T026")
async def test_a_cancelled_request_leaves_the_fetch_running(
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
