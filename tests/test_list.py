"""The list: filters, search, order, pages and counts, and what its query refuses, on both databases."""
# [Task]: T129, T130, T131, T132, T133, T134 [From]: specs/features/task-crud.md

import asyncio
import base64
import json
import re
from itertools import cycle, product
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
import pytest

from tests.outside import run_sql
from tests.service import Service, User, bearer, make_token

SORTS = ["created", "updated", "title"]
ORDERS = ["asc", "desc"]
ALL_ORDERS = list(product(SORTS, ORDERS))
NEXT = re.compile(r'<([!#-;=?-~]+)>; rel="next"')
# The same moment for all tasks, as both databases store it.
SAME_TIME = "2026-01-02 03:04:05.000006"


def titles(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [task["title"] for task in response.json()]


def ids(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [task["id"] for task in response.json()]


def next_page(response: httpx.Response) -> str | None:
    """The reference to the next page, if there is one."""
    assert response.status_code == 200, response.text
    if "Link" not in response.headers:
        return None
    assert len(response.headers.get_list("Link")) == 1
    link = NEXT.fullmatch(response.headers["Link"])
    assert link
    return link[1]


def cursor_of(response: httpx.Response) -> str:
    reference = next_page(response)
    assert reference
    return dict(parse_qsl(urlsplit(reference).query))["cursor"]


async def all_pages(user: User, query: str) -> list[dict[str, Any]]:
    """The tasks of all pages, from this query on."""
    tasks = []
    reference: str | None = user.tasks_path + query
    while reference:
        response = await user.get(reference)
        reference = next_page(response)
        assert not reference or response.json()
        tasks += response.json()
    return tasks


def assert_refused(response: httpx.Response, *names: str) -> None:
    """Checks that it is 422, and names one of these parameters."""
    assert response.status_code == 422, response.text
    faults = response.json()["detail"]
    assert all(set(fault) == {"loc", "msg", "type"} for fault in faults)
    assert any(fault["loc"][0] == "query" and fault["loc"][1] in names for fault in faults), faults
    assert "Link" not in response.headers
    assert "X-Total-Count" not in response.headers


async def make_tasks(user: User, *names: str) -> list[int]:
    return [(await user.new_task(name))["id"] for name in names]


async def at_the_same_time(service: Service, user: User) -> None:
    """Makes the keys of this user's tasks equal in the sort by `updated`."""
    # The driver of Postgres takes no text for a time.
    await run_sql(service, f"UPDATE task SET updated_at = '{SAME_TIME}' WHERE user_id = '{user.id}'")


async def lowers(service: Service, letter: str) -> str:
    """This letter in the lower case of the database."""
    if service.backend == "sqlite":
        return letter.lower()
    ((lower,),) = await run_sql(service, "SELECT lower(CAST(:letter AS text))", letter=letter)
    return str(lower)


# Filters


@pytest.mark.requirement("T129")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "abcde"),
        ("?status=all", "abcde"),
        ("?status=pending", "ace"),
        ("?status=completed", "bd"),
        ("?completed=false", "ace"),
        ("?completed=true", "bd"),
        ("?status=pending&limit=1&offset=1", "c"),
        ("?status=completed&order=desc", "db"),
        ("?%73tatus=%63ompleted", "bd"),
        ("?status=completed&search=D", "d"),
        ("?status=completed&search=a", ""),
    ],
)
async def test_the_status_selects_tasks(alice: User, query: str, expected: str) -> None:
    made = await make_tasks(alice, *"abcde")
    for number in (1, 3):
        await alice.toggle(made[number])

    assert titles(await alice.get(query)) == list(expected)


@pytest.mark.requirement("T129", "T134")
@pytest.mark.parametrize(
    "query",
    [
        "status=completed&completed=true",
        "completed=true&status=completed",
        "status=all&completed=false",
        "status=pending&completed=true",
    ],
)
async def test_status_and_completed_exclude_each_other(alice: User, query: str) -> None:
    assert_refused(await alice.get(f"?{query}"), "status", "completed")


# Search


