# [Task]: T022, T023, T024, T028 [From]: specs/features/authentication.md
"""Tokens, good and bad, against the whole service."""

import json
import time
from typing import Any

import jwt
import pytest

from tests.databases import MakeDatabase
from tests.service import Service, make_settings, make_token, running, sign_raw

USER = "token-bearer"
FUTURE = int(time.time()) + 3600
INVALID = (401, {"detail": "Invalid token"})


def claims(**changes: Any) -> str:
    return json.dumps({"sub": USER, "exp": FUTURE} | changes)


HEADER = json.dumps({"alg": "HS256", "typ": "JWT"})
GOOD = sign_raw(HEADER, claims())


async def ask(service: Service, *authorization: str | bytes) -> tuple[int, Any]:
    headers = [("Authorization", value) for value in authorization]
    response = await service.client.get(f"/api/{USER}/tasks", headers=headers)  # type: ignore[arg-type] # str or bytes
    return response.status_code, response.json()


@pytest.mark.requirement("T022", "T023", "T024")
@pytest.mark.parametrize(
    "token",
    [
        GOOD,
        sign_raw('{"alg": "HS256"}', claims()),
        sign_raw(' {"alg":\n"HS256"} ', claims()),
        sign_raw('{"alg": "HS256", "typ": "jwt"}', claims()),
        sign_raw('{"alg": "HS256", "typ": "Jwt", "kid": "any", "cty": "x"}', claims()),
        sign_raw('{"alg": "HS256", "jku": "http://127.0.0.1:9/", "x5u": "x", "jwk": {}}', claims()),
        sign_raw(HEADER, claims(iss="https://any.example", aud="https://any.example")),
        sign_raw(HEADER, claims(aud=["one", "two"])),
        sign_raw(HEADER, claims(aud=5, iss=[], jti=5)),
        sign_raw(HEADER, claims(exp=FUTURE + 0.5)),
        sign_raw(HEADER, claims(exp=10**300)),
        sign_raw(HEADER, claims(name="ünïcode", nested={"a": [1, {"b": None}]})),
    ],
)
async def test_a_good_token(service: Service, token: str) -> None:
    assert await ask(service, f"Bearer {token}") == (200, [])


@pytest.mark.requirement("T023")
@pytest.mark.parametrize(("skew", "status"), [(8, 200), (12, 401)])
async def test_a_clock_may_be_ten_seconds_off(service: Service, skew: int, status: int) -> None:
    now = time.time()
    for change in ({"exp": now - skew}, {"nbf": now + skew}, {"iat": now + skew}):
        token = sign_raw(HEADER, claims(**change))
        assert (await ask(service, f"Bearer {token}"))[0] == status


@pytest.mark.requirement("T022")
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
async def test_the_scheme_in_every_case(service: Service, scheme: str) -> None:
    assert await ask(service, f"{scheme} {GOOD}") == (200, [])


header, payload, signature = GOOD.split(".")


@pytest.mark.requirement("T022")
@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer x",
        "Bearer ..",
        "Bearer a.b.c",
        f"Bearer  {GOOD}",
        f"Bearer {GOOD} x",
        f"Bearer {GOOD},",
        f"Bearer {GOOD}, Bearer {GOOD}",
        f'Bearer "{GOOD}"',
        f"Bearer {header}.{payload}",
        f"Bearer {header}.{payload}.",
        f"Bearer .{payload}.{signature}",
        f"Bearer {header}..{signature}",
        f"Bearer {GOOD}.",
        f"Bearer {GOOD}.{signature}",
        f"Bearer {GOOD}=",
        f"Bearer {header}=.{payload}.{signature}",
        f"Bearer {header}.{payload} .{signature}",
        f"Bearer {header}.\t{payload}.{signature}",
        f"Bearer {header}.{payload}.{signature[:-1]}",
        f"Bearer {header}.{payload}.{signature[:-1]}{chr(ord(signature[-1]) + 1)}",
        f"Bearer {header}.{payload}.é".encode(),
        f"Bearer {header}.{payload}.{signature[:5]}+{signature[6:]}",
        f"Bearer {header}.{payload}.{signature[:5]}/{signature[6:]}",
        f"Bearer {payload}.{header}.{signature}",
        f"Bearer {'a' * 8193}",
        f"Bearer {sign_raw(HEADER, claims(pad='x' * 8192))}",
        "Bearer " + "a" * 100_000,
    ],
)
async def test_a_malformed_header(service: Service, authorization: str | bytes) -> None:
    assert await ask(service, authorization) == INVALID


