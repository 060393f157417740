"""Valid tokens against the whole service, and the settings that decide on them. Invalid ones are in
`corpus.py`.
"""
# [Task]: T022, T023, T024, T082, T125 [From]: specs/features/authentication.md

import json
import time
from datetime import datetime, tzinfo
from typing import Any

import jwt
import pytest

from auth import tokens
from auth.tokens import ExpiredToken, InvalidToken, TokenVerifier
from tests.corpus import FUTURE, GOOD, HEADER, MALLORY, claims
from tests.leaks import SECRET
from tests.service import Service, StartService, make_token, sign_raw

USER = MALLORY
NOW = 1_800_000_000
INVALID = (401, {"detail": "Invalid token"})


def verifier_of_secrets() -> TokenVerifier:
    return TokenVerifier(secret=SECRET, algorithm="HS256", keys=None, origin=None)


def stop_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Stops the clock of the verifier and of PyJWT."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls.fromtimestamp(now, tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Clock)
    monkeypatch.setattr(time, "time", lambda: now)


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
async def test_a_valid_token_is_accepted(plain_service: Service, token: str) -> None:
    assert await ask(plain_service, f"Bearer {token}") == (200, [])


@pytest.mark.requirement("T023")
@pytest.mark.parametrize(
    ("name", "off", "is_good"),
    [
        *[("exp", -9, True), ("exp", -10, False)],
        *[("nbf", 10, True), ("nbf", 11, False)],
        *[("iat", 10, True), ("iat", 11, False)],
    ],
)
async def test_a_clock_may_be_ten_seconds_off(
    monkeypatch: pytest.MonkeyPatch, name: str, off: int, *, is_good: bool
) -> None:
    stop_clock(monkeypatch, NOW)
    verifier = verifier_of_secrets()
    verified = verifier.verify(sign_raw(HEADER, claims(**{name: NOW + off})))

    if is_good:
        assert (await verified).subject == USER
    else:
        with pytest.raises(InvalidToken):
            await verified


@pytest.mark.requirement("T022")
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
async def test_the_scheme_ignores_case(plain_service: Service, scheme: str) -> None:
    assert await ask(plain_service, f"{scheme} {GOOD}") == (200, [])


@pytest.mark.requirement("T022")
@pytest.mark.parametrize("form", ["{} ", "{}\t", "{} \t \t", " {}", "\t{}\t"])
async def test_white_space_around_the_value_is_ignored(plain_service: Service, form: str) -> None:
    assert await ask(plain_service, form.format(f"Bearer {GOOD}")) == (200, [])


@pytest.mark.requirement("T022")
@pytest.mark.parametrize("end", ["\v", "\f", "\x1f", "\x85", "\xa0", " \x85 ", "%20", "\\t"])
async def test_nothing_else_is_white_space(plain_service: Service, end: str) -> None:
    headers = {b"Authorization": f"Bearer {GOOD}{end}".encode("latin-1")}

    response = await plain_service.client.get(f"/api/{USER}/tasks", headers=headers)

    assert (response.status_code, response.json()) == INVALID


@pytest.mark.requirement("T022")
async def test_a_token_that_is_too_long_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_: object) -> None:
        pytest.fail("it was looked at")

    monkeypatch.setattr(tokens, "sha256", look)
    monkeypatch.setattr(tokens, "parse_token", look)

    for character in ("a", ".", "=", "\xff"):
        with pytest.raises(InvalidToken, match="longer than 8 KiB"):
            await verifier_of_secrets().verify(character * 2**20)