@pytest.mark.requirement("T130")
@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("milk", ["Buy MILK", "Call"]),
        ("MILK", ["Buy MILK", "Call"]),
        ("buy milk", ["Buy MILK"]),
        ("  milk\t\n", ["Buy MILK", "Call"]),
        ("", ["Buy MILK", "Call", "100 %", "a_b\\c", "left", 'it\'s "quoted"; --']),
        (" \t ", ["Buy MILK", "Call", "100 %", "a_b\\c", "left", 'it\'s "quoted"; --']),
        ("%", ["100 %"]),
        ("_", ["a_b\\c"]),
        ("\\", ["a_b\\c"]),
        ("A_B\\C", ["a_b\\c"]),
        ("1_0", []),
        ("1%0", []),
        ("l%t", []),
        (".", []),
        ("[a-z]", []),
        ("*", []),
        ("'", ['it\'s "quoted"; --']),
        ('S "QUOTED"; --', ['it\'s "quoted"; --']),
        ("right", ["left"]),
        # A title and its description are two texts.
        ("leftright", []),
        ("left right", []),
        ("ft\nri", []),
        ("null", []),
        ("none", []),
        ("+", []),
    ],
)
async def test_a_search_looks_for_this_text(alice: User, search: str, expected: list[str]) -> None:
    await alice.new_task("Buy MILK")
    await alice.new_task("Call", description="the mILKman, at 2")
    await alice.new_task("100 %", description="")
    await alice.new_task("a_b\\c")
    await alice.new_task("left", description="right")
    await alice.new_task('it\'s "quoted"; --')

    assert titles(await alice.get(f"?search={quote(search)}")) == expected
    assert titles(await alice.get("", params={"search": search})) == expected


@pytest.mark.requirement("T130")
@pytest.mark.parametrize(
    "text",
    ["ÄÖÜ straße", "ЁЖИК", "Ὀδυσσεύς", "東京で", "😀 done", "e\u0301te", "ﬁne", "\u200bzero", "\uffff", "\U0010ffff"],
)
async def test_a_search_knows_every_letter(alice: User, service: Service, text: str) -> None:
    task = await alice.new_task(f"x {text} x")
    other = await alice.new_task("x", description=f"{text}!")
    await alice.new_task("x x!")
    found = [task["id"], other["id"]]

    assert ids(await alice.get("", params={"search": text})) == found
    # The database decides what the lower case is.
    for letter in set(text):
        if letter.lower() != letter and await lowers(service, letter) != letter.lower():
            return
    assert ids(await alice.get("", params={"search": text.lower()})) == found


@pytest.mark.requirement("T130")
@pytest.mark.parametrize("part", ["ΟΔΟΣ", "ΟΔΟ", "Σ", "οδοσ"])
async def test_a_search_finds_a_part_of_a_word(alice: User, service: Service, part: str) -> None:
    task = await alice.new_task("ΟΔΟΣΤΡΩΜΑ")

    # Where the database's lower case of a letter depends on its neighbours, it decides.
    if await lowers(service, "ΟΔΟΣ") == "οδοσ":
        assert ids(await alice.get("", params={"search": part})) == [task["id"]]


@pytest.mark.requirement("T130")
async def test_a_plus_in_a_search_is_a_blank(alice: User) -> None:
    await make_tasks(alice, "buy milk", "buy+milk")

    assert titles(await alice.get("?search=buy+milk")) == ["buy milk"]
    assert titles(await alice.get("?search=buy%2Bmilk")) == ["buy+milk"]


@pytest.mark.requirement("T130")
@pytest.mark.parametrize("letter", ["x", "😀"])
async def test_a_search_has_at_most_200_characters(alice: User, letter: str) -> None:
    task = await alice.new_task(letter * 200)

    assert ids(await alice.get("", params={"search": letter * 200})) == [task["id"]]
    assert ids(await alice.get("", params={"search": f"  {letter * 200}\n"})) == [task["id"]]
    assert_refused(await alice.get("", params={"search": letter * 201}), "search")


@pytest.mark.requirement("T130", "T134")
@pytest.mark.parametrize("search", ["%00", "a%00b", "%00%00", "+%00", "milk%00"])
async def test_a_search_for_nul_is_refused(alice: User, search: str) -> None:
    assert_refused(await alice.get(f"?search={search}"), "search")


@pytest.mark.requirement("T134")
@pytest.mark.parametrize("text", ["%FF", "%ED%A0%80", "%C0%80", "%", "%zz", "%u0041", "%F4%90%80%80"])
@pytest.mark.parametrize("name", ["search", "status", "cursor", "limit", "count", "x"])
async def test_bytes_that_are_no_text_are_no_error(alice: User, name: str, text: str) -> None:
    response = await alice.get(f"?{name}={text}")

    is_text = text.isascii() and not re.search("%[C-F]", text)
    assert response.status_code == (200 if name == "search" and is_text else 422)


@pytest.mark.requirement("T130", "T134")
async def test_the_sign_for_bytes_that_are_no_text_is_text(alice: User) -> None:
    task = await alice.new_task("\N{REPLACEMENT CHARACTER}")

    assert (await alice.get("?search=%EF%BF%BD")).json() == [task]
    assert_refused(await alice.get("?search=%EF%BF"), "search")


# Order


