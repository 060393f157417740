"""The page that describes the API, Swagger UI, with all that it loads."""
# [Task]: T173 [From]: specs/api/rest-endpoints.md

from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

from fastapi import APIRouter, Request, Response, status
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import RedirectResponse

from routes.conditional import ANY, read_tags
from routes.paging import path_of

FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon-32x32.png": "image/png"}
# Only its files are used: its routes have absolute URLs, which are wrong behind a proxy.
PACKAGE = distribution("fastapi-swagger")
FILE_HEADERS = {"ETag": f'"{PACKAGE.version}"', "Cache-Control": "no-cache"}
# The page holds a token, and can reach no other host with it.
POLICY = {"Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'"}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def get_root(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{path_of(request)}docs")


@router.get("/docs")
async def get_docs(request: Request) -> Response:
    """The page, with relative URLs, which are right behind any proxy."""
    script, style, icon = (f"docs/{name}" for name in FILES)
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=request.app.title,
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url=icon,
        # `validatorUrl` is a service on the internet by default.
        swagger_ui_parameters={"persistAuthorization": True, "validatorUrl": None},
    )
    page.headers.update(POLICY)
    return page


def get_file(request: Request) -> Response:
    """A file of Swagger UI. Starlette's own would answer a bad `Range` in plain text, and tag a file by its time,
    which differs between hosts.
    """
    tags = read_tags(request, "if-none-match")
    if tags == ANY or FILE_HEADERS["ETag"] in tags:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=FILE_HEADERS)
    name = request.scope["path"].rpartition("/")[2]
    return Response(read(name), media_type=FILES[name], headers=FILE_HEADERS)


# One copy for all clients, however slowly they take it.
@lru_cache
def read(name: str) -> bytes:
    return Path(str(PACKAGE.locate_file(f"fastapi_swagger/resources/{name}"))).read_bytes()


for name in FILES:
    router.get(f"/docs/{name}")(get_file)
