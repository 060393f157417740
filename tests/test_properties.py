"""Any token, body or list of keys that Hypothesis generates is accepted or refused, never an error."""
# [Task]: T022, T023, T063, T124 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md

import asyncio
import json
import time
from typing import Any

import pytest
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from auth.jwks import read_keys
from auth.key_client import NoKeyList
from auth.tokens import InvalidToken, TokenVerifier, encode_segment
from errors import answer_invalid_request
from routes.task_route import parse_json
from tests.corpus import FUTURE
from tests.keys import public_jwk
from tests.leaks import SECRET
from tests.search import EXAMPLES, SEARCH, SEED
from tests.service import sign_raw

# These tests are cheap.
LONG_SEARCH = settings(SEARCH, max_examples=20 * EXAMPLES)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text()
    | st.sampled_from([10**400, -(10**400), 2**63, "x" * 300, "\ud800", "\0"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)
NOW = int(time.time())


def some_of(names: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


HEADERS = some_of(
    ["alg", "typ", "kid", "crit", "b64", "cty", "jku", "zip"], JSON | st.sampled_from(["HS256", "JWT", "x"])
)
CLAIMS = some_of(
    ["sub", "exp", "nbf", "iat", "iss", "aud", "jti"], JSON | st.sampled_from(["somebody", "me", "you", NOW, FUTURE])
)
GOOD_HEADER = {"alg": "HS256", "typ": "JWT"}
GOOD_CLAIMS = {"sub": "somebody", "exp": FUTURE, "iss": "me", "aud": "you"}


@pytest.mark.requirement("T022", "T023")
@pytest.mark.parametrize("expected", [{}, {"issuer": "me", "audience": "you"}])
@seed(SEED)
@LONG_SEARCH
@given(
    headers=HEADERS | HEADERS.map(lambda more: more | GOOD_HEADER),
    claims=CLAIMS.map(lambda more: GOOD_CLAIMS | more) | JSON,
)
def test_any_signed_token_is_accepted_or_invalid(
    expected: dict[str, str], headers: dict[str, Any], claims: Any
) -> None:
    verifier = TokenVerifier(secret=SECRET, algorithm="HS256", keys=None, origin=None, **expected)
    token = sign_raw(json.dumps(headers), json.dumps(claims))

    try:
        subject = asyncio.run(verifier.verify(token))
    except InvalidToken:
        assert (headers, claims) != (GOOD_HEADER, GOOD_CLAIMS)
    else:
        assert subject == claims["sub"] != ""
        assert headers["alg"] == "HS256"
        assert "crit" not in headers
        assert claims["exp"] > NOW - 20
        if expected:
            assert (claims["iss"], claims["aud"]) == ("me", "you")


@pytest.mark.requirement("T063")
@seed(SEED)
@LONG_SEARCH
@given(
    body=st.binary(max_size=60)
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | JSON.map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    try:
        content = parse_json(body)
    except RequestValidationError as error:
        # The answer can be serialised, whatever was sent.
        answer_invalid_request(Request({"type": "http"}), error)
    else:
        assert json.dumps(content).encode()


ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "kid": JSON | st.just("x"),
        "kty": JSON | st.sampled_from(["OKP", "EC", "RSA", "oct"]),
        "crv": JSON | st.sampled_from(["Ed25519", "P-256", "P-521"]),
        "alg": JSON | st.sampled_from(["EdDSA", "ES256", "RS256"]),
        "use": JSON | st.just("sig"),
        **dict.fromkeys(("x", "y", "n", "e"), JSON | st.binary(max_size=300).map(encode_segment)),
    },
)


@pytest.mark.requirement("T124")
@seed(SEED)
@LONG_SEARCH
@given(st.lists(ENTRIES | JSON))
def test_no_entry_of_a_list_hides_a_good_key(entries: list[Any]) -> None:
    good = public_jwk("ES256", kid="good")

    assert read_keys(json.dumps({"keys": [*entries, good]}).encode())["good"]["ES256"]


@pytest.mark.requirement("T124")
@seed(SEED)
@LONG_SEARCH
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_but_a_list_of_keys_are_refused(content: bytes) -> None:
    with pytest.raises(NoKeyList):
        read_keys(content)