@pytest.mark.requirement("T131")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "bCAd"),
        ("?sort=created", "bCAd"),
        ("?order=asc", "bCAd"),
        ("?order=desc", "dACb"),
        ("?sort=created&order=desc", "dACb"),
        ("?sort=updated", "CAdb"),
        ("?sort=updated&order=asc", "CAdb"),
        ("?sort=updated&order=desc", "bdAC"),
        ("?sort=title", "AbCd"),
        ("?sort=title&order=asc", "AbCd"),
        ("?sort=title&order=desc", "dCbA"),
        ("?order=desc&sort=title&limit=2&offset=1", "Cb"),
    ],
)
async def test_the_list_is_sorted(alice: User, query: str, expected: str) -> None:
    made = await make_tasks(alice, *"bCAd")
    await alice.toggle(made[0])

    assert titles(await alice.get(query)) == list(expected)


@pytest.mark.requirement("T131")
async def test_titles_go_by_code_point_in_lower_case(alice: User, service: Service) -> None:
    names = [
        "b",
        "_",
        "a",
        "Z",
        "B",
        "~",
        "z a",
        "ZA",
        "10",
        "9",
        "é",
        "e",
        "f",
        "ﬁ",
        "😀",
        "\uffff",
        "ä",
        "A\u0308",
        "a b",
    ]
    made = await make_tasks(alice, *names)
    lower = {name: name.lower() for name in names}

    assert await lowers(service, "Z") == "z"
    expected = sorted(zip(made, names, strict=True), key=lambda task: (lower[task[1]], task[0]))

    assert titles(await alice.get("?sort=title")) == [name for _, name in expected]
    assert titles(await alice.get("?sort=title&order=desc")) == [name for _, name in reversed(expected)]


@pytest.mark.requirement("T131")
@pytest.mark.parametrize("sort", ["updated", "title"])
async def test_equal_keys_go_by_id_in_the_same_direction(alice: User, service: Service, sort: str) -> None:
    made = await make_tasks(alice, "same", "SAME", "Same", "sAME", "same")
    await alice.toggle(made[2])
    await at_the_same_time(service, alice)

    assert ids(await alice.get(f"?sort={sort}")) == made
    assert ids(await alice.get(f"?sort={sort}&order=desc")) == made[::-1]


# Pages


@pytest.mark.requirement("T132")
@pytest.mark.parametrize(("sort", "order"), ALL_ORDERS)
@pytest.mark.parametrize("limit", [1, 2, 3, 11, 12])
async def test_the_pages_are_the_list(alice: User, service: Service, sort: str, order: str, limit: int) -> None:
    names = ["b", "B", "a", "b", "ß", "İ", "\u212a", "k", "Σς", '"\\<>', "😀" * 200]
    made = await make_tasks(alice, *names)
    await at_the_same_time(service, alice)
    for number in (0, 4):
        await alice.toggle(made[number])
    query = f"?sort={sort}&order={order}"
    whole = (await alice.get(query)).json()

    assert sorted(task["id"] for task in whole) == made
    assert await all_pages(alice, f"{query}&limit={limit}") == whole
    assert await all_pages(alice, f"{query}&limit={limit}&offset=2") == whole[2:]
    assert (
        await all_pages(alice, f"{query}&limit={limit}&skip=3&search=b")
        == [task for task in whole if "b" in task["title"].lower()][3:]
    )


@pytest.mark.requirement("T132")
@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("?limit=1", True),
        ("?limit=4", True),
        ("?limit=5", False),
        ("?limit=6", False),
        ("?limit=1000", False),
        ("", False),
        ("?limit=2&offset=2", True),
        ("?limit=2&offset=3", False),
        ("?limit=2&skip=2", True),
        ("?limit=2&skip=3", False),
        ("?limit=1&offset=4", False),
        ("?limit=1&offset=5", False),
        ("?limit=1&offset=1000", False),
        ("?limit=1&status=completed", True),
        ("?limit=2&status=completed", False),
        ("?limit=3&completed=false", False),
        ("?limit=2&completed=false", True),
        ("?limit=1&search=d", False),
        ("?limit=1&search=nowhere", False),
        ("?limit=4&sort=title&order=desc", True),
        ("?limit=5&sort=updated", False),
    ],
)
async def test_a_link_leads_on_exactly_when_there_is_more(alice: User, query: str, more: bool) -> None:  # noqa: FBT001
    made = await make_tasks(alice, *"abcde")
    for number in (1, 3):
        await alice.toggle(made[number])

    response = await alice.get(query)
    head = await alice.request("HEAD", query)

    assert (next_page(response) is not None) is more
    assert head.headers.get("Link") == response.headers.get("Link")


