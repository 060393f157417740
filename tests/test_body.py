"""Bodies that are accepted, and the bound on their size. Refused ones are in `corpus.py`."""
# [Task]: T008, T009, T064, T065 [From]: specs/features/task-crud.md, specs/api/rest-endpoints.md

from collections.abc import AsyncIterator

import pytest

from tests.service import Service, User

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
@pytest.mark.parametrize("text", ["", "  kept as sent  ", "é" * 1000, "😀" * 1000, "9" * 1000, '\\"' + "9" * 998])
async def test_a_description_is_stored_as_sent(alice: User, text: str) -> None:
    assert (await alice.new_task(description=text))["description"] == text


@pytest.mark.requirement("T064")
@pytest.mark.parametrize("value", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_is_known_in_every_spelling(alice: User, value: str) -> None:
    response = await alice.post({"title": "x"}, headers={"Content-Type": value})

    assert response.status_code == 201


@pytest.mark.requirement("T065")
async def test_a_body_may_be_as_large_as_the_bound(alice: User) -> None:
    body = b'{"title": "x"}'.ljust(65536)

    largest = await alice.request("POST", content=body, headers=JSON)
    too_large = await alice.request("POST", content=body + b" ", headers=JSON)

    assert largest.status_code == 201
    assert too_large.status_code == 413
    assert too_large.json() == {"detail": "The body must be at most 65536 bytes"}


@pytest.mark.requirement("T065")
async def test_an_undeclared_length_is_cut_at_the_bound(plain_service: Service) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b" " * 1024

    response = await plain_service.user().request("POST", content=endless(), headers=JSON)

    assert response.status_code == 413
    assert sent == 65536 + 1024


@pytest.mark.requirement("T065")
@pytest.mark.parametrize("length", ["65537", "0070000", str(2**63), "9" * 5000])
async def test_too_large_a_declared_length_is_refused_unread(plain_service: Service, length: str) -> None:
    async def silent() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = JSON | {"Content-Length": length}
    response = await plain_service.user().request("POST", content=silent(), headers=headers)

    assert response.status_code == 413


@pytest.mark.requirement("T065")
@pytest.mark.parametrize("length", ["-70000", "+70000", "70_000", "0x11170", "\u00b9" * 9, ""])
async def test_what_is_no_length_is_the_servers_to_refuse(alice: User, length: str) -> None:
    headers = {**JSON, "Content-Length": length.encode("latin-1")}
    response = await alice.request("POST", content=b'{"title": "x"}', headers=headers)

    assert response.status_code == 201
