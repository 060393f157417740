"""Allowed origins, patterns of them, and the WARNING for any other."""
# [Task]: T120 [From]: specs/api/rest-endpoints.md

import re
from collections.abc import AsyncIterator

import pytest

from middleware.cors import REMEMBERED_ORIGINS
from origins import pattern_of
from tests.databases import MakeDatabase
from tests.service import Service, make_settings, running


@pytest.fixture(scope="module")
async def patterned(make_database: MakeDatabase) -> AsyncIterator[Service]:
    settings = make_settings(
        database_url=await make_database("sqlite"),
        allowed_origins=[
            *("https://my-app-*.vercel.app", "https://*.example.com:8443"),
            *("https://*-git-*-x*.a.b.example", "https://exact.example"),
        ],
    )
    async with running(settings) as service:
        yield service


@pytest.mark.requirement("T120")
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://my-app-x1-y.vercel.app", True),
        ("https://my-app--.vercel.app", True),
        ("https://my-app-.vercel.app", False),
        ("https://my-app-x.y.vercel.app", False),
        ("https://my-app-x_y.vercel.app", False),
        ("https://my-app-é.vercel.app", False),
        ("https://my-app-x.vercel.app.", False),
        ("https://my-app-x.vercel.app:8443", False),
        ("https://my-app-x.vercel.app/", False),
        ("https://my-app-x.vercelxapp", False),
        ("https://my-app-X.vercel.app", False),
        ("http://my-app-x.vercel.app", False),
        ("https://evil.example/https://my-app-x.vercel.app", False),
        ("https://my-app-x.vercel.app.evil.example", False),
        ("https://my-app-x.vercel.app@evil.example", False),
        ("https://my-app-x.vercel.app\thttps://evil.example", False),
        ("https://my-app-*.vercel.app", False),
        ("https://a.example.com:8443", True),
        ("https://a.b.example.com:8443", False),
        ("https://example.com:8443", False),
        ("https://.example.com:8443", False),
        ("https://a.example.com", False),
        ("https://a.example.com:84430", False),
        ("https://a-git-b-c-xd.a.b.example", True),
        ("https://a-git-git-b-xx-x1.a.b.example", True),
        ("https://a-git-b-x.a.b.example", False),
        ("https://-git-b-xd.a.b.example", False),
        ("https://a-git--xd.a.b.example", False),
        ("https://exact.example", True),
        ("null", False),
        ("", False),
    ],
)
async def test_patterns_stay_inside_a_label(
    patterned: Service,
    origin: str,
    allowed: bool,  # noqa: FBT001 - a case
) -> None:
    headers = {b"Origin": origin.encode("latin-1")}
    preflight = await patterned.client.options(
        "/api/x/tasks", headers=headers | {b"Access-Control-Request-Method": b"POST"}
    )
    simple = await patterned.client.get("/health", headers=headers)

    for response in (preflight, simple):
        answered = response.headers.get("Access-Control-Allow-Origin")
        assert answered == (origin if allowed else None)
        assert "Origin" in response.headers["Vary"]
    assert preflight.status_code == (200 if allowed else 204)


@pytest.mark.requirement("T120")
async def test_an_origin_that_is_not_allowed_is_logged_once(
    patterned: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [r.getMessage() for r in caplog.records if "ALLOWED_ORIGINS" in r.getMessage()]

    for _ in range(3):
        await patterned.client.get("/health", headers={"Origin": "https://one.example"})
        await patterned.client.options(
            "/health", headers={"Origin": "https://one.example", "Access-Control-Request-Method": "GET"}
        )
        await patterned.client.get("/health", headers={"Origin": "https://exact.example"})
        # As a browser does on /docs.
        await patterned.client.post("/health", headers={"Origin": "http://testserver"})
    (line,) = told()
    assert line.startswith("A browser's origin is not allowed: 'https://one.example'. ")
    assert {r.levelname for r in caplog.records if "ALLOWED_ORIGINS" in r.getMessage()} == {"WARNING"}

    await patterned.client.get("/health", headers={"Origin": "https://two.example"})
    await patterned.client.get("/health", headers={b"Origin": b"https://\x1b[31m\xff" + b"x" * 9000})
    assert len(told()) == 3
    assert told()[2].isascii()
    assert told()[2].isprintable()
    assert len(told()[2]) < 250


@pytest.mark.requirement("T120")
def test_a_pattern_takes_linear_time() -> None:
    pattern = re.compile(pattern_of("https://*-*-*-*-*-*-*-*-x.a.b.example"))

    # With backtracking, this would never end.
    assert pattern.fullmatch("https://" + "a-" * 30_000 + "y.a.b.example") is None
    assert pattern.fullmatch("https://" + "a-" * 30_000 + "x.a.b.example")


@pytest.mark.requirement("T120")
async def test_remembered_origins_are_bounded(patterned: Service, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(REMEMBERED_ORIGINS + 1):
        await patterned.client.get("/health", headers={"Origin": f"https://{number}.example"})
    caplog.clear()

    for number in (REMEMBERED_ORIGINS, 0):
        await patterned.client.get("/health", headers={"Origin": f"https://{number}.example"})
    assert [r.args for r in caplog.records if r.levelname == "WARNING"] == [("'https://0.example'",)]
