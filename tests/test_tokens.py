# [Task]: T022, T023, T024 [From]: specs/features/authentication.md
"""Good tokens against the whole service, and what the settings make of them. Bad ones are in
`corpus.py`.
"""

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


async def ask(service: Service, authorization: str) -> tuple[int, Any]:
    headers = {"Authorization": authorization}
    response = await service.client.get(f"/api/{USER}/tasks", headers=headers)
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
@pytest.mark.parametrize(
    ("name", "off", "status"),
    [
        *[("exp", -8, 200), ("exp", -10, 401)],
        *[("nbf", 10, 200), ("nbf", 13, 401)],
        *[("iat", 10, 200), ("iat", 13, 401)],
    ],
)
async def test_a_clock_may_be_ten_seconds_off(
    service: Service, name: str, off: int, status: int
) -> None:
    token = sign_raw(HEADER, claims(**{name: int(time.time()) + off}))

    assert (await ask(service, f"Bearer {token}"))[0] == status


@pytest.mark.requirement("T022")
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
async def test_the_scheme_in_every_case(service: Service, scheme: str) -> None:
    assert await ask(service, f"{scheme} {GOOD}") == (200, [])


@pytest.mark.requirement("T022")
async def test_the_longest_token_that_is_read(service: Service) -> None:
    for pad in range(4):
        token = sign_raw(HEADER, claims(pad="x" * (6000 + pad)))
        longer = sign_raw(HEADER, claims(pad="x" * (6000 + pad + (8192 - len(token)) * 3 // 4)))
        too_long = sign_raw(HEADER, claims(pad="x" * (6004 + pad + (8192 - len(token)) * 3 // 4)))
        assert 8188 <= len(longer) <= 8192 < len(too_long) <= 8200
        assert await ask(service, f"Bearer {longer}") == (200, [])
        assert await ask(service, f"Bearer {too_long}") == INVALID


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
