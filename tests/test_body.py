# [Task]: T008, T009, T010, T063, T064, T065 [From]: specs/features/task-crud.md, specs/api/rest-endpoints.md
"""Bodies: what is taken, and what is refused with which answer."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from middleware.body import MAX_BODY_BYTES
from tests.service import User

JSON = {"Content-Type": "application/json"}


@pytest.mark.requirement("T008")
@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("  trimmed \n", "trimmed"),
        ("x", "x"),
        ("é" * 200, "é" * 200),
        (" " * 300 + "😀" * 200 + "\u3000" * 300, "😀" * 200),
        ("<b>&amp; 'quoted' \\ %s", "<b>&amp; 'quoted' \\ %s"),
        ("two\nlines\ttab", "two\nlines\ttab"),
    ],
)
async def test_a_title_is_trimmed_and_stored_as_sent(alice: User, sent: str, stored: str) -> None:
    task = await alice.new_task(sent)

    assert task["title"] == stored
    assert (await alice.put(task["id"], {"title": sent})).json()["title"] == stored


@pytest.mark.requirement("T009")
@pytest.mark.parametrize(
    "text", ["", "  kept as sent  ", "é" * 1000, "😀" * 1000, "9" * 1000, '\\"' + "9" * 998]
)
async def test_a_description_is_stored_as_sent(alice: User, text: str) -> None:
    assert (await alice.new_task(description=text))["description"] == text


@pytest.mark.requirement("T008", "T009", "T010", "T063")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", " \t\n\u3000\x1c"),
        ("title", "x" * 201),
        ("title", None),
        ("title", 5),
        ("title", ["x"]),
        ("title", {"x": "y"}),
        ("title", True),
        ("title", "nul\0"),
        ("description", "x" * 1001),
        ("description", 5),
        ("description", "nul\0"),
    ],
)
async def test_a_wrong_value_is_refused_on_both_ways(alice: User, field: str, value: Any) -> None:
    task = await alice.new_task()
    content = {"title": "fine"} | {field: value}

    responses = [await alice.post(content), await alice.put(task["id"], content)]

    for response in responses:
        assert response.status_code == 422
        (fault,) = response.json()["detail"]
        assert list(fault) == ["loc", "msg", "type"]
        assert fault["loc"] in (["body", field], ["body"])
    assert (await alice.get()).json() == [task]


@pytest.mark.requirement("T010")
@pytest.mark.parametrize("value", [0, 1, "true", "false", 1.0, [], None])
async def test_completed_is_a_boolean_and_nothing_else(alice: User, value: Any) -> None:
    task = await alice.new_task()

    assert (await alice.put(task["id"], {"completed": value})).status_code == 422


@pytest.mark.requirement("T063")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"title": "x"',
        b'{"title": "x"} trailing',
        b"title=x",
        b"null",
        b"[]",
        b'"title"',
        b"5",
        b"\xff\xfe",
        b'{"title": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"title": "x"}'.encode("utf-16"),
        b'{"title": "\\ud800"}',
        b'{"title": "x", "\\ud800": 1}',
        b'{"title": "x", "other": "\\udfff"}',
        b'{"title": "x", "other": ["\\u0000"]}',
        b'{"title": "x", "\\u0000": 1}',
        b'{"title": NaN}',
        b'{"title": "x", "other": NaN}',
        b'{"title": "x", "other": -Infinity}',
        b'{"title": "x", "other": 1e999}',
        b'{"title": "x", "other": {"deep": [-1e999]}}',
        b'{"title": ' + b"9" * 5000 + b"}",
        b'{"title": "x", "other": ' + b"9" * 5000 + b"}",
        b'{"title": "x", "other": ' + b"9" * 1000 + b"}",
        b'{"title": "x", "other": [0.' + b"1" * 1000 + b"]}",
        b'{"title": "x", "other": 1e-' + b"9" * 1000 + b"}",
        b"[" * 20_000,
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        b'{"title": "x", "other": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_a_body_that_is_no_sound_json_is_refused(alice: User, body: bytes) -> None:
    task = await alice.new_task()

    responses = [
        await alice.request("POST", content=body, headers=JSON),
        await alice.request("PUT", f"/{task['id']}", content=body, headers=JSON),
    ]

    for response in responses:
        assert response.status_code == 422
        assert all(fault["loc"] == ["body"] for fault in response.json()["detail"])
    assert (await alice.get()).json() == [task]


@pytest.mark.requirement("T063")
async def test_an_answer_never_repeats_the_input(alice: User) -> None:
    secret = "do-not-repeat"
    contents: list[Any] = [
        {"title": [secret]},
        {"title": secret * 50},
        {secret: "\0", "title": "x"},
        {"title": {secret: secret}},
        secret,
    ]

    for content in contents:
        response = await alice.post(content)
        assert response.status_code == 422
        assert secret not in response.text
    for path in (f"/{secret}", f"?limit={secret}", f"?completed={secret}", f"?offset={secret}"):
        response = await alice.get(path)
        assert response.status_code == 422
        assert secret not in response.text


@pytest.mark.requirement("T064")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/merge-patch+json"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "json"},
    ],
)
async def test_a_body_of_another_type_is_refused(alice: User, headers: dict[str, str]) -> None:
    response = await alice.request("POST", content=b'{"title": "x"}', headers=headers)

    assert response.status_code == 415
    assert response.json() == {"detail": "The body must be application/json"}


@pytest.mark.requirement("T064")
@pytest.mark.parametrize("value", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_is_known_in_every_spelling(alice: User, value: str) -> None:
    response = await alice.post({"title": "x"}, headers={"Content-Type": value})

    assert response.status_code == 201


@pytest.mark.requirement("T065")
async def test_a_body_may_be_as_large_as_the_bound(alice: User) -> None:
    body = b'{"title": "x"}'.ljust(MAX_BODY_BYTES)

    largest = await alice.request("POST", content=body, headers=JSON)
    too_large = await alice.request("POST", content=body + b" ", headers=JSON)

    assert largest.status_code == 201
    assert too_large.status_code == 413
    assert too_large.json() == {"detail": f"The body must be at most {MAX_BODY_BYTES} bytes"}


@pytest.mark.requirement("T065")
async def test_a_body_of_undeclared_length_is_cut_off_at_the_first_byte_too_many(
    alice: User,
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b" " * 1024

    response = await alice.request("POST", content=endless(), headers=JSON)

    assert response.status_code == 413
    assert sent == MAX_BODY_BYTES + 1024


@pytest.mark.requirement("T065")
async def test_a_declared_length_is_refused_before_a_byte_arrives(alice: User) -> None:
    async def silent() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = JSON | {"Content-Length": str(MAX_BODY_BYTES + 1)}
    response = await alice.request("POST", content=silent(), headers=headers)

    assert response.status_code == 413
