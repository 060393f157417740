"""Hostile requests, each with the answer that it must get.

Mallory has an account, a good token and one task (3). She wants the victim's tasks (1 and 2), an
answer that tells her something, or a 500. A way to attack that anybody finds becomes a case here.
"""
# [Task]: T020, T063, T134, T137 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md, specs/features/task-crud.md

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, product
from typing import Any
from urllib.parse import quote

from tests.leaks import SECRET
from tests.server import head
from tests.service import make_token, sign_raw

MALLORY = "mallory"
VICTIM = "victim"
TASKS = f"/api/{MALLORY}/tasks"
HERS = f"{TASKS}/3"
BULK = f"{TASKS}/bulk"
EVENTS = f"{TASKS}/events"
COMPLETE = f"{HERS}/complete"
# Every write with a body.
WRITES = (("POST", TASKS), ("PUT", HERS), ("PATCH", HERS), ("PATCH", COMPLETE), ("POST", BULK), ("PATCH", BULK))
# Nothing here depends on the clock: the corpus is the same in every run.
FUTURE = 4_102_444_800  # the year 2100
TIMES = ("0001-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "9999-12-31T23:59:59Z")
# Sent wherever an answer might repeat it.
CANARY = "do-not-repeat"

NOT_AUTHENTICATED = "Not authenticated"
INVALID_TOKEN = "Invalid token"
EXPIRED = "Token has expired"
FORBIDDEN = "Cannot access another user's tasks"
NOT_FOUND = "Not Found"
NO_TASK = "Task not found"
CHANGED = "The task has changed"
NOT_ALLOWED = "Method Not Allowed"
NOT_JSON = "The body must be application/json"
TOO_LARGE = "The body must be at most 65536 bytes"

JSON = "Content-Type: application/json"


@dataclass(frozen=True)
class Case:
    """A request, and what has to come of it: a status, and the `detail` of an error or, for a
    422, the `loc` of what is wrong.
    """

    name: str
    request: bytes
    status: int
    expected: str | list[Any] | None = None


def claims(**changes: Any) -> str:
    return json.dumps({"sub": MALLORY, "exp": FUTURE} | changes)


def claims_with_each(name: str, values: list[Any]) -> list[str]:
    return [claims(**{name: value}) for value in values]


HEADER = json.dumps({"alg": "HS256", "typ": "JWT"})
GOOD = sign_raw(HEADER, claims())
AUTHORIZED = f"Authorization: Bearer {GOOD}"


def case(
    what: str | bytes | dict[str, Any],
    method: str,
    target: str | bytes,
    *headers: str | bytes,
    body: bytes = b"",
    status: int,
    expected: str | list[Any] | None = None,
) -> Case:
    """A case of a request with these headers and a body of the length it declares."""
    if body:
        headers = (*headers, f"Content-Length: {len(body)}")
    label = what.decode("latin-1") if isinstance(what, bytes) else str(what)
    return Case(
        f"{status} {method} {label[:60]}", head(method, target, *headers, "Connection: close") + body, status, expected
    )


def authorization(value: str | bytes, detail: str) -> Case:
    line = b"Authorization: " + (value if isinstance(value, bytes) else value.encode())
    return case(value, "GET", TASKS, line, status=401, expected=detail)


def token(header: str | bytes, content: str | bytes, what: str | bytes) -> Case:
    """A case of a token that is invalid in spite of its valid signature."""
    line = f"Authorization: Bearer {sign_raw(header, content)}"
    return case(what, "GET", TASKS, line, status=401, expected=INVALID_TOKEN)


def without_a_token() -> Iterator[Case]:
    refused = partial(case, status=401, expected=NOT_AUTHENTICATED)
    for value in ("", "Basic dTpw", "Token x", "bearertoken", "x", f"Bearer:{GOOD}", f"JWT {GOOD}"):
        yield authorization(value, NOT_AUTHENTICATED)
    yield authorization(f"Bearer\t{GOOD}", NOT_AUTHENTICATED)
    yield authorization(b"Bearer\xa0" + GOOD.encode(), NOT_AUTHENTICATED)
    yield authorization(b"\xff", NOT_AUTHENTICATED)
    yield refused("in the query", "GET", f"{TASKS}?access_token={GOOD}")
    yield refused("in a cookie", "GET", TASKS, f"Cookie: Authorization=Bearer {GOOD}")
    yield refused("to a proxy", "GET", TASKS, f"Proxy-Authorization: Bearer {GOOD}")
    yield refused("by a proxy", "GET", TASKS, "X-Forwarded-User: victim")
    yield refused("upgraded", "GET", TASKS, "Connection: Upgrade", "Upgrade: websocket")
    for path in (
        *(f"{TASKS}/0", f"{TASKS}/x?limit=x", "/api/%00/tasks", "/api/%ff/tasks"),
        *("/api/tasks", "/api/tasks/", "/api/tasks?limit=x", "/api/tasks/3", "/api/tasks/x", "/api/tasks/tasks"),
    ):
        yield refused(path, "GET", path)
    for method, target in (
        *(("DELETE", TASKS), ("DELETE", f"{TASKS}?status=all"), ("DELETE", "/api/tasks?ids=x")),
        *(("POST", "/api/tasks"), ("POST", "/api/tasks/bulk"), ("PATCH", "/api/tasks/3/complete")),
    ):
        yield refused(target, method, target, "If-Match: x", "Idempotency-Key: ", JSON)
    for body in (b"{", b"\xff", b"[" * 60_000, b'{"title": NaN}', b" " * 70_000):
        for method, target in (("POST", TASKS), ("POST", BULK), ("PATCH", BULK), ("PATCH", COMPLETE)):
            yield refused(body, method, target, JSON, body=body)
    yield refused("no type", "POST", TASKS, body=b"x")
    yield refused("never sent", "POST", TASKS, JSON, "Content-Length: 10000000")
    yield refused("never sent", "PUT", HERS, JSON, "Content-Length: 10000000")
    yield refused("waiting", "POST", TASKS, "Expect: 100-continue", "Content-Length: 9")
    yield refused("unending", "POST", TASKS, JSON, "Transfer-Encoding: chunked")


def malformed_tokens() -> Iterator[Case]:
    header, payload, signature = GOOD.split(".")
    last = chr(ord(signature[-1]) + 1)
    # Segments that a lenient decoder takes for the same bytes.
    for foreign, place in product((" ", "\t", " " * 4, "!" * 4, "=", ".", "%20"), (1, 20)):
        bent = signature[:place] + foreign + signature[place:]
        yield authorization(f"Bearer {header}.{payload}.{bent}", INVALID_TOKEN)
    for digit, foreign in (("-", "+"), ("_", "/")):
        tokens = (sign_raw(HEADER, claims(jti=number)) for number in count())
        with_digit = next(one for one in tokens if digit in one.rpartition(".")[2])
        signed, _, end = with_digit.rpartition(".")
        bent = end.replace(digit, foreign)
        yield authorization(f"Bearer {signed}.{bent}", INVALID_TOKEN)
    for value in (
        "Bearer",
        "Bearer x",
        "Bearer ..",
        "Bearer a.b.c",
        f"Bearer  {GOOD}",
        f"Bearer {GOOD} x",
        f"Bearer {GOOD},",
        f"Bearer {GOOD}, Bearer {GOOD}",
        f'Bearer "{GOOD}"',
        f"Bearer token={GOOD}",
        f"Bearer {header}.{payload}",
        f"Bearer {header}.{payload}.",
        f"Bearer .{payload}.{signature}",
        f"Bearer {header}..{signature}",
        f"Bearer {GOOD}.",
        f"Bearer .{GOOD}",
        f"Bearer {GOOD}.{signature}",
        f"Bearer {GOOD}=",
        f"Bearer {GOOD}==",
        f"Bearer {header}=.{payload}.{signature}",
        f"Bearer {header}.{payload} .{signature}",
        f"Bearer {header}.\t{payload}.{signature}",
        f"Bearer {header}.{payload}.{signature[:-1]}",
        f"Bearer {header}.{payload}.{signature}A",
        f"Bearer {header}.{payload}.{signature[:-1]}{last}",
        f"Bearer {header}.{payload}.{'A' * len(signature)}",
        f"Bearer {header}.{payload}.{signature[::-1]}",
        f"Bearer {header}.{payload}.é".encode(),
        f"Bearer {header}.{payload}.".encode() + b"\xff\xfe",
        f"Bearer {header}.{payload}.{signature[:5]}+{signature[6:]}",
        f"Bearer {header}.{payload}.{signature[:5]}/{signature[6:]}",
        f"Bearer {header}.{payload}.{signature[:5]}%2B{signature[6:]}",
        f"Bearer {payload}.{header}.{signature}",
        f"Bearer {GOOD.replace('.', ':')}",
        f"Bearer {'a' * 8193}",
        f"Bearer {'.' * 8192}",
        f"Bearer {sign_raw(HEADER, claims(pad='x' * 8192))}",
        "Bearer " + "a" * 50_000,
        # Better Auth's opaque session token: bare, signed, and as in a cookie.
        "Bearer " + "a" * 32,
        "Bearer " + "a" * 32 + "." + "b" * 43,
        "Bearer " + "a" * 32 + "." + "b" * 43 + "%3D",
        f"Bearer {make_token(MALLORY, exp=FUTURE, key=SECRET[::-1])}",
        f"Bearer {make_token(MALLORY, exp=FUTURE, algorithm='HS384')}",
        f"Bearer {make_token(MALLORY, exp=FUTURE, algorithm='HS512')}",
        f"Bearer {make_token(MALLORY, exp=FUTURE, key='', algorithm='none')}",
    ):
        yield authorization(value, INVALID_TOKEN)
    for lines in (
        (AUTHORIZED, AUTHORIZED),
        (AUTHORIZED, "Authorization: Basic x"),
        ("Authorization: Basic x", AUTHORIZED),
        (AUTHORIZED, "Authorization:"),
        ("authorization:", AUTHORIZED.replace("A", "a", 1)),
    ):
        yield case(lines[1], "GET", TASKS, *lines, status=401, expected=INVALID_TOKEN)


def token_headers() -> Iterator[Case]:
    for header in (
        "{}",
        "[]",
        "null",
        '"HS256"',
        "{",
        "",
        '{"alg": "HS256", "alg": "HS256"}',
        '{"alg": "none", "alg": "HS256"}',
        '{"alg": "HS256", "x": {"y": 1, "y": 1}}',
        '{"alg": "none"}',
        '{"alg": "None"}',
        '{"alg": "nOnE"}',
        '{"alg": ""}',
        '{"alg": null}',
        '{"alg": 256}',
        '{"alg": true}',
        '{"alg": ["HS256"]}',
        '{"alg": {"HS256": 1}}',
        '{"alg": "hs256"}',
        '{"alg": "HS256 "}',
        '{"alg": "HS384"}',
        '{"alg": "HS512"}',
        '{"alg": "RS256"}',
        '{"alg": "ES256K", "kid": "x"}',
        '{"alg": "EdDSA", "kid": "x"}',
        '{"alg": "HS256\\u0000"}',
        '{"alg": "HS256", "crit": ["exp"], "exp": 1}',
        '{"alg": "HS256", "crit": []}',
        '{"alg": "HS256", "crit": null}',
        '{"alg": "HS256", "b64": false}',
        '{"alg": "HS256", "b64": false, "crit": ["b64"]}',
        '{"alg": "HS256", "typ": "at+jwt"}',
        '{"alg": "HS256", "typ": "JWE"}',
        '{"alg": "HS256", "typ": "application/jwt"}',
        '{"alg": "HS256", "typ": ""}',
        '{"alg": "HS256", "typ": null}',
        '{"alg": "HS256", "typ": 5}',
        '{"alg": "HS256", "typ": ["JWT"]}',
        '{"alg": "HS256", "kid": 5}',
        '{"alg": "HS256", "kid": null}',
        '{"alg": "HS256", "kid": true}',
        '{"alg": "HS256", "kid": ["x"]}',
        '{"alg": "HS256", "kid": {}}',
        '{"alg": "HS256", "x": NaN}',
        '{"alg": "HS256", "x": "\\ud800"}',
        b'{"alg": "HS256", "x": "\xff"}',
        b'\xef\xbb\xbf{"alg": "HS256"}',
        '{"alg": "HS256"}'.encode("utf-16"),
        '{"alg": "HS256", "x": ' + "9" * 5000 + "}",
        '{"alg": "HS256", "x": ' + "[" * 201 + "]" * 201 + "}",
        "[" * 2900,
        "[" * 20_000,
    ):
        yield token(header, claims(), f"header {header[:60]!r}")


def token_claims() -> Iterator[Case]:
    contents: list[str | bytes] = [
        *("{}", "[]", "null", "", "{", '"x"'),
        json.dumps({"sub": MALLORY}),
        json.dumps({"exp": FUTURE}),
        *claims_with_each("exp", [None, True, str(FUTURE), [FUTURE], {}, ""]),
        *claims_with_each("nbf", [FUTURE, "0", None, False, [0]]),
        *claims_with_each("iat", [FUTURE, "0", None, True, []]),
        *claims_with_each("sub", [None, "", 5, True, [MALLORY], {"id": MALLORY}]),
        *claims_with_each("sub", ["x" * 256, f"{MALLORY}\0", "\0", "\ud800"]),
        *(
            f'{{"sub": "{MALLORY}", "exp": {FUTURE}, "{name}": {value}}}'
            for name in ("nbf", "iat")
            for value in ("1e999", "-1e999", "NaN", "Infinity", "9" * 5000)
        ),
        *(
            f'{{"sub": "{MALLORY}", "exp": {value}}}'
            for value in ("1e999", "-1e999", "Infinity", "NaN", "9" * 5000, "0x7fffffff", "1_0")
        ),
        f'{{"sub": "{MALLORY}", "exp": 1, "exp": {FUTURE}}}',
        f'{{"sub": "{MALLORY}", "sub": "{VICTIM}", "exp": {FUTURE}}}',
        f'{{"sub": "{VICTIM}", "sub": "{MALLORY}", "exp": {FUTURE}}}',
        f'{{"sub": "{VICTIM}", "s\\u0075b": "{MALLORY}", "exp": {FUTURE}}}',
        f'{{"sub": "{MALLORY}", "exp": {FUTURE}, "x": {{"y": 1, "y": 2}}}}',
        f'{{"sub": "{MALLORY}", "exp": {FUTURE}, "x": {"[" * 201}{"]" * 201}}}',
        claims(aud="better-auth:session-cache"),
        claims(aud=["better-auth:session-cache"]),
        claims(aud=["https://app.example", "better-auth:session-cache"]),
        claims() + "x",
        claims() + "\0",
        b'{"sub": "mallory", "exp": %d, "x": "\xff"}' % FUTURE,
        "[" * 20_000,
    ]
    for content in contents:
        yield token(HEADER, content, f"claims {content[:60]!r}")
    for past in (0, -1, 1_700_000_000.5, -(10**300)):
        expired = sign_raw(HEADER, claims(exp=past))
        yield authorization(f"Bearer {expired}", EXPIRED)
        # The answer doesn't say what else is wrong with a forged token.
        yield authorization(f"Bearer {expired[:-4]}AAAA", INVALID_TOKEN)
        yield authorization(f"Bearer {sign_raw(HEADER, claims(exp=past, sub=''))}", INVALID_TOKEN)


def other_users() -> Iterator[Case]:
    refused = partial(case, status=403, expected=FORBIDDEN)
    his = f"/api/{VICTIM}/tasks"
    body = b'{"title": "pwned", "completed": true}'
    for method, target in (
        ("GET", his),
        ("GET", f"{his}/"),
        ("GET", f"{his}/1"),
        ("GET", f"{his}/0"),
        ("GET", f"{his}?limit=x"),
        ("HEAD", his),
        ("POST", his),
        ("PUT", f"{his}/1"),
        ("DELETE", f"{his}/1"),
        ("PATCH", f"{his}/1/complete"),
        ("PATCH", f"{his}/x/complete/"),
        ("PATCH", f"{his}/1"),
        ("POST", f"{his}/bulk"),
        ("PATCH", f"{his}/bulk/"),
        ("GET", f"{his}/events"),
        ("DELETE", his),
        ("DELETE", f"{his}?status=all"),
        ("DELETE", f"{his}?ids=1,2"),
        # Both forms of the path fit, and the one with a user counts.
        ("GET", "/api/tasks/tasks"),
        ("PUT", "/api/tasks/tasks/3"),
        ("POST", "/api/tasks/tasks/bulk"),
    ):
        sent = body if method in {"POST", "PUT", "PATCH"} else b""
        yield refused(target, method, target, AUTHORIZED, JSON, body=sent)
    for body in (b"{", b"\xff", b'{"title": NaN}', b" " * 70_000):
        yield refused(body, "POST", his, AUTHORIZED, JSON, body=body)
    never = ("Content-Length: 10000000", JSON)
    yield refused("never sent", "POST", his, AUTHORIZED, *never)
    yield refused("waiting", "POST", his, AUTHORIZED, *never, "Expect: 100-continue")
    for user in (
        *("MALLORY", "Mallory", "mallory%20", "%20mallory", "mallory%00", "mallory;", "*"),
        *("mallory%0A", "m%C3%A4llory", "%ef%bd%8dallory", "mallory%E2%80%8B", "%ff", "%25"),
        *("x" * 256, "x" * 10_000, "'%20OR%20'1'='1", "%252e%252e", "mallory,victim"),
    ):
        yield refused(user, "GET", f"/api/{user}/tasks", AUTHORIZED)
    # His tasks by her path, as if they didn't exist.
    missing = partial(case, status=404, expected=NO_TASK)
    for (method, action), start, end in product(
        (("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("PATCH", "/complete")),
        (TASKS, "/api/tasks"),
        ("", "/"),
    ):
        path = f"{start}/1{action}{end}"
        sent = b'{"title": "pwned"}' if method in {"PUT", "PATCH"} else b""
        yield missing(path, method, path, AUTHORIZED, JSON, body=sent)
        if method != "GET":
            yield missing(f"{path} if", method, path, AUTHORIZED, JSON, 'If-Match: "x"', body=sent)
    sent = b'{"id": 1, "user_id": "victim"}'
    yield missing("nothing", "PUT", f"{TASKS}/2", AUTHORIZED, JSON, body=sent)
    for path in ("victim/../mallory", "victim%2F..%2Fmallory", "mallory/./", "../api/mallory"):
        yield case(path, "GET", f"/api/{path}/tasks", AUTHORIZED, status=404, expected=NOT_FOUND)


def paths_and_methods() -> Iterator[Case]:
    missing = partial(case, status=404, expected=NOT_FOUND)
    for path in (
        *("//", "/api", "/api/", "/api//tasks", "/API/mallory/tasks", "/api/mallory/Tasks"),
        *("/api/mallory", "/api/mallory/tasks//", "/api/mallory/tasks/3//", f"{HERS}/3", "/*"),
        *(f"{HERS}/complete/x", f"{TASKS}%0A", f"{HERS}/complete%0A", "/health/", "/%2e%2e/etc"),
        *("/.env", "/.git/config", "/todo.db", "/../todo.db", "/docs/../.env", "/metrics", "/redoc", "/docs/"),
        *("/docs/__init__.py", "/docs/%2e%2e/main.py", "/docs/..%2f..%2fmain.py", "/docs//etc/passwd"),
        *("/%00", "/%ff", "/%", "/%zz", "/;", "/" + "x" * 20_000),
    ):
        yield missing(path, "GET", path, AUTHORIZED)
    refused = partial(case, status=405, expected=NOT_ALLOWED)
    for method, path in (
        *product(("PUT", "PATCH", "TRACE", "QUERY"), (TASKS, f"{TASKS}/", "/api/tasks")),
        *product(("POST", "TRACE"), (HERS, f"{TASKS}/x", "/api/victim/tasks/1", "/api/tasks/3")),
        *product(("GET", "POST", "PUT", "DELETE", "PROPFIND"), (COMPLETE, "/api/tasks/3/complete")),
        *product(("GET", "PUT", "DELETE", "TRACE"), (BULK, f"{BULK}/", "/api/tasks/bulk")),
        *product(("POST", "PUT", "DELETE", "TRACE"), (EVENTS, f"{EVENTS}/", "/api/tasks/events")),
        *product(("POST", "DELETE"), ("/health", "/ready", "/openapi.json", "/", "/docs", "/docs/swagger-ui.css")),
    ):
        yield refused(path, method, path, JSON, body=b"{")


def numbers() -> Iterator[Case]:
    no_integers = ["+1", "-1", "1_0", "%201", "1%20", "1.5", "1.0", "0x1", "1e3", "a", "%00"]
    no_integers += ["%D9%A1", "%EF%BC%91", "%C2%B2", "9" * 5000, "null", "true", "1%0A", "%ff"]
    no_integers += ["1;drop", "1'--", "1%00", "--1", "Infinity", "NaN", CANARY, str(2**63)]
    refused = partial(case, status=422, expected=["path", "task_id"])
    calls = cycle([("GET", ""), ("PUT", ""), ("DELETE", ""), ("PATCH", "/complete"), ("GET", "/")])
    for text in (*no_integers, "0", "00", str(2**64), str(2**64 + 3)):
        method, end = next(calls)
        body = b'{"title": "x"}' if method == "PUT" else b""
        yield refused(f"id {text}", method, f"{TASKS}/{text}{end}", AUTHORIZED, JSON, body=body)
    for text in ("1", "001", str(2**63 - 1), str(2**31), "%31"):
        path = f"{TASKS}/{text}"
        yield case(path, "GET", path, AUTHORIZED, status=404, expected=NO_TASK)
    for name, text in product(("limit", "offset", "skip"), ["", *no_integers]):
        yield unserved("GET", f"{name}={text}", name)
    for text in ("0", "1001", "0001001"):
        yield unserved("GET", f"limit={text}", "limit")
    for text in ("", "0", "00", "1,", ",1", "1,,2", "1,%202", "1;2", "3,0", ",".join(map(str, range(1, 202)))):
        yield unserved("DELETE", f"ids={text}", "ids")
    for text in no_integers:
        yield unserved("DELETE", f"ids=3,{text}", "ids")


def unserved(method: str, query: str, name: str) -> Case:
    """A case of a query on the list that is refused, for the parameter of this name."""
    target = f"{TASKS}?{query}"
    return case(query, method, target, AUTHORIZED, status=422, expected=["query", name])


def queries() -> Iterator[Case]:
    no_booleans = ["1", "0", "True", "TRUE", "yes", "on", "t", "", "null", "%00", "truefalse", "%ff", CANARY]
    no_names = ["", "All", "null", "%00", "%ff", "title;drop", "all,pending", "-created", CANARY]
    values = {
        "status": [*no_names, "done", "true"],
        "completed": [*no_booleans, "true'%20OR%201=1--"],
        "search": ["%00", "a%00b", "%ff", "x" * 201, quote("😀" * 201), CANARY * 20],
        "sort": [*no_names, "id", "created_at", "updated,title"],
        "order": [*no_names, "ASC", "descending", "1"],
        "count": no_booleans,
        "cursor": ["", "x", "%00", "%ff", "*", "A" * 10_000, "=" * 5, CANARY, *map(quote, no_cursors())],
    }
    for name, texts in values.items():
        for text in texts:
            yield unserved("GET", f"{name}={text}", name)
    for sort, place in foreign_cursors():
        yield unserved("GET", f"sort={sort}&cursor={cursor_of(place)}", "cursor")
    for query, name in (
        *(("status=all&completed=true", "completed"), ("completed=false&status=pending", "completed")),
        *((f"cursor={cursor_of(FIRST)}&{other}=0", "cursor") for other in ("offset", "skip")),
        *((f"{name}=1&{name}=1", name) for name in ("limit", "offset", "skip", "search")),
        *(("limit=1&limit=0", "limit"), ("limit=0&limit=1", "limit"), ("sort=title&sort=title", "sort")),
        *((f"{name}=x", name) for name in ("user_id", "owner", "q", "page", "Status", "limit[]", "ids", "tag")),
        *(("%00=%00", "\0"), ("%ff", "\ufffd"), ("&&&===", ""), ("?limit=0", "?limit"), ("a=1&" * 5000, "a")),
    ):
        yield unserved("GET", query, name)
    deletions = {
        "status": ["", "&", "status=", "status=done", "status=all&status=all"],
        "completed": ["completed=1", "status=all&completed=true"],
        "ids": ["ids=3&status=all", "ids=3&completed=true", "ids=3&ids=1"],
        **{name: [f"status=all&{name}=1"] for name in ("limit", "search", "id", "ids[]", "user_id", "sort")},
    }
    for name, texts in deletions.items():
        for text in texts:
            yield unserved("DELETE", text, name)


FIRST = ["created", "asc", 1, 1]


def cursor_of(place: Any) -> str:
    """A cursor as the service makes it."""
    content = place if isinstance(place, str) else json.dumps(place, ensure_ascii=False, separators=(",", ":"))
    return urlsafe_b64encode(content.encode()).decode().rstrip("=")


def no_cursors() -> Iterator[str]:
    """What isn't a cursor of the default order."""
    good = cursor_of(FIRST)
    yield from (good + "=", good[:-1], good[1:], good + "A", good[::-1], f" {good}", f"{good},{good}", good + "\n")
    yield cursor_of(json.dumps(FIRST))  # with blanks
    yield from map(cursor_of, ("null", "5", '"x"', "{}", "[]", "[[]]", "[" * 5000, "9" * 5000, "NaN"))
    for place in (
        *(FIRST[:3], [*FIRST, 1], [FIRST], ["created", "desc", 1, 1], ["created", "asc", 1, 2]),
        *(["id", "asc", 1, 1], ["title", "asc", "x", 1], [None] * 4, [0] * 4, [["created"], "asc", 1, 1]),
        *(["created", "asc", key, key] for key in (0, -1, 2**63, 10**400, None, True, "1", 1.0, [1], {"id": 1})),
        *(["created", "asc", key, 1] for key in (True, 1.0, "1", None)),
    ):
        yield cursor_of(place)


def foreign_cursors() -> Iterator[tuple[str, Any]]:
    """Places that aren't in a list of this order, since no task has such a key."""
    key: Any
    for key in (
        *(None, 1, True, [], {}, "", "x", '"2026-01-01T00:00:00Z"', "2026-01-01", "2026-01-01T00:00:00", "\0"),
        *("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00z"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z"),
    ):
        yield "updated", ["updated", "asc", key, 1]
    for key in (None, 1, True, [], {}, "", "\0", "a\0b", "x" * 10_000):
        yield "title", ["title", "asc", key, 1]
    yield "title", '["title","asc","\\ud800",1]'
    yield "title", FIRST
    yield "updated", ["title", "asc", "x", 1]
    yield "title&order=desc", ["title", "asc", "x", 1]


def conditions() -> Iterator[Case]:
    """Tags that are none are refused, and tags that aren't the task's don't match."""
    writes = (("PUT", HERS), ("PATCH", HERS), ("DELETE", HERS), ("PATCH", COMPLETE))
    calls = cycle(writes)

    def conditional(line: bytes, status: int, expected: str | list[str]) -> Case:
        method, target = next(calls)
        body = b"" if method == "DELETE" else b'{"completed": true}'
        return case(line, method, target, AUTHORIZED, JSON, line, body=body, status=status, expected=expected)

    no_lists = ["", " ", ",", "x", "x" * 50_000, '"', '"""', '"a" "b"', '"a""b"', '"a b"', "'a'", "**", "*,*", '*, "a"']
    no_lists += ['"a", *', "W/", "W/a", 'w/"a"', 'W /"a"', 'W/ "a"', '"a', 'a"', '"a";', '"a"; "b"', '"a"\t"b"', CANARY]
    no_lists += ["2026-01-01T00:00:00Z", ", ".join(['"a"'] * 17), '"a", ' * 5000]
    for text in no_lists:
        line = f"If-Match: {text}".encode("latin-1")
        yield conditional(line, 422, ["header", "If-Match"])
    others = ['"x"', '""', 'W/""', 'W/"00000000-1"', '"*"', '"\';DROP/**/TABLE/**/task;--"', '"a", "b"', '"a",,"b",']
    others += [", ".join(['"a"'] * 16), f'"{"x" * 50_000}"', f'"{CANARY}"', '"\xff"']
    for time in (
        *("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01", "20260101T000000Z", "2026-W01-1"),
        *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00", "1e999"),
        *("9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00+00:00", "2026-01-01T24:00:00Z", "2026-02-30T00:00:00Z"),
    ):
        others += [f'"{time}"', f'W/"{time}"']
    for text in others:
        line = f"If-Match: {text}".encode("latin-1")
        yield conditional(line, 412, CHANGED)
    for method, target in writes:
        yield case(
            "if twice", method, target, AUTHORIZED, 'If-Match: "a"', 'If-Match: "b"', JSON, body=b"{}", status=412
        )
    # What is wrong with the body or the path is told first.
    for line in (b"If-Match: x", b'If-Match: "x"'):
        refused = partial(case, status=422)
        yield refused(line, "PUT", HERS, AUTHORIZED, JSON, line, body=b'{"title": ""}', expected=["body", "title"])
        yield refused(line, "PATCH", COMPLETE, AUTHORIZED, JSON, line, body=b"{", expected=["body"])
        yield refused(line, "DELETE", f"{TASKS}/0", AUTHORIZED, line, expected=["path", "task_id"])
    refused = partial(case, status=422, expected=["header", "Idempotency-Key"])
    for (method, target, body), text in product(
        (("POST", TASKS, b'{"title": "x"}'), ("POST", BULK, b'{"tasks": [{"title": "x"}]}')),
        ("", " ", "a b", "a\tb", "x" * 256, "x" * 50_000, "\xe9", "a\r\nIdempotency-Key: a", "a\r\nIdempotency-Key: b"),
    ):
        line = f"Idempotency-Key: {text}".encode("latin-1")
        yield refused(line, method, target, AUTHORIZED, JSON, line, body=body)


def unsound_bodies() -> Iterator[Case]:
    """Bodies that are no JSON, or contain at any depth what can't be stored or answered."""
    refused = partial(case, status=422, expected=["body"])
    other = b'{"title": "x", "other": %s}'
    for body in (
        *(b"", b"{", b'{"title": "x"', b'{"title": "x"} trailing', b'{"title": "x"}{}'),
        *(b"title=x", b"{'title': 'x'}", b'{"title": "x",}', b'{title: "x"}', b"/**/{}"),
        *(b"null", b"[]", b'[{"title": "x"}]', b'"title"', b"5", b"true", b"\0", b" "),
        *(b"\xff\xfe", b'{"title": "\xff"}', b'{"title": "\xed\xa0\x80"}', b'{"\xff": 1}'),
        *(b'{"title": "\xc0\x80"}', b'{"title": "x\x00"}', b'{"title": "\n"}'),
        *(b"\xef\xbb\xbf{}", '{"title": "x"}'.encode("utf-16"), '{"title": "x"}'.encode("utf-32")),
        *(b'{"title": "\\ud800"}', b'{"title": "x", "\\ud800": 1}', b'{"title": ["\\ud800"]}'),
        *(b'{"title": "\\u0000"}', b'{"title": ["\\u0000"]}', b'{"title": {"\\u0000": 1}}'),
        b'{"title": "' + b"x" * 300 + b'\\u0000"}',
        b'{"title": "x", "description": "' + b"x" * 2000 + b'\\ud800"}',
        b'{"title": "x", "\\u0000": 1}',
        json.dumps({CANARY: "\0", "title": "x"}).encode(),
        json.dumps(CANARY).encode(),
        b'{"title": "x", "completed": "\\u0000"}',
        b'{"title": NaN}',
        *(b'{"title": Infinity}', b'{"title": 1e999}', b'{"title": "x", "completed": 1e999}'),
        *(
            other % value
            for value in (
                *(b'"\\udfff"', b'["\\u0000"]', b'{"a": {"\\u0000": 1}}', b"NaN", b"-Infinity"),
                *(b"1e999", b'{"deep": [-1e999]}', b"01", b"+1", b".5", b"0x1", b"1e", b"1_0"),
                *(b"9" * 5000, b"9" * 1000, b"-" + b"9" * 1000, b"[0." + b"1" * 1000 + b"]"),
                *(b"1e-" + b"9" * 1000, b"[" * 20_000 + b"]" * 20_000, b'"\\x"', b"\\u0031"),
            )
        ),
        *(b'{"title": ' + b"9" * 5000 + b"}", b"9" * 60_000, b"-"),
        *(b"[" * 20_000, b"[" * 60_000, b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
    ):
        for method, target in WRITES:
            if body or target != COMPLETE:
                yield refused(body[:60], method, target, AUTHORIZED, JSON, body=body)


def wrong_fields() -> Iterator[Case]:
    titles: list[Any] = ["", " \t\n\u3000\x1c", "x" * 201, "😀" * 201, f" {'x' * 201} "]
    titles += [None, 5, 0.5, True, [], {}, ["x"], [[]], {"title": "x"}]
    titles += [CANARY * 50, [CANARY], {CANARY: CANARY}]
    descriptions: list[Any] = ["x" * 1001, "😀" * 1001, " " * 1001, 5, False, [], {}, ["x"]]
    descriptions += [CANARY * 100, [CANARY], {CANARY: CANARY}]
    no_booleans: list[Any] = [0, 1, "true", "false", "", CANARY, 1.0, [], {}, None, [True]]
    fields = [
        *product(["title"], titles),
        *product(["description"], descriptions),
        *product(["completed"], no_booleans),
    ]
    for name, value in fields:
        task = {"title": "fine"} | {name: value}
        refused = partial(case, status=422, expected=["body", name])
        for method, target in WRITES[:3]:
            yield refused(f"{target[-4:]} {task}", method, target, AUTHORIZED, JSON, body=json.dumps(task).encode())
        body = json.dumps({"tasks": [{"title": "fine"}, task, {"title": "fine"}]}).encode()
        refused = partial(case, status=422, expected=["body", "tasks", 1, name])
        yield refused(f"bulk {task}", "POST", BULK, AUTHORIZED, JSON, body=body)
    for value in no_booleans:
        for target, others in ((COMPLETE, {}), (BULK, {"ids": [3]})):
            body = json.dumps(others | {"completed": value}).encode()
            refused = partial(case, status=422, expected=["body", "completed"])
            yield refused(body, "PATCH", target, AUTHORIZED, JSON, body=body)
    refused = partial(case, status=422, expected=["body", "title"])
    for body in (b"{}", b'{"Title": "x"}', b'{"description": "x"}', b'{"title ": "x"}'):
        yield refused(body, "POST", TASKS, AUTHORIZED, JSON, body=body)
    no_lists: list[Any] = [None, [], {}, "3", 3, True, CANARY]
    task_lists = [*no_lists, [{"title": "x"}] * 101]
    id_lists = [*no_lists, [3] * 1001]
    items: list[Any] = [None, "x", 5, [], [{"title": "x"}], CANARY]
    no_ids: list[Any] = [0, -1, 2**63, 2**64 + 3, 3.0, 3.5, "3", True, None, [3], {"id": 3}, CANARY]
    for method, name, values, loc in (
        ("POST", "tasks", task_lists, []),
        ("POST", "tasks", [[{"title": "x"}, item] for item in items], [1]),
        ("PATCH", "ids", id_lists, []),
        ("PATCH", "ids", [[3, no_id] for no_id in no_ids], [1]),
    ):
        for value in values:
            body = json.dumps({name: value, "completed": True}).encode()
            yield case(body, method, BULK, AUTHORIZED, JSON, body=body, status=422, expected=["body", name, *loc])
    for method, body, name in (
        *(("POST", b"{}", "tasks"), ("POST", b'{"Tasks": []}', "tasks"), ("PATCH", b'{"completed": true}', "ids")),
        *(("PATCH", b'{"ids": [3]}', "completed"), ("PATCH", b'{"ids": [3], "Completed": true}', "completed")),
    ):
        yield case(body, method, BULK, AUTHORIZED, JSON, body=body, status=422, expected=["body", name])


def types_and_sizes() -> Iterator[Case]:
    refused = partial(case, status=415, expected=NOT_JSON)
    body = b'{"title": "x"}'
    for line in (
        *("Content-Type:", "Content-Type: text/plain", "Content-Type: */*", "Content-Type: json"),
        *("Content-Type: application/x-www-form-urlencoded", "Content-Type: application/jsonp"),
        *("Content-Type: application/merge-patch+json", "Content-Type: application/json5"),
        *("Content-Type: application/json, text/plain", "Content-Type: text/plain, application/json"),
        *("Content-Type: multipart/form-data; boundary=x", "Content-Type: ;application/json"),
        *("X-Content-Type: application/json", "Content-Type: application/json/x"),
        *(b"Content-Type: \xff", b"Content-Type: application/json\xa0", "Content-Type: " + "a/" * 9000),
        *(f"{JSON}\r\n{JSON}", f"{JSON}\r\nContent-Type:"),
        *("Content-Type: text/plain;a=application/json", "Content-Type: application\\json"),
    ):
        for method, target in WRITES:
            yield refused(line, method, target, AUTHORIZED, line, body=body)
    refused = partial(case, status=413, expected=TOO_LARGE)
    large = body.ljust(65537)
    waiting = ("Content-Length: 70000", "Expect: 100-continue")
    chunks = (b"fff\r\n" + b" " * 0xFFF + b"\r\n") * 17
    for method, target in WRITES:
        yield refused("a byte too many", method, target, AUTHORIZED, JSON, body=large)
        for length in (65537, 10**7, 2**53, 2**63 - 1):
            declared = f"Content-Length: {length}"
            yield refused(f"declared {length}", method, target, AUTHORIZED, JSON, declared)
        yield refused("waiting", method, target, AUTHORIZED, JSON, *waiting)
        sent = head(method, target, AUTHORIZED, JSON, "Transfer-Encoding: chunked") + chunks
        yield Case(f"413 {method} chunks without an end", sent, 413, TOO_LARGE)


def taken() -> Iterator[Case]:
    """Requests that look like attacks and are served, with Mallory's own tasks."""
    yield case("encoded", "GET", "/api/%6d%61llory/tasks", AUTHORIZED, status=200)
    yield case("header", "GET", TASKS, AUTHORIZED, "X-User-Id: victim", status=200)
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        yield case(name, "GET", HERS, AUTHORIZED, f"{name}: DELETE", status=200)
    for line in (
        *("X-Request-ID: a b", "X-Request-ID: " + "x" * 129, b"X-Request-ID: \xff", "X-Request-ID: "),
        *(b"Origin: \xff", "Origin: null", "Cookie: " + "a=b; " * 2000, "Range: bytes=0-1"),
        *("If-Modified-Since: never", "Accept: text/html", "Accept-Encoding: x;q=\xff".encode()),
        *(b"User-Agent: \xff\xfe", "Forwarded: for=victim", "X-Forwarded-Proto: \xe9".encode()),
        *("Content-Length: 0", "Transfer-Encoding: chunked\r\nX-Rest: 1"),
    ):
        request = head("GET", HERS, AUTHORIZED, line, "Connection: close")
        end = b"0\r\n\r\n" if b"chunked" in request else b""
        yield Case(f"200 GET {str(line)[:60]}", request + end, 200)
    for content in (
        {"title": "'; DROP TABLE task; --"},
        {"title": "x", "description": "' OR user_id = 'victim"},
        {"title": "%s %(owner)s :owner $1 {owner} ?"},
        {"title": "x", "id": 1, "user_id": VICTIM, "created_at": "x", "updated_at": None},
        {"title": "x", "completed": False, "created_at": None},
        {"title": "x", "__proto__": {"user_id": VICTIM}, "owner": VICTIM, "now": 0},
        {"title": "<script>alert(1)</script>"},
        {"title": "\u202e\u200b\ufffe\U0010ffff"},
        {"title": " " * 5000 + "x" * 200 + "\u3000" * 5000},
    ):
        body = json.dumps(content).encode()
        yield case(content, "POST", TASKS, AUTHORIZED, JSON, body=body, status=201)
    changes: list[dict[str, Any]] = [
        {},
        {"id": 1, "user_id": VICTIM, "updated_at": "2000-01-01T00:00:00Z"},
        {"completed": True, "user_id": VICTIM, "id": 2},
        {"description": None, "x": {"y": [None, 1e308, -1, "z"]}},
    ]
    for change in changes:
        body = json.dumps(change).encode()
        yield case(change, "PUT", HERS, AUTHORIZED, JSON, body=body, status=200)
    body = b'{"title": "a", "title": "b"}'
    yield case("twice", "PUT", HERS, AUTHORIZED, JSON, body=body, status=200)
    for body in (b"", b"{}", b'{"completed": true, "user_id": "victim"}', b'{"x": [null]}'):
        yield case(f"body {body[:20]!r}", "PATCH", COMPLETE, AUTHORIZED, JSON, body=body, status=200)
    # The victim's tasks, by their ids among hers.
    for body in (
        b'{"ids": [1, 2], "completed": true}',
        b'{"ids": [3, 1, 3, 2, 9223372036854775807], "completed": true}',
    ):
        yield case(body, "PATCH", BULK, AUTHORIZED, JSON, body=body, status=200)
    for items in ([{"title": "x", "id": 1, "user_id": VICTIM}], [{"title": "'; --", "number": 1, "key": "k"}] * 100):
        body = json.dumps({"tasks": items, "user_id": VICTIM, "ids": [1]}).encode()
        yield case(f"{len(items)} tasks", "POST", BULK, AUTHORIZED, JSON, body=body, status=201)


def taken_queries_and_tags() -> Iterator[Case]:
    for query in (
        *("", "limit=1", "limit=1000", "limit=00005", "offset=0", f"offset={2**63 - 1}", f"skip={2**63 - 1}"),
        *(f"limit=1000&offset={2**63 - 1}", "offset=0&skip=5", "search=%20", "search=", "search=%25_%5C"),
        *("search=" + quote("'; DROP TABLE task; --"), "search=" + quote("😀" * 200), "status=all&count=true", "&&"),
        *("sort=title&order=desc&count=false", f"limit=1&cursor={cursor_of(FIRST)}", "search=Victim&count=true"),
        *(f"cursor={cursor_of(['created', 'asc', 2**63 - 1, 2**63 - 1])}", f"cursor={cursor_of(FIRST)}&status=pending"),
        *(
            f"sort=title&cursor={cursor_of(['title', 'asc', title, 1])}"
            for title in ("a", "\x01", "\U0010ffff", "' OR 1")
        ),
        *(f"sort=updated&cursor={cursor_of(['updated', 'asc', time, 1])}" for time in TIMES),
    ):
        for target in (TASKS, "/api/tasks"):
            yield case(query, "GET", f"{target}?{query}", AUTHORIZED, status=200)
    for line in (
        *("", ",", "x", '"', '"a" "b"', '"a b"', "W/", 'w/"a"', '*, "a"', '"*"', '"x"', 'W/"00000000-1"', 'W/"-"'),
        *('"x", ' * 5000, f'"{"x" * 50_000}"', f'W/"00000000-{"9" * 5000}"', '"2026-01-01T00:00:00Z"', '"\xff"'),
    ):
        header = f"If-None-Match: {line}".encode("latin-1")
        for target in (TASKS, HERS):
            yield case(header, "GET", target, AUTHORIZED, header, status=200)
            yield case(header, "HEAD", target, AUTHORIZED, header, "Range: bytes=0-1", status=200)
    for target in (TASKS, HERS, "/api/tasks/3/"):
        yield case("any", "GET", target, AUTHORIZED, "If-None-Match: *", status=304)
    yield case("any", "PUT", HERS, AUTHORIZED, JSON, "If-Match: *", body=b"{}", status=200)
    # Other endpoints take no query.
    yield case("?limit=x", "GET", f"{HERS}?limit=x&status=", AUTHORIZED, status=200)
    yield case("?status=x", "POST", f"{TASKS}?status=x", AUTHORIZED, JSON, body=b'{"title": "x"}', status=201)
    yield case("?ids=1", "PUT", f"{HERS}?ids=1", AUTHORIZED, JSON, body=b"{}", status=200)


def cleared() -> Iterator[Case]:
    """The last requests, which delete what Mallory has, and nothing else."""
    for query in ("ids=1,2", f"ids=1,3,2,3,{2**63 - 1}", "status=completed", "completed=false", "status=all"):
        yield case(query, "DELETE", f"{TASKS}?{query}", AUTHORIZED, status=200)


CORPUS = [
    *without_a_token(),
    *malformed_tokens(),
    *token_headers(),
    *token_claims(),
    *other_users(),
    *paths_and_methods(),
    *numbers(),
    *queries(),
    *conditions(),
    *unsound_bodies(),
    *wrong_fields(),
    *types_and_sizes(),
    *taken(),
    *taken_queries_and_tags(),
    *cleared(),
]