@pytest.mark.requirement("T132")
async def test_a_hundred_tasks_are_a_page_unless_told(alice: User) -> None:
    for _ in range(100):
        await alice.new_task()
    full = await alice.get()

    assert len(full.json()) == 100
    assert next_page(full) is None

    last = await alice.new_task()
    first = await alice.get()

    assert first.json() == full.json()
    assert ids(await alice.get(next_page(first) or "")) == [last["id"]]
    assert ids(await alice.get("?limit=1000"))[100:] == [last["id"]]


@pytest.mark.requirement("T132")
async def test_an_empty_list_leads_nowhere(alice: User) -> None:
    response = await alice.get("?count=true")

    assert response.json() == []
    assert next_page(response) is None


@pytest.mark.requirement("T132")
@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "2"},
        {"limit": "1", "status": "pending", "sort": "title", "order": "desc", "count": "true"},
        {"limit": "1", "completed": "false", "sort": "updated"},
        {"limit": "1", "count": "false", "status": "all"},
        {"limit": "1", "search": "a&b=c d+é%#\"<>';,\\/?😀"},
        {"limit": "1", "search": "", "order": "asc"},
    ],
)
@pytest.mark.parametrize("begin", [{}, {"offset": "1"}, {"skip": "1"}, {"offset": "1", "skip": "0"}])
async def test_a_link_keeps_the_other_parameters(
    alice: User, parameters: dict[str, str], begin: dict[str, str]
) -> None:
    await make_tasks(alice, *(f"{n} a&b=c d+é%#\"<>';,\\/?😀" for n in range(4)))

    response = await alice.get(f"?{urlencode(parameters | begin)}")
    parts = urlsplit(next_page(response) or "")
    following = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))

    assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == ("", "", alice.tasks_path, "")
    assert following.pop("cursor")
    assert following == parameters
    second = await alice.get(next_page(response) or "")
    assert second.json()
    assert not {task["id"] for task in second.json()} & {task["id"] for task in response.json()}


@pytest.mark.requirement("T132")
async def test_a_link_is_encoded(service: Service) -> None:
    user = service.user('zoë ü|x<>"%2F')
    path = quote(user.tasks_path.replace("%2F", "%252F"), safe="/%")
    await make_tasks_at(service, user, path, 2)

    response = await service.client.get(f"{path}?limit=1", headers=bearer(make_token(user.id)))
    reference = next_page(response)

    assert reference
    assert urlsplit(reference).path.startswith("/api/zo%C3%AB%20%C3%BC%7Cx%3C%3E%22%252F/tasks")
    second = await service.client.get(reference, headers=bearer(make_token(user.id)))
    assert len(second.json()) == 1


async def make_tasks_at(service: Service, user: User, path: str, number: int) -> None:
    for _ in range(number):
        response = await service.client.post(path, json={"title": "x"}, headers=bearer(make_token(user.id)))
        assert response.status_code == 201, response.text


@pytest.mark.requirement("T132")
async def test_a_proxys_prefix_is_kept_in_links(service: Service, alice: User) -> None:
    await make_tasks(alice, "a", "b")
    transport = httpx.ASGITransport(service.app, root_path="/v1")
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        headers = bearer(make_token(alice.id))
        first = await client.get(f"/v1{alice.tasks_path}?limit=1", headers=headers)
        reference = next_page(first)

        assert reference
        assert reference.startswith(f"/v1{alice.tasks_path}?")
        assert titles(await client.get(reference, headers=headers)) == ["b"]


@pytest.mark.requirement("T132")
async def test_a_trailing_slash_changes_nothing_in_a_list(alice: User) -> None:
    await make_tasks(alice, "a", "b")

    plain, slash = [await alice.get(path) for path in ("?limit=1&count=true", "/?limit=1&count=true")]

    assert plain.content == slash.content
    for name in ("Link", "X-Total-Count", "ETag"):
        assert plain.headers[name] == slash.headers[name]


@pytest.mark.requirement("T132")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("limit", "begin"), [(1, ""), (3, "&offset=0")])
async def test_a_stable_task_is_seen_once_amid_changes(alice: User, order: str, limit: int, begin: str) -> None:
    stable, doomed, changing = [], [], []
    for number in range(8):
        doomed += await make_tasks(alice, f"doomed {number}")
        stable += await make_tasks(alice, f"stable {number}")
        changing += await make_tasks(alice, f"changing {number}")
    seen: list[int] = []
    reference: str | None = f"{alice.tasks_path}?limit={limit}&order={order}{begin}"

    while reference:
        response = await alice.get(reference)
        reference = next_page(response)
        seen += ids(response)
        # The task that the cursor names is among those that are deleted.
        gone = [seen[-1]] if seen[-1] in doomed else doomed[:1]
        for task_id in gone:
            doomed.remove(task_id)
        await asyncio.gather(
            *map(alice.delete, gone),
            *(alice.new_task("new") for _ in range(limit if len(seen) < 60 else 0)),
            alice.toggle(changing[0]),
            alice.put(changing[-1], {"title": f"again {len(seen)}"}),
        )

    assert len(seen) == len(set(seen))
    assert set(stable + changing) <= set(seen)
    assert seen == sorted(seen, reverse=order == "desc")