@pytest.mark.requirement("T022")
async def test_the_longest_token_that_is_read(service: Service) -> None:
    for pad in range(4):
        token = sign_raw(HEADER, claims(pad="x" * (6000 + pad)))
        longer = sign_raw(HEADER, claims(pad="x" * (6000 + pad + (8192 - len(token)) * 3 // 4)))
        assert 8188 <= len(longer) <= 8192
        assert await ask(service, f"Bearer {longer}") == (200, [])


@pytest.mark.requirement("T022")
@pytest.mark.parametrize("second", [f"Bearer {GOOD}", "Basic x", ""])
async def test_there_is_one_authorization_header(service: Service, second: str) -> None:
    assert await ask(service, f"Bearer {GOOD}", second) == INVALID
    assert await ask(service, second, f"Bearer {GOOD}") == INVALID


@pytest.mark.requirement("T022")
@pytest.mark.parametrize(
    "header",
    [
        "{}",
        "[]",
        "null",
        '"HS256"',
        "{",
        "",
        '{"alg": "HS256", "alg": "HS256"}',
        '{"alg": "none", "alg": "HS256"}',
        '{"alg": "none"}',
        '{"alg": "None"}',
        '{"alg": ""}',
        '{"alg": null}',
        '{"alg": 256}',
        '{"alg": ["HS256"]}',
        '{"alg": "hs256"}',
        '{"alg": "HS384"}',
        '{"alg": "HS512"}',
        '{"alg": "RS256"}',
        '{"alg": "EdDSA", "kid": "x"}',
        '{"alg": "HS256", "crit": ["exp"], "exp": 1}',
        '{"alg": "HS256", "crit": []}',
        '{"alg": "HS256", "crit": null}',
        '{"alg": "HS256", "b64": false}',
        '{"alg": "HS256", "b64": false, "crit": ["b64"]}',
        '{"alg": "HS256", "typ": "at+jwt"}',
        '{"alg": "HS256", "typ": "JWE"}',
        '{"alg": "HS256", "typ": ""}',
        '{"alg": "HS256", "typ": null}',
        '{"alg": "HS256", "typ": ["JWT"]}',
        '{"alg": "HS256", "kid": 5}',
        '{"alg": "HS256", "kid": null}',
        '{"alg": "HS256", "kid": ["x"]}',
        '{"alg": "HS256", "kid": {}}',
        '{"alg": "HS256", "x": NaN}',
        b'{"alg": "HS256", "x": "\xff"}',
        b'\xef\xbb\xbf{"alg": "HS256"}',
        '{"alg": "HS256"}'.encode("utf-16"),
        '{"alg": "HS256", "x": ' + "9" * 5000 + "}",
        '{"alg": "HS256", "x": ' + "[" * 201 + "]" * 201 + "}",
    ],
    ids=lambda header: repr(header[:60]),
)
async def test_a_bad_token_header(service: Service, header: str | bytes) -> None:
    assert await ask(service, f"Bearer {sign_raw(header, claims())}") == INVALID


@pytest.mark.requirement("T023")
@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "null",
        "",
        "{",
        json.dumps({"sub": USER}),
        json.dumps({"exp": FUTURE}),
        claims(exp=None),
        claims(exp=True),
        claims(exp=str(FUTURE)),
        claims(exp=[FUTURE]),
        claims(exp={}),
        claims(exp=""),
        f'{{"sub": "{USER}", "exp": 1e999}}',
        f'{{"sub": "{USER}", "exp": Infinity}}',
        f'{{"sub": "{USER}", "exp": NaN}}',
        f'{{"sub": "{USER}", "exp": {"9" * 5000}}}',
        f'{{"sub": "{USER}", "exp": 1, "exp": {FUTURE}}}',
        f'{{"sub": "mallory", "sub": "{USER}", "exp": {FUTURE}}}',
        f'{{"sub": "{USER}", "exp": {FUTURE}, "x": {{"y": 1, "y": 2}}}}',
        claims(sub=None),
        claims(sub=""),
        claims(sub=5),
        claims(sub=True),
        claims(sub=[USER]),
        claims(sub={"id": USER}),
        claims(sub="x" * 256),
        claims(sub="nul\0"),
        claims(sub="\ud800"),
        claims(nbf=FUTURE),
        claims(nbf="0"),
        claims(nbf=None),
        claims(nbf=False),
        claims(iat=FUTURE),
        claims(iat="0"),
        claims(iat=None),
        claims(iat=[]),
        claims(aud="better-auth:session-cache"),
        claims(aud=["better-auth:session-cache"]),
        claims(aud=["https://app.example", "better-auth:session-cache"]),
        claims() + "x",
        b'{"sub": "' + USER.encode() + b'", "exp": %d, "x": "\xff"}' % FUTURE,
        f'{{"sub": "{USER}", "exp": {FUTURE}, "x": {"[" * 201}{"]" * 201}}}',
    ],
    ids=lambda content: repr(content[:60]),
)
async def test_bad_claims(service: Service, content: str | bytes) -> None:
    assert await ask(service, f"Bearer {sign_raw(HEADER, content)}") == INVALID


@pytest.mark.requirement("T023", "T028")
async def test_an_expired_token_says_so_only_when_it_was_good(service: Service) -> None:
    past = time.time() - 11
    expired = sign_raw(HEADER, claims(exp=past))
    forged = expired[:-4] + "AAAA"

    assert await ask(service, f"Bearer {expired}") == (401, {"detail": "Token has expired"})
    assert await ask(service, f"Bearer {forged}") == INVALID
    assert await ask(service, f"Bearer {sign_raw(HEADER, claims(exp=past, sub=''))}") == INVALID


@pytest.mark.requirement("T022")
async def test_a_session_token_is_no_api_token(service: Service) -> None:
    for token in ("a" * 32, "a" * 32 + "." + "b" * 43, "a" * 32 + "." + "b" * 43 + "%3D"):
        assert await ask(service, f"Bearer {token}") == INVALID


@pytest.mark.requirement("T024")
@pytest.mark.parametrize("configured", ["HS256", "HS384", "HS512"])
async def test_only_the_configured_algorithm_is_served(
    make_database: MakeDatabase, configured: str
) -> None:
    settings = make_settings(database_url=await make_database("sqlite"), jwt_algorithm=configured)
    async with running(settings) as service:
        for algorithm in ("HS256", "HS384", "HS512"):
            token = make_token(USER, algorithm=algorithm)
            status, _ = await ask(service, f"Bearer {token}")
            assert status == (200 if algorithm == configured else 401)


@pytest.mark.requirement("T024")
async def test_issuer_and_audience_are_checked_when_set(
    make_database: MakeDatabase,
) -> None:
    settings = make_settings(
        database_url=await make_database("sqlite"), jwt_issuer="me", jwt_audience="you"
    )
    async with running(settings) as service:
        for good in ({"aud": "you"}, {"aud": ["she", "you"]}):
            assert await ask(service, f"Bearer {make_token(USER, iss='me', **good)}") == (200, [])
        for bad in (
            {},
            {"iss": "me"},
            {"aud": "you"},
            {"iss": "you", "aud": "me"},
            {"iss": "me", "aud": "other"},
            {"iss": "me", "aud": []},
            {"iss": "me", "aud": 5},
            {"iss": "me", "aud": [5, "you"]},
            {"iss": "me", "aud": {"you": 1}},
            {"iss": ["me"], "aud": "you"},
            {"iss": 5, "aud": "you"},
            {"iss": "me ", "aud": "you"},
        ):
            token = sign_raw(HEADER, claims(**bad))
            assert await ask(service, f"Bearer {token}") == INVALID, bad


@pytest.mark.requirement("T024")
async def test_the_secret_is_used_as_its_utf_8_bytes(make_database: MakeDatabase) -> None:
    secret = "schlüssel-" * 5
    settings = make_settings(database_url=await make_database("sqlite"), better_auth_secret=secret)
    async with running(settings) as service:
        token = jwt.encode({"sub": USER, "exp": FUTURE}, secret.encode(), "HS256")
        assert await ask(service, f"Bearer {token}") == (200, [])