@pytest.mark.requirement("T022")
async def test_a_token_has_at_most_8_kib(plain_service: Service) -> None:
    for pad in range(4):
        token = sign_raw(HEADER, claims(pad="x" * (6000 + pad)))
        longer = sign_raw(HEADER, claims(pad="x" * (6000 + pad + (8192 - len(token)) * 3 // 4)))
        too_long = sign_raw(HEADER, claims(pad="x" * (6004 + pad + (8192 - len(token)) * 3 // 4)))
        assert 8188 <= len(longer) <= 8192 < len(too_long) <= 8200
        assert await ask(plain_service, f"Bearer {longer}") == (200, [])
        assert await ask(plain_service, f"Bearer {too_long}") == INVALID


@pytest.mark.requirement("T024")
@pytest.mark.parametrize("configured", ["HS256", "HS384", "HS512"])
async def test_only_the_configured_algorithm_is_served(start: StartService, configured: str) -> None:
    service = await start(jwt_algorithm=configured)
    for algorithm in ("HS256", "HS384", "HS512"):
        token = make_token(USER, algorithm=algorithm)
        status, _ = await ask(service, f"Bearer {token}")
        assert status == (200 if algorithm == configured else 401)


@pytest.mark.requirement("T024")
async def test_issuer_and_audience_are_checked_when_set(start: StartService) -> None:
    service = await start(jwt_issuer="me", jwt_audience="you")
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
async def test_the_secret_is_used_as_its_utf_8_bytes(start: StartService) -> None:
    secret = "schlüssel-" * 5
    service = await start(better_auth_secret=secret)
    token = jwt.encode({"sub": USER, "exp": FUTURE}, secret.encode(), "HS256")
    assert await ask(service, f"Bearer {token}") == (200, [])


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The different reasons that the log gives for refused tokens."""
    prefix = "Not authenticated: "
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return list(dict.fromkeys(line.removeprefix(prefix) for line in lines if prefix in line))


@pytest.mark.requirement("T125")
@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        ({"jwt_issuer": "me"}, {"iss": "hers"}, "its iss isn't 'me', JWT_ISSUER"),
        ({"jwt_issuer": "me"}, {"iss": ["hers"]}, "its iss isn't 'me', JWT_ISSUER"),
        ({"jwt_issuer": "me"}, {}, "its iss isn't 'me', JWT_ISSUER"),
        ({"jwt_audience": "you"}, {"aud": "hers"}, "its aud isn't 'you', JWT_AUDIENCE"),
        ({"jwt_audience": "you"}, {"aud": [["hers"]]}, "its aud isn't 'you', JWT_AUDIENCE"),
        ({"jwt_audience": "you"}, {}, "its aud isn't 'you', JWT_AUDIENCE"),
        ({"jwt_issuer": "a\nb"}, {"iss": "hers"}, "its iss isn't 'a\\nb', JWT_ISSUER"),
    ],
)
async def test_the_log_names_the_expected_issuer_or_audience(
    start: StartService,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, str],
    changes: dict[str, Any],
    reason: str,
) -> None:
    service = await start(**settings)
    token = sign_raw(HEADER, claims(**changes))
    assert await ask(service, f"Bearer {token}") == INVALID

    # Without a valid signature, not even the log has a reason.
    assert await ask(service, f"Bearer {token[:-4]}AAAA") == INVALID

    assert refusals(caplog) == [reason, "InvalidSignatureError"]
    assert "hers" not in caplog.text


@pytest.mark.requirement("T125")
@pytest.mark.parametrize(
    ("settings", "algorithm", "reason"),
    [
        *[
            ({}, name, "signed with a key of Better Auth's, and BETTER_AUTH_URL isn't set")
            for name in ("EdDSA", "ES256", "ES512", "RS256", "PS256")
        ],
        ({}, "HS384", "signed with a shared secret by HS384, and JWT_ALGORITHM is another"),
        ({"jwt_algorithm": "HS512"}, "HS256", "signed with a shared secret by HS256, and JWT_ALGORITHM is another"),
        (
            {"better_auth_secret": None, "better_auth_url": "https://app.example"},
            "HS256",
            "signed with a shared secret, and BETTER_AUTH_SECRET isn't set",
        ),
        *[({}, name, "an algorithm that isn't served") for name in ("hers", "none", "hers\n" * 99)],
        ({"better_auth_url": "https://app.example"}, "EdDSA", "no key id"),
    ],
)
async def test_the_log_says_which_setting_an_algorithm_needs(
    start: StartService, caplog: pytest.LogCaptureFixture, settings: dict[str, str], algorithm: str, reason: str
) -> None:
    service = await start(**settings)
    token = sign_raw(json.dumps({"alg": algorithm}), claims())
    assert await ask(service, f"Bearer {token}") == INVALID

    assert refusals(caplog) == [reason]
    assert "hers" not in caplog.text


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature was verified."""
    seen: list[str] = []
    decode = jwt.decode

    def note(token: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(token)
        return decode(token, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", note)
    return seen


@pytest.mark.requirement("T082")
async def test_only_a_valid_token_is_remembered(decoded: list[str]) -> None:
    verifier = verifier_of_secrets()
    bad = GOOD[:-4] + "AAAA"

    for _ in range(3):
        assert (await verifier.verify(GOOD)).subject == USER
        with pytest.raises(InvalidToken):
            await verifier.verify(bad)

    assert decoded == [GOOD, bad, bad, bad]
    assert GOOD not in str(vars(verifier))


@pytest.mark.requirement("T082")
async def test_a_remembered_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = verifier_of_secrets()
    soon = int(time.time()) + 1000
    token = make_token(USER, exp=soon)
    assert (await verifier.verify(token)).subject == USER

    stop_clock(monkeypatch, soon + 9.9)
    assert (await verifier.verify(token)).subject == USER
    stop_clock(monkeypatch, soon + 10.0)
    with pytest.raises(ExpiredToken):
        await verifier.verify(token)


@pytest.mark.requirement("T082")
async def test_the_number_of_remembered_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch, decoded: list[str]) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED_TOKENS", 2)
    verifier = verifier_of_secrets()
    one, two, three = (make_token(USER, jti=str(number)) for number in range(3))

    for token in (one, two, three, three, two, one):
        assert (await verifier.verify(token)).subject == USER

    assert decoded == [one, two, three, one]
    assert len(verifier._remembered) == 2


@pytest.mark.requirement("T081")
def test_a_verifier_does_not_show_its_secret() -> None:
    verifier = verifier_of_secrets()

    assert SECRET not in repr(verifier)
    assert SECRET not in map(str, vars(verifier).values())