@pytest.mark.requirement("T132")
async def test_all_tasks_are_seen_while_others_write(alice: User) -> None:
    stable = await make_tasks(alice, *map(str, range(30)))

    async def write(stop: asyncio.Event) -> None:
        while not stop.is_set():
            task = await alice.new_task("new")
            await alice.delete(task["id"])

    stop = asyncio.Event()
    writers = [asyncio.create_task(write(stop)) for _ in range(4)]
    try:
        for query in ("?limit=7&order=desc", "?limit=7&order=desc&skip=0", "?limit=4&order=desc&search="):
            seen = [task["id"] for task in await all_pages(alice, query)]
            assert len(seen) == len(set(seen))
            assert [task_id for task_id in seen if task_id in stable] == stable[::-1]
    finally:
        stop.set()
        await asyncio.gather(*writers)


@pytest.mark.requirement("T132")
@pytest.mark.parametrize(("sort", "order"), ALL_ORDERS)
async def test_a_cursor_outlives_its_task_and_its_filters(alice: User, sort: str, order: str) -> None:
    made = await make_tasks(alice, *"abcdef")
    expected = made if order == "asc" else made[::-1]
    query = f"?sort={sort}&order={order}"
    first = await alice.get(f"{query}&limit=2")
    cursor = cursor_of(first)

    await alice.delete(expected[1])

    assert ids(await alice.get(f"{query}&cursor={cursor}")) == expected[2:]
    assert ids(await alice.get(f"{query}&cursor={cursor}&limit=1&count=true")) == expected[2:3]
    assert ids(await alice.get(f"{query}&cursor={cursor}&search=D")) == [made[3]]
    assert ids(await alice.get(f"{query}&cursor={cursor}&status=completed")) == []


@pytest.mark.requirement("T132")
async def test_a_cursors_defaults_may_be_spelled_out(alice: User) -> None:
    made = await make_tasks(alice, *"abc")
    bare = cursor_of(await alice.get("?limit=1"))
    spelled = cursor_of(await alice.get("?limit=1&sort=created&order=asc"))

    assert ids(await alice.get(f"?cursor={bare}&sort=created&order=asc")) == made[1:]
    assert ids(await alice.get(f"?cursor={spelled}")) == made[1:]


@pytest.mark.requirement("T132", "T134")
@pytest.mark.parametrize(("sort", "order"), ALL_ORDERS)
async def test_a_cursor_of_another_sort_is_refused(alice: User, sort: str, order: str) -> None:
    await make_tasks(alice, "1", "2", "3")
    cursor = cursor_of(await alice.get(f"?limit=1&sort={sort}&order={order}"))

    for other in ALL_ORDERS:
        response = await alice.get(f"?cursor={cursor}&sort={other[0]}&order={other[1]}")
        if other == (sort, order):
            assert len(response.json()) == 2
        else:
            assert_refused(response, "cursor")


@pytest.mark.requirement("T132", "T134")
@pytest.mark.parametrize(
    "begin", ["offset=1", "skip=1", "offset=0", "skip=0", "offset=1&skip=1", "offset=9223372036854775807"]
)
async def test_a_cursor_and_an_offset_exclude_each_other(alice: User, begin: str) -> None:
    await make_tasks(alice, *"abc")
    cursor = cursor_of(await alice.get("?limit=1"))

    assert_refused(await alice.get(f"?cursor={cursor}&{begin}"), "cursor", "offset", "skip")
    assert_refused(await alice.get(f"?{begin}&cursor={cursor}"), "cursor", "offset", "skip")


@pytest.mark.requirement("T132", "T134")
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "+",
        "x",
        "%00",
        "null",
        "0",
        "1",
        "-1",
        "%FF",
        "é",
        "=",
        "====",
        "A" * 10_000,
        "%00" * 10_000,
        "😀" * 2_500,
        "[" * 10_000,
        "../../etc/passwd",
        "';DROP TABLE task;--",
    ],
)
@pytest.mark.parametrize("sort", SORTS)
async def test_a_cursor_that_is_none_is_refused(alice: User, sort: str, cursor: str) -> None:
    assert_refused(await alice.get(f"?sort={sort}&cursor={cursor}"), "cursor")


