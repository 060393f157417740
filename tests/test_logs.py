# [Task]: T070, T073, T074 [From]: specs/api/rest-endpoints.md
"""Request ids and the log."""

import logging
import re
import sys

import pytest

from logs import LineFormatter, configure_logging, request_id
from tests.leaks import watch
from tests.service import Service, User, bearer, make_token


@pytest.fixture
def printed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """The log from INFO on, its text as it is printed."""
    monkeypatch.setattr(caplog.handler, "formatter", LineFormatter())
    caplog.set_level(logging.INFO)
    return caplog


LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ([\w.]+) - ([A-Z]+) - (.*)")


@pytest.mark.requirement("T070")
@pytest.mark.parametrize("inbound", ["a", "A-b_c.9", "x" * 128])
async def test_a_sound_request_id_is_kept(service: Service, inbound: str) -> None:
    response = await service.client.get("/health", headers={"X-Request-ID": inbound})

    assert response.headers["X-Request-ID"] == inbound


@pytest.mark.requirement("T070")
@pytest.mark.parametrize("inbound", ["", "x" * 129, "a b", "a/b", "ä".encode(), "a\t", "<script>"])
async def test_another_is_replaced(service: Service, inbound: str | bytes) -> None:
    headers = [("X-Request-ID", inbound)]
    responses = [
        await service.client.get("/health", headers=headers)  # type: ignore[arg-type] # str or bytes
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
async def test_each_request_is_a_line_of_its_level(
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

    lines = [record for record in caplog.records if record.name == "middleware.request_context"]
    (line,) = lines
    assert line.levelname == level
    full_path = path if path.startswith("/api/") else user.tasks_path + path
    assert re.fullmatch(rf"GET {full_path} {status} \d+\.\d ms", line.getMessage())


@pytest.mark.requirement("T073", "T074")
async def test_a_line_holds_no_line_break_query_or_token(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = make_token("somebody")

    await service.client.get("/api/%0Aforged/tasks?secret=1", headers=bearer(token))
    await service.client.get("/api/somebody/tasks", headers=bearer(token[:-3]))

    assert "/api/%0Aforged/tasks 403" in caplog.text
    assert "secret" not in caplog.text
    for part in token.split("."):
        assert part not in caplog.text


@pytest.mark.requirement("T073")
def test_the_format(capsys: pytest.CaptureFixture[str]) -> None:
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
async def test_a_token_where_it_has_no_place_is_left_out(
    service: Service, printed: pytest.LogCaptureFixture
) -> None:
    token = make_token("x")

    headers = {"X-Request-ID": token[:128]}
    await service.client.get(f"/api/{token}/tasks", headers=headers)
    logging.getLogger("some.module").error("Unforeseen", exc_info=ValueError(token))

    assert "[[token]] GET /api/[token]/tasks 401" in printed.text
    assert "ValueError: [token]\n" in printed.text
    assert not any(part in printed.text for part in token.split("."))
    # It is the client's own doing; the watch reads what was left out.
    assert watch.take()


@pytest.mark.requirement("T073")
async def test_all_lines_of_a_request_carry_its_id(
    alice: User, printed: pytest.LogCaptureFixture
) -> None:
    await alice.get("/x", headers={"X-Request-ID": "mine", "Authorization": "Bearer x"})

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
