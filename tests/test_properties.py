"""Any token, body, list of keys, tag or cursor that Hypothesis generates is accepted or refused, never an error."""
# [Task]: T022, T023, T063, T124, T132, T137 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md, specs/features/task-crud.md

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args
from urllib.parse import parse_qs

import pytest
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from auth.jwks import read_keys
from auth.key_client import NoKeyList
from auth.tokens import InvalidToken, TokenVerifier, encode_segment
from errors import answer_invalid_request
from routes.conditional import read_if_match, read_tags, tag_of
from routes.paging import next_link, read_cursor
from routes.task_route import parse_json
from schemas import BIGGEST_INTEGER, ListQuery, Order, Sort
from tests.corpus import FUTURE, cursor_of
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
        subject = asyncio.run(verifier.verify(token)).subject
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


def request_with(*headers: tuple[str, str], query: str = "") -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "path": "/api/tasks", "query_string": query.encode(), "headers": raw})


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))) | st.just(UTC)
TIMES = st.datetimes(timezones=st.none() | ZONES).map(datetime.isoformat) | st.datetimes().map(
    lambda moment: f"{moment.isoformat()}Z"
)
LATIN_1 = st.characters(codec="latin-1")
TAGS = st.text(LATIN_1, max_size=9) | (TIMES | st.text(LATIN_1, max_size=3)).map(lambda text: f'"{text}"')
TAG_LISTS = st.lists(TAGS | TAGS.map(lambda tag: f"W/{tag}"), max_size=18).map(", ".join)


@pytest.mark.requirement("T137")
@seed(SEED)
@LONG_SEARCH
@given(st.lists(TAG_LISTS, min_size=1, max_size=2))
def test_any_tags_are_times_that_can_be_compared_or_refused(lines: list[str]) -> None:
    request = request_with(*(("if-match", line) for line in lines))

    try:
        times = read_if_match(request)
    except RequestValidationError:
        assert not 1 <= len(read_tags(request, "if-match")) <= 16
    else:
        text = ",".join(lines)
        assert (times is None) == (text.strip(" \t") == "*")
        assert all(moment.utcoffset() == timedelta(0) and tag_of(moment) in text for moment in times or ())


PLACES = st.tuples(
    st.sampled_from(get_args(Sort)) | JSON,
    st.sampled_from(get_args(Order)) | JSON,
    TIMES | JSON | st.integers(1, 3),
    st.integers(1, 3) | JSON,
).map(list)


def can_be_written(place: Any) -> bool:
    try:
        return bool(cursor_of(place))
    except UnicodeEncodeError:
        return False


@pytest.mark.requirement("T132")
@pytest.mark.parametrize("sort", get_args(Sort))
@seed(SEED)
@LONG_SEARCH
@given(st.text() | (PLACES | JSON).filter(can_be_written).map(cursor_of))
def test_any_cursor_is_a_place_that_can_be_compared_or_refused(sort: Sort, cursor: str) -> None:
    query = ListQuery.model_validate({"sort": sort, "cursor": cursor})

    try:
        place = read_cursor(query)
    except RequestValidationError:
        return

    assert type(place["after_id"]) is int
    assert 1 <= place["after_id"] <= BIGGEST_INTEGER
    key = place["after_key"]
    if sort == "updated":
        assert key.utcoffset() == timedelta(0)
    elif sort == "title":
        assert "\0" not in key
        assert key.encode()


ROWS = {
    "created": st.integers(1, BIGGEST_INTEGER),
    "updated": st.datetimes(timezones=st.just(UTC)),
    "title": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=200).map(
        str.lower
    ),
}


@pytest.mark.requirement("T132")
@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("sort", get_args(Sort))
@seed(SEED)
@LONG_SEARCH
@given(data=st.data(), task_id=st.integers(1, BIGGEST_INTEGER))
def test_the_next_page_begins_behind_any_task(sort: Sort, order: Order, data: st.DataObject, task_id: int) -> None:
    key = task_id if sort == "created" else data.draw(ROWS[sort])
    query = ListQuery(sort=sort, order=order)

    link = next_link(request_with(query="offset=3&search=%26"), query, {"sort_key": key, "id": task_id})

    parameters = parse_qs(link.partition("?")[2].partition(">")[0], strict_parsing=True)
    assert parameters.keys() == {"search", "cursor"}
    following = ListQuery.model_validate({"sort": sort, "order": order, "cursor": parameters["cursor"][0]})
    assert read_cursor(following) == {"after_id": task_id, "after_key": key}