@pytest.mark.requirement("T132", "T134")
@pytest.mark.parametrize(("sort", "order"), ALL_ORDERS)
async def test_a_mangled_cursor_is_refused(alice: User, sort: str, order: str) -> None:
    await make_tasks(alice, "äö", "b", "c")
    query = f"?sort={sort}&order={order}"
    cursor = cursor_of(await alice.get(f"{query}&limit=1"))

    for length in range(len(cursor)):
        assert_refused(await alice.get(f"{query}&cursor={cursor[:length]}"), "cursor")
    for mangled in (
        *(cursor + end for end in ("A", "AA", "=", "==", "%00", "%20", "%0A", "-", "!", cursor)),
        *(start + cursor for start in ("A", "%20", "%00", "=", "%EF%BB%BF")),
        *(cursor[:4] + middle + cursor[4:] for middle in ("%20", "%0A", "%00", "%2B", "%2F", "!", "é")),
    ):
        assert_refused(await alice.get(f"{query}&cursor={mangled}"), "cursor")


def encode(content: Any) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(cursor: str) -> list[Any]:
    content = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    assert isinstance(content, list)
    return content


@pytest.mark.requirement("T132", "T134")
@pytest.mark.parametrize(
    "content",
    [
        None,
        True,
        0,
        "",
        [],
        {},
        [[]],
        {"id": 1},
        b"",
        b"\0",
        b"\xff\xfe",
        b"[",
        b"NaN",
        b"[NaN]",
        b"1e999",
        b"[" * 40_000,
        b"[" * 5_000 + b"]" * 5_000,
        b"9" * 5_000,
        b'{"a":1,"a":2}',
    ],
)
async def test_a_cursor_of_another_content_is_refused(alice: User, content: Any) -> None:
    assert_refused(await alice.get(f"?cursor={encode(content)}"), "cursor")


FORGED_TEXTS = [
    *("", "1", "x", "\0", "a\0b", "\ud800", "é", "x" * 10_000, "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"),
    *("10000-01-01T00:00:00Z", "infinity", "-infinity", "now", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+00:00"),
    *("2026-01-01T00:00:00", "2026-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "created"),
    *("0001-01-01T00:00:00-14:00", "2026-01-01T00:00:00+00:00:30Z", "2026-W01-1T00:00:00Z", "title", "desc"),
]
FORGED_VALUES = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 1.0, 1.5, 1e300),
    *FORGED_TEXTS,
    # As the tag of a task is quoted.
    *(f'"{text}"' for text in FORGED_TEXTS),
    *([], [1], {}, {"a": 1}, float("nan"), float("inf"), float("-inf")),
]


@pytest.mark.requirement("T132", "T134")
@pytest.mark.parametrize(("sort", "order"), list(zip(SORTS, cycle(ORDERS), strict=False)))
async def test_a_forged_cursor_shows_its_forgers_tasks_at_most(alice: User, bob: User, sort: str, order: str) -> None:
    for user in (alice, bob, alice, bob):
        await make_tasks(user, "a", "b")
    query = f"?sort={sort}&order={order}"
    theirs = await bob.get(f"{query}&limit=1")
    content = decode(cursor_of(theirs))
    forged = [
        *([*content[:place], value, *content[place + 1 :]] for place in range(len(content)) for value in FORGED_VALUES),
        *([*content[:place], *content[place + 1 :]] for place in range(len(content))),
        [*content, 1],
        [*content, None],
        content[::-1],
    ]

    taken = await alice.get(f"{query}&cursor={cursor_of(theirs)}")
    answers = [await alice.get(f"{query}&cursor={encode(wrong)}") for wrong in forged]

    assert taken.status_code == 200
    for answer in (taken, *answers):
        assert answer.status_code in {200, 422}
        if answer.status_code == 422:
            assert_refused(answer, "cursor")
        else:
            assert {task["user_id"] for task in answer.json()} <= {alice.id}
            assert next_page(answer) is None


@pytest.mark.requirement("T132")
@pytest.mark.parametrize(("sort", "order"), ALL_ORDERS)
async def test_no_page_has_another_users_tasks(alice: User, bob: User, sort: str, order: str) -> None:
    for number in range(3):
        await make_tasks(alice, f"{number} hers")
        await make_tasks(bob, f"{number} his")
    query = f"?sort={sort}&order={order}&limit=1&count=true"

    for more in ("", "&search=h", "&status=pending", "&completed=false", "&offset=1"):
        seen = await all_pages(alice, query + more)
        assert {task["user_id"] for task in seen} == {alice.id}
        assert (await alice.get(query + more)).headers["X-Total-Count"] == "3"
    assert (await alice.get(f"{query}&search=his")).json() == []


# Counts


