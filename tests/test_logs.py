"""Request ids and the log."""
# [Task]: T070, T073, T074, T081, T127 [From]: specs/api/rest-endpoints.md

import logging
import re
import sys
from base64 import urlsafe_b64encode
from itertools import product

import pytest
from starlette.responses import Response

from logs import LineFormatter, configure_logging, redact, request_id
from tests.leaks import watch
from tests.service import Service, StartService, bearer, make_token, sign_raw


@pytest.fixture
def printed(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The log from INFO up, as it is printed."""
    monkeypatch.setattr(caplog.handler, "formatter", LineFormatter())
    caplog.set_level(logging.INFO)
    return caplog


LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ([\w.]+) - ([A-Z]+) - (.*)")


@pytest.mark.requirement("T070")
@pytest.mark.parametrize("inbound", ["a", "A-b_c.9", "x" * 128])
async def test_a_valid_request_id_is_kept(plain_service: Service, inbound: str) -> None:
    response = await plain_service.client.get("/health", headers={"X-Request-ID": inbound})

    assert response.headers["X-Request-ID"] == inbound


@pytest.mark.requirement("T070")
@pytest.mark.parametrize("inbound", ["mine\t", " mine ", "\t mine"])
async def test_white_space_around_a_request_id_is_dropped(plain_service: Service, inbound: str) -> None:
    response = await plain_service.client.get("/health", headers={"X-Request-ID": inbound})

    assert response.headers["X-Request-ID"] == "mine"


@pytest.mark.requirement("T070")
@pytest.mark.parametrize("inbound", ["", " ", "x" * 129, "a b", "a/b", "ä".encode(), "<script>"])
async def test_an_invalid_request_id_is_replaced(plain_service: Service, inbound: str | bytes) -> None:
    headers = [("X-Request-ID", inbound)]
    responses = [
        await plain_service.client.get("/health", headers=headers)  # type: ignore[arg-type] # str or bytes
        for _ in range(2)
    ]

    ids = {response.headers["X-Request-ID"] for response in responses}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", made) for made in ids)


@pytest.mark.requirement("T074")
@pytest.mark.parametrize(
    ("path", "token", "status", "level"),
    [
        ("", True, 200, "INFO"),
        ("/x", True, 422, "INFO"),
        ("/4611686018427387904", True, 404, "WARNING"),
        ("", False, 401, "WARNING"),
        ("/api/somebody/tasks", True, 403, "WARNING"),
    ],
)
async def test_each_request_is_one_line_at_its_level(
    service: Service,
    caplog: pytest.LogCaptureFixture,
    path: str,
    token: bool,  # noqa: FBT001 - a case
    status: int,
    level: str,
) -> None:
    caplog.set_level(logging.INFO)
    user = service.user()
    headers = {} if token else {"Authorization": ""}

    assert (await user.get(path, headers=headers)).status_code == status

    lines = [record for record in caplog.records if record.name == "middleware.request_log"]
    (line,) = lines
    assert line.levelname == level
    full_path = path if path.startswith("/api/") else user.tasks_path + path
    assert re.fullmatch(rf"GET {full_path} {status} \d+\.\d ms", line.getMessage())


@pytest.mark.requirement("T074")
@pytest.mark.parametrize(("status", "level"), [(429, "WARNING"), (500, "ERROR"), (503, "ERROR"), (409, "INFO")])
async def test_refusals_are_warnings_and_failures_errors(
    caplog: pytest.LogCaptureFixture, status: int, level: str, start: StartService
) -> None:
    caplog.set_level(logging.INFO)
    service = await start()

    @service.app.get("/here")
    async def here() -> Response:
        return Response(status_code=status)

    await service.client.get("/here")

    (line,) = [one for one in caplog.records if one.name == "middleware.request_log"]
    assert (line.levelname, line.getMessage().split()[:3]) == (level, ["GET", "/here", str(status)])


@pytest.mark.requirement("T073", "T074")
async def test_a_line_holds_no_line_break_query_or_token(
    plain_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = make_token("somebody")

    await plain_service.client.get("/api/%0Aforged/tasks?secret=1", headers=bearer(token))
    await plain_service.client.get("/api/somebody/tasks", headers=bearer(token[:-3]))

    assert "/api/%0Aforged/tasks 403" in caplog.text
    assert "secret" not in caplog.text
    for part in token.split("."):
        assert part not in caplog.text


@pytest.mark.requirement("T073")
def test_every_logger_has_the_one_format(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    uvicorn_loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.access")]
    before = root.handlers[:], root.level, [logger.propagate for logger in uvicorn_loggers]
    try:
        configure_logging("INFO")
        logging.getLogger("some.module").info("outside")
        reset = request_id.set("id-1")
        logging.getLogger("some.module").warning("inside")
        logging.getLogger("uvicorn.error").info("the server's")
        request_id.reset(reset)
        logging.getLogger("uvicorn.access").info("doubled")
        logging.getLogger("some.module").debug("too fine")
    finally:
        root.handlers, level, propagates = before
        root.setLevel(level)
        for logger, propagate in zip(uvicorn_loggers, propagates, strict=True):
            logger.propagate = propagate

    lines = [LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    assert [line and line.groups() for line in lines] == [
        ("some.module", "INFO", "outside"),
        ("some.module", "WARNING", "[id-1] inside"),
        ("uvicorn.error", "INFO", "[id-1] the server's"),
    ]


@pytest.mark.requirement("T073")
def test_a_traceback_follows_its_line() -> None:
    try:
        int("no number")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "p", 1, "Unforeseen", None, info)

    first, second, *_, last = LineFormatter().format(record).splitlines()

    assert LINE.fullmatch(first)
    assert second == "Traceback (most recent call last):"
    assert last.startswith("ValueError: invalid literal")


@pytest.mark.requirement("T081")
async def test_a_token_in_a_path_id_or_error_is_redacted(
    plain_service: Service, printed: pytest.LogCaptureFixture
) -> None:
    token = make_token("x")

    headers = {"X-Request-ID": token[:128]}
    await plain_service.client.get(f"/api/{token}/tasks", headers=headers)
    logging.getLogger("some.module").error("Unforeseen", exc_info=ValueError(token))

    assert "[[token]] GET /api/[token]/tasks 401" in printed.text
    assert "ValueError: [token]\n" in printed.text
    assert not any(part in printed.text for part in token.split("."))
    # The client sent it by mistake; the watch reads the line before redaction.
    assert watch.take()


@pytest.mark.requirement("T073")
async def test_all_lines_of_a_request_carry_its_id(plain_service: Service, printed: pytest.LogCaptureFixture) -> None:
    await plain_service.user().get("/x", headers={"X-Request-ID": "mine", "Authorization": "Bearer x"})

    lines = printed.text.splitlines()
    assert len(lines) == 2
    assert all(" - [mine] " in line for line in lines)


@pytest.mark.requirement("T073")
def test_a_line_keeps_its_exception_and_its_stack() -> None:
    record = logging.LogRecord("here", logging.ERROR, "", 0, "It %s", ("failed",), None)
    try:
        int("no number")
    except ValueError:
        record.exc_info = sys.exc_info()
    record.stack_info = "Stack (most recent call last):\n  somewhere"

    first, *rest = LineFormatter().format(record).splitlines()

    assert first.endswith(" - here - ERROR - It failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-3].startswith("ValueError: ")
    assert rest[-2:] == ["Stack (most recent call last):", "  somewhere"]


def line_of(message: str, error: Exception | None = None) -> str:
    """Formats a record as it is printed."""
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("here", logging.ERROR, "", 0, message, None, info)
    return LineFormatter().format(record)


@pytest.mark.requirement("T127")
@pytest.mark.parametrize("letter", ["x", "%2F", "ä", "\N{FAMILY}", "\udc80", "e", "%25"])
def test_no_line_is_longer_than_two_kilobytes(letter: str) -> None:
    text = letter * (60_000 // len(letter))

    printed = line_of(text, ValueError(f"first {text}\nsecond {text}"))

    lines = printed.encode(errors="backslashreplace").split(b"\n")
    assert [len(line) > 1980 for line in lines] == [True, True, True]
    assert all(len(line) <= 2000 and line.endswith(b" [cut]") for line in lines)
    assert line_of("x" * 1900).endswith("x" * 1900)


@pytest.mark.requirement("T074", "T127")
async def test_the_line_of_a_huge_path_is_bounded(plain_service: Service, printed: pytest.LogCaptureFixture) -> None:
    # The client refuses so long a URL.
    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    async def send(_: object) -> None:
        pass

    path = "/" + "\xe9" * 30_000
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": b"", "query_string": b""}
    await plain_service.app(scope | {"headers": []}, receive, send)

    (line,) = printed.text.splitlines()
    assert " GET /%C3%A9%C3%A9" in line
    assert len(line) <= 2000


def encode(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


SPACES = ["".join(some) for count in range(4) for some in product(" \t\r\n", repeat=count)]


@pytest.mark.requirement("T081")
@pytest.mark.parametrize("within", ["", " ", "\t", "\r\n"])
@pytest.mark.parametrize("around", ["%s", "/api/%s/tasks", "Bearer %s, x", "a=%s", "/%%3D%s", "/%%253D%s"])
def test_a_token_is_redacted_however_its_json_is_spaced(within: str, around: str) -> None:
    for before in (*SPACES, " " * 30):
        token = sign_raw(f'{before}{{{within}"alg":"HS256"}}', f'{within}{{"sub":"x","exp":1}}')
        header_length = token.index(".")

        for length in (header_length, header_length + 10, len(token) - 40, len(token)):
            shown = line_of(around % token[:length])
            assert "[token]" in shown
            assert not any(part in shown for part in token[:length].split(".") if part)


@pytest.mark.requirement("T081")
@pytest.mark.parametrize("dot", [".", "%2E", "%2e", "%252E", "%25252e"])
@pytest.mark.parametrize("header", ['{"alg":"HS256"}', ' {"alg":"HS256"}', "no JSON at all"])
def test_anything_shaped_like_a_token_is_redacted(dot: str, header: str) -> None:
    token = sign_raw(header, '{"sub":"x"}').replace(".", dot)

    assert redact(f"/{token}/") == "/[token]/"
    assert redact(f"glued_{token}") in {"[token]", "glued_[token]"}


@pytest.mark.requirement("T127")
@pytest.mark.parametrize(
    "piece", ["a", "a.", f"{'a' * 16}.", "ICAg", f"{'ICAg' * 10}.", "%25", "25", "eyJ", "eyJ.", "-", "IHs"]
)
@pytest.mark.parametrize("before", ["", "%", f"{'a' * 16}.a."])
def test_a_token_is_looked_for_in_one_pass(before: str, piece: str) -> None:
    # A million characters, of which each looks as if a token began there. Read again from each,
    # they would never come to an end.
    redact(f"{before}{piece * (1_000_000 // len(piece))} {'x' * 43}")


@pytest.mark.requirement("T081")
def test_cutting_a_line_leaves_no_part_of_a_token() -> None:
    token = sign_raw(' {"alg":"HS256"}', '{"sub":"x"}')
    parts = token.split(".")

    for length in range(1700, 2100):
        line = line_of("/" * length + token)
        assert not any(part in line for part in parts)
        assert encode(' {"alg')[:6] not in line


@pytest.mark.requirement("T081")
@pytest.mark.parametrize(
    "text",
    [
        "middleware.request_log.RequestLog",
        "sqlalchemy.dialects.postgresql.asyncpg.AsyncAdapt_asyncpg_dbapi.ProgrammingError",
        "ep-cool-darkness-a1b2c3d4-pooler.c-2.us-east-1.aws.neon.tech",
        "aws-0-eu-central-1.pooler.supabase.com",
        "todo-api-6d5f7c9b8-x2x4z.todo-api.production.svc.cluster.local",
        "site-packages/prometheus_client-0.26.0.dist-info/METADATA",
        "0123456789abcdef0123456789abcdef",
        "5d41402abc4b2a76b9719d911017c592ae2b1c0d5d41402abc4b2a76b9719d91",
        "018f3a5c-7b1e-7c3d-9e2f-0123456789ab",
        "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1d",
        "/api/aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1d/tasks/1/complete",
        "ForeignKeyActionOfSomeTable",
        "keyAlgorithmsThatAreKnown",
        "reworked_in_a_release_before",
        "IHsomething",
        "3.11.7.final.0",
    ],
)
def test_names_that_look_like_tokens_stay(text: str) -> None:
    assert redact(text) == text
    assert redact(f"Something of {text}, {text} and {text}.x") == (f"Something of {text}, {text} and {text}.x")
