"""The page at /docs: all that it loads comes from the service."""
# [Task]: T173 [From]: specs/api/rest-endpoints.md

import re
from urllib.parse import urljoin

import httpx
import pytest

from tests.service import Service

TYPES = ["text/css; charset=utf-8", "image/png", "text/javascript; charset=utf-8", "application/json"]


def links_of(page: str) -> list[str]:
    """What the page loads, in its order: style, icon, script, document."""
    return re.findall(r"""(?:href="|src="|url: ')([^"']+)""", page)


@pytest.mark.requirement("T173")
@pytest.mark.parametrize(("root_path", "prefix"), [("", ""), ("/v1", "/v1"), ("/v1", "")])
async def test_the_root_leads_to_a_page_with_all_it_loads(plain_service: Service, root_path: str, prefix: str) -> None:
    transport = httpx.ASGITransport(plain_service.app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for method in ("GET", "HEAD"):
            root = await client.request(method, f"{prefix}/")
            assert (root.status_code, root.headers["Location"]) == (307, f"{root_path}/docs")
        # The proxy takes its prefix off, or doesn't.
        page = await client.get(f"{prefix}/docs")
        loaded = [await client.get(urljoin(f"{prefix}/docs", link)) for link in links_of(page.text)]

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert [answer.status_code for answer in loaded] == [200] * 4
    assert [answer.headers["Content-Type"] for answer in loaded] == TYPES


@pytest.mark.requirement("T173")
async def test_the_page_reaches_no_other_host(plain_service: Service) -> None:
    page = await plain_service.client.get("/docs")

    assert "//" not in re.sub(r"\s//\s.*|<!--.*", "", page.text)
    assert '"validatorUrl": null' in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self' 'unsafe-inline' data:;")


@pytest.mark.requirement("T173")
async def test_the_page_keeps_its_token(plain_service: Service) -> None:
    assert '"persistAuthorization": true' in (await plain_service.client.get("/docs")).text


@pytest.mark.requirement("T173")
async def test_a_file_that_is_known_is_304(plain_service: Service) -> None:
    client = plain_service.client
    for link in links_of((await client.get("/docs")).text)[:3]:
        path = f"/{link}"
        first = await client.get(path)
        tag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "no-cache"
        for tags in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await client.get(path, headers={"If-None-Match": tags})
            assert (again.status_code, again.content) == (304, b"")
            assert (again.headers["ETag"], again.headers["Cache-Control"]) == (tag, "no-cache")
        for headers in ({"If-None-Match": '"x"'}, {"Range": "bytes=x"}, {"Range": "bytes=9999999-"}, {"Host": "x/?"}):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.content) == (200, first.content)


@pytest.mark.requirement("T173")
@pytest.mark.parametrize("name", ["", "x", "__init__.py", "..%2fmain.py", "%2e%2e/__init__.py", "swagger-ui.css/"])
async def test_no_other_file_of_the_package_is_served(plain_service: Service, name: str) -> None:
    for path in (f"/docs/{name}", "/redoc", "/docs/oauth2-redirect"):
        assert (await plain_service.client.get(path)).status_code == 404
