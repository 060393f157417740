"""Hostile requests, each with the answer that it must get.

Mallory has an account, a good token and one task (3). She wants the victim's tasks (1 and 2), an
answer that tells her something, or a 500. A way to attack that anybody finds becomes a case here.
"""
# [Task]: T020, T063 [From]: specs/features/authentication.md, specs/api/rest-endpoints.md

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, product
from typing import Any

from tests.leaks import SECRET
from tests.server import head
from tests.service import make_token, sign_raw

MALLORY = "mallory"
VICTIM = "victim"
TASKS = f"/api/{MALLORY}/tasks"
HERS = f"{TASKS}/3"
WRITES = (("POST", TASKS), ("PUT", HERS))
# Nothing here depends on the clock: the corpus is the same in every run.
FUTURE = 4_102_444_800  # the year 2100
# Sent wherever an answer might repeat it.
CANARY = "do-not-repeat"

NOT_AUTHENTICATED = "Not authenticated"
INVALID_TOKEN = "Invalid token"
EXPIRED = "Token has expired"
FORBIDDEN = "Cannot access another user's tasks"
NOT_FOUND = "Not Found"
NO_TASK = "Task not found"
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
    expected: str | list[str] | None = None


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
    expected: str | list[str] | None = None,
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
    for path in (f"{TASKS}/0", f"{TASKS}/x?limit=x", "/api/%00/tasks", "/api/%ff/tasks"):
        yield refused(path, "GET", path)
    for body in (b"{", b"\xff", b"[" * 60_000, b'{"title": NaN}', b" " * 70_000):
        yield refused(body, "POST", TASKS, JSON, body=body)
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
    ):
        sent = body if method in {"POST", "PUT"} else b""
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
    for method, end in product(("GET", "PUT", "DELETE", "PATCH"), ("", "/")):
        path = f"{TASKS}/1/complete{end}" if method == "PATCH" else f"{TASKS}/1{end}"
        sent = b'{"title": "pwned"}' if method == "PUT" else b""
        yield missing(path, method, path, AUTHORIZED, JSON, body=sent)
    sent = b'{"id": 1, "user_id": "victim"}'
    yield missing("nothing", "PUT", f"{TASKS}/2", AUTHORIZED, JSON, body=sent)
    for path in ("victim/../mallory", "victim%2F..%2Fmallory", "mallory/./", "../api/mallory"):
        yield case(path, "GET", f"/api/{path}/tasks", AUTHORIZED, status=404, expected=NOT_FOUND)


def paths_and_methods() -> Iterator[Case]:
    missing = partial(case, status=404, expected=NOT_FOUND)
    for path in (
        *("/", "//", "/api", "/api/", "/api//tasks", "/API/mallory/tasks", "/api/mallory/Tasks"),
        *("/api/mallory", "/api/mallory/tasks//", "/api/mallory/tasks/3//", f"{HERS}/3", "/*"),
        *(f"{HERS}/complete/x", f"{TASKS}%0A", f"{HERS}/complete%0A", "/health/", "/%2e%2e/etc"),
        *("/.env", "/.git/config", "/todo.db", "/../todo.db", "/docs/../.env", "/metrics"),
        *("/%00", "/%ff", "/%", "/%zz", "/?", "/;", "/" + "x" * 20_000),
    ):
        yield missing(path, "GET", path, AUTHORIZED)
    refused = partial(case, status=405, expected=NOT_ALLOWED)
    for method, path in (
        *product(("PUT", "PATCH", "DELETE", "TRACE", "QUERY"), (TASKS, f"{TASKS}/")),
        *product(("POST", "PATCH", "TRACE"), (HERS, f"{TASKS}/x", "/api/victim/tasks/1")),
        *product(("GET", "POST", "PUT", "DELETE", "PROPFIND"), (f"{HERS}/complete",)),
        *product(("POST", "DELETE"), ("/health", "/ready", "/openapi.json")),
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
    queries = list(product(("limit", "offset", "skip"), ["", *no_integers]))
    queries += [("limit", "0"), ("limit", "1001"), ("limit", "0001001"), ("limit", "1&limit=0")]
    queries += [
        ("completed", text) for text in ("1", "0", "True", "TRUE", "yes", "on", "t", "", "null", "%00", "truefalse")
    ]
    queries += [("completed", "true'%20OR%201=1--"), ("completed", CANARY), ("completed", "%ff")]
    for name, text in queries:
        query = f"{TASKS}?{name}={text}"
        yield case(f"{name} {text}", "GET", query, AUTHORIZED, status=422, expected=["query", name])
    for query in (
        *("limit=1", "limit=1000", "offset=0", f"offset={2**63 - 1}", f"skip={2**63 - 1}"),
        *(f"limit=1000&offset={2**63 - 1}", "user_id=victim", "owner=victim", "%00=%00", "%ff"),
        *("limit[]=5", "&&&===", "a=1&" * 5000, "limit=0&limit=1", "sort=id;drop", "?limit=0"),
    ):
        yield case(query, "GET", f"{TASKS}?{query}", AUTHORIZED, status=200)


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
            yield refused(body[:60], method, target, AUTHORIZED, JSON, body=body)


def wrong_fields() -> Iterator[Case]:
    titles: list[Any] = ["", " \t\n\u3000\x1c", "x" * 201, "😀" * 201, f" {'x' * 201} "]
    titles += [None, 5, 0.5, True, [], {}, ["x"], [[]], {"title": "x"}]
    titles += [CANARY * 50, [CANARY], {CANARY: CANARY}]
    descriptions: list[Any] = ["x" * 1001, "😀" * 1001, " " * 1001, 5, False, [], {}, ["x"]]
    descriptions += [CANARY * 100, [CANARY], {CANARY: CANARY}]
    fields = [*product(["title"], titles), *product(["description"], descriptions)]
    for name, value in fields:
        body = json.dumps({"title": "fine"} | {name: value}).encode()
        refused = partial(case, status=422, expected=["body", name])
        for method, target in WRITES:
            yield refused(body, method, target, AUTHORIZED, JSON, body=body)
    no_booleans: list[Any] = [0, 1, "true", "false", "", CANARY, 1.0, [], {}, None, [True]]
    refused = partial(case, status=422, expected=["body", "completed"])
    for value in no_booleans:
        body = json.dumps({"completed": value}).encode()
        yield refused(body, "PUT", HERS, AUTHORIZED, JSON, body=body)
    refused = partial(case, status=422, expected=["body", "title"])
    for body in (b"{}", b'{"Title": "x"}', b'{"description": "x"}', b'{"title ": "x"}'):
        yield refused(body, "POST", TASKS, AUTHORIZED, JSON, body=body)


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
        {"title": "x", "completed": "ignored on POST"},
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
    # The body of a PATCH is never read.
    path = f"{HERS}/complete"
    for body in (b"", b"{", b"\xff", b'{"completed": "x", "user_id": "victim"}', b" " * 70_000):
        yield case(f"body {body[:9]!r}", "PATCH", path, AUTHORIZED, JSON, body=body, status=200)


CORPUS = [
    *without_a_token(),
    *malformed_tokens(),
    *token_headers(),
    *token_claims(),
    *other_users(),
    *paths_and_methods(),
    *numbers(),
    *unsound_bodies(),
    *wrong_fields(),
    *types_and_sizes(),
    *taken(),
]