@pytest.mark.requirement("T133")
@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("?count=true", "7"),
        ("?count=true&limit=1", "7"),
        ("?count=true&limit=2&offset=6", "7"),
        ("?count=true&offset=7", "7"),
        ("?count=true&offset=9223372036854775807", "7"),
        ("?count=true&skip=1000", "7"),
        ("?count=true&status=completed", "2"),
        ("?count=true&completed=true&limit=1", "2"),
        ("?count=true&status=pending&offset=100", "5"),
        ("?count=true&search=EVEN", "4"),
        ("?count=true&search=even&status=completed&limit=1&sort=title&order=desc", "1"),
        ("?count=true&search=nowhere", "0"),
        ("", None),
        ("?count=false", None),
        ("?count=false&limit=1", None),
    ],
)
async def test_the_total_is_what_the_filters_select(alice: User, query: str, total: str | None) -> None:
    made = await make_tasks(alice, *(f"{n} {'odd' if n % 2 else 'even'}" for n in range(7)))
    for number in (2, 3):
        await alice.toggle(made[number])

    response = await alice.get(query)
    head = await alice.request("HEAD", query)

    assert response.status_code == 200
    assert response.headers.get("X-Total-Count") == total
    assert head.headers.get("X-Total-Count") == total


@pytest.mark.requirement("T133")
@pytest.mark.parametrize(("sort", "order"), ALL_ORDERS)
async def test_the_total_is_the_same_on_every_page(alice: User, sort: str, order: str) -> None:
    await make_tasks(alice, *"abcde")
    reference: str | None = f"{alice.tasks_path}?limit=2&count=true&sort={sort}&order={order}"
    totals = []
    while reference:
        response = await alice.get(reference)
        totals.append(response.headers["X-Total-Count"])
        reference = next_page(response)

    assert totals == ["5", "5", "5"]


@pytest.mark.requirement("T133")
async def test_nothing_counts_as_zero(alice: User) -> None:
    for query in ("?count=true", "?count=true&limit=1&offset=3", "?count=true&search=x&status=completed"):
        assert (await alice.get(query)).headers["X-Total-Count"] == "0"


@pytest.mark.requirement("T132", "T133")
async def test_a_browser_may_read_links_and_counts(plain_service: Service) -> None:
    response = await plain_service.client.get("/health", headers={"Origin": "http://localhost:3000"})

    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"ETag", "Link", "X-Total-Count", "Location", "Idempotency-Replayed"} <= set(exposed)


# A closed query


@pytest.mark.requirement("T134")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("status", value)
            for value in ("", "Completed", "done", "active", "true", "null", "completed ", "all,pending")
        ),
        *(("completed", value) for value in ("", "1", "0", "True", "TRUE", "yes", "on", "null", " true", "t")),
        *(("sort", value) for value in ("", "id", "created_at", "-created", "Title", "title,created", "priority", "1")),
        *(("order", value) for value in ("", "ASC", "descending", "-1", "random", "desc ")),
        *(("count", value) for value in ("", "1", "True", "yes", "exact")),
        *(
            ("limit", value)
            for value in ("", "0", "-1", "1001", "%2B1", "1.0", "1e2", "0x10", "1_0", " 1", "1 ", "٣", "²", "all")
        ),
        *(("limit", value) for value in ("9" * 19, "9" * 5_000, "9223372036854775808", "%00", "1%00", "NaN", "null")),
        *(("offset", value) for value in ("", "-1", "-0", "%2B1", "1.5", "1_0", " 1", "9" * 5_000, str(2**63), "x")),
        *(("skip", value) for value in ("", "-1", "%2B1", "1.5", "1_0", " 1", "9" * 5_000, str(2**63), "x")),
    ],
)
async def test_a_value_that_cannot_be_served_is_refused(plain_service: Service, name: str, value: str) -> None:
    user = plain_service.user()

    assert_refused(await user.get(f"?{name}={value}"), name)


@pytest.mark.requirement("T134")
@pytest.mark.parametrize(
    "query", ["limit", "status", "completed", "sort", "order", "count", "cursor", "offset", "skip"]
)
async def test_a_parameter_without_a_value_is_refused(plain_service: Service, query: str) -> None:
    assert_refused(await plain_service.user().get(f"?{query}"), query)


@pytest.mark.requirement("T134")
@pytest.mark.parametrize(
    "query", ["limit=1", "limit=1000", "offset=0", "skip=0", f"offset={2**63 - 1}", f"skip={2**63 - 1}", "search", ""]
)
async def test_a_bound_itself_is_served(alice: User, query: str) -> None:
    await make_tasks(alice, "a")

    assert (await alice.get(f"?{query}")).status_code == 200


@pytest.mark.requirement("T134")
async def test_an_offset_counts_before_a_skip(alice: User) -> None:
    made = await make_tasks(alice, *"abcd")

    for query in ("offset=1&skip=3", "skip=3&offset=1", "offset=1&skip=0"):
        assert ids(await alice.get(f"?{query}")) == made[1:]
    for query in ("offset=0&skip=3", "skip=3&offset=0"):
        assert ids(await alice.get(f"?{query}")) == made
    assert_refused(await alice.get("?offset=1&skip=x"), "skip")


@pytest.mark.requirement("T134")
@pytest.mark.parametrize(
    "name",
    [
        *("filter", "page", "per_page", "page_size", "q", "query", "sort_by", "sortBy", "order_by", "direction", "tag"),
        *("Status", "LIMIT", "status[]", "status ", "completed.eq", "priority", "user_id", "owner", "id", "ids"),
        *("after", "before", "fields", "_", "token", "is_completed", "is_counted", "limit_", "__proto__", "0"),
    ],
)
async def test_an_unknown_parameter_is_refused(plain_service: Service, name: str) -> None:
    user = plain_service.user()

    for query in (f"?{quote(name)}=1", f"?{quote(name)}", f"?{quote(name)}=", f"?limit=1&{quote(name)}=x&status=all"):
        assert_refused(await user.get(query), name)


@pytest.mark.requirement("T134")
@pytest.mark.parametrize("query", ["=", "=1", "%00=1", "limit%00=1", "%FF=1", "é=1", "limit=1;offset=1", "x" * 10_000])
async def test_an_odd_name_of_a_parameter_is_refused(plain_service: Service, query: str) -> None:
    response = await plain_service.user().get(f"?{query}")

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "query"


@pytest.mark.requirement("T134")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("status", ("all", "all")),
        ("status", ("pending", "completed")),
        ("completed", ("true", "true")),
        ("completed", ("true", "false")),
        ("search", ("a", "a")),
        ("search", ("a", "")),
        ("search", ("", "")),
        ("sort", ("title", "created")),
        ("order", ("asc", "desc")),
        ("limit", ("1", "1")),
        ("limit", ("1", "0")),
        ("offset", ("0", "0")),
        ("skip", ("0", "1")),
        ("count", ("true", "true")),
        ("count", ("false", "true")),
    ],
)
async def test_a_parameter_sent_twice_is_refused(plain_service: Service, name: str, values: tuple[str, str]) -> None:
    user = plain_service.user()

    one, other = [f"{name}={value}" for value in values]
    assert_refused(await user.get(f"?{one}&{other}"), name)
    assert_refused(await user.get(f"?{one}&x=1&%{ord(name[0]):x}{other[1:]}"), name)


@pytest.mark.requirement("T134")
async def test_a_cursor_sent_twice_is_refused(alice: User) -> None:
    await make_tasks(alice, "a", "b")
    cursor = cursor_of(await alice.get("?limit=1"))

    assert_refused(await alice.get(f"?cursor={cursor}&cursor={cursor}"), "cursor")


@pytest.mark.requirement("T134")
async def test_each_fault_of_a_query_is_named(plain_service: Service) -> None:
    response = await plain_service.user().get("?limit=0&sort=x&colour=red&count=1")

    assert {fault["loc"][1] for fault in response.json()["detail"]} == {"limit", "sort", "colour", "count"}


@pytest.mark.requirement("T134")
async def test_a_refusal_shows_no_value(plain_service: Service) -> None:
    for name in ("status", "completed", "sort", "order", "limit", "offset", "skip", "cursor", "count", "colour"):
        response = await plain_service.user().get(f"?{name}=hunter2")

        assert response.status_code == 422
        assert "hunter2" not in response.text


@pytest.mark.requirement("T134")
async def test_a_query_is_read_after_the_token(plain_service: Service) -> None:
    alice, bob = plain_service.user(), plain_service.user()

    assert (await plain_service.client.get(f"{alice.tasks_path}?limit=0")).status_code == 401
    assert (await bob.get(f"{alice.tasks_path}?limit=0")).status_code == 403
    assert (await bob.get(f"{alice.tasks_path}?x=1")).status_code == 403


@pytest.mark.requirement("T134")
async def test_the_other_endpoints_pass_a_query_over(alice: User) -> None:
    query = "?limit=0&status=x&completed=true&colour=red&ids=x"
    created = await alice.request("POST", query, json={"title": "x"})
    task = created.json()
    assert created.status_code == 201
    assert created.headers["Location"] == f"{alice.tasks_path}/{task['id']}"

    path = f"/{task['id']}"
    assert (await alice.get(path + query)).json() == task
    for method, rest, content in (
        ("PUT", path, {"title": "y"}),
        ("PATCH", path, {"title": "z"}),
        ("PATCH", f"{path}/complete", {"completed": True}),
        ("PATCH", "/bulk", {"ids": [task["id"]], "completed": False}),
        ("POST", "/bulk", {"tasks": [{"title": "x"}]}),
        ("DELETE", path, None),
    ):
        response = await alice.request(method, rest + query, json=content)
        assert response.is_success, (method, rest, response.text)
