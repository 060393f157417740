"""The fetch of the published keys, the explanations of its failures, and proxies."""
# [Task]: T026, T122, T123 [From]: specs/features/authentication.md

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from auth.key_client import KeyClient, NoKeyList, explain
from errors import StartupError
from tests.databases import MakeDatabase
from tests.keys import ORIGIN, USER, KeyServer, published_token
from tests.server import Process, pick_port, uvicorn_process
from tests.service import bearer, make_settings, running

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(content: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\n")
        writer.write(content)
        await writer.drain()
        writer.close()

    return answer


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@asynccontextmanager
async def listening(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def failure(url: str) -> str:
    """The explanation of a failed fetch."""
    client = KeyClient(url, "todo-api/9.9")
    try:
        with pytest.raises(NoKeyList) as error:
            await client.fetch()
    finally:
        await client.close()
    return str(error.value)


@pytest.mark.requirement("T122")
async def test_the_request_names_the_service(make_database: MakeDatabase, key_server: KeyServer) -> None:
    settings = make_settings(
        database_url=await make_database("sqlite"), better_auth_url=ORIGIN, jwks_url=key_server.url
    )
    async with running(settings) as service:
        answer = await service.client.get(f"/api/{USER}/tasks", headers=bearer(published_token()))
        version = service.app.version

    assert answer.status_code == 200
    assert f"\r\nUser-Agent: todo-api/{version}\r\n".encode() in key_server.request
    assert b"httpx" not in key_server.request


@pytest.mark.requirement("T122")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", "status 403: let the User-Agent todo-api/9.9 in, without"),
        (b"HTTP/1.1 401 No\r\n\r\n", "status 401: let the User-Agent"),
        (b"HTTP/1.1 404 No\r\n\r\n", "status 404: see that Better Auth's jwt plugin is on"),
        (b"HTTP/1.1 500 No\r\n\r\n", "status 500: see "),
        (b"HTTP/1.1 304 No\r\n\r\n", "status 304: see "),
        (b"HTTP/1.1 302 No\r\n\r\n", "status 302: see "),
        (b"HTTP/1.1 302 No\r\nLocation: http://[::1\r\n\r\n", "no whole HTTP answer: see "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "no whole HTTP answer: see "),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no whole HTTP answer: see that it is the right port"),
        (b"", "no whole HTTP answer: see "),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000, "the answer is longer than 256 KiB: see "),
    ],
    ids=lambda value: value[:40],
)
async def test_a_failure_says_why(answer: bytes, reason: str) -> None:
    async with listening(answering(answer)) as port:
        assert (await failure(f"http://127.0.0.1:{port}/")).startswith(reason)


@pytest.mark.requirement("T122")
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.example/keys?token=secret#secret", "https://other.example/keys,"),
        ("https://user:secret@other.example/", "https://other.example/,"),
        ("//other.example:8080/a%0Ab", "http://other.example:8080/a%0Ab,"),
        ("/login?secret", "http://127.0.0.1:PORT/login,"),
        ("keys", "http://127.0.0.1:PORT/api/keys,"),
        ("https://ex\xe4mple/\xe4", "https://"),
        ("https://other.example/" + "x" * 5000, "https://other.example/xxx"),
    ],
    ids=lambda value: value[:40],
)
async def test_a_redirect_is_told_and_not_followed(location: str, target: str) -> None:
    head = f"HTTP/1.1 307 Moved\r\nLocation: {location}\r\n\r\n".encode("latin-1")
    async with listening(answering(head)) as port:
        reason = await failure(f"http://127.0.0.1:{port}/api/jwks")

    assert reason.startswith(f"status 307, a redirect to {target.replace('PORT', str(port))}")
    assert "secret" not in reason
    assert reason.isprintable()
    assert len(reason) < 300


@pytest.mark.requirement("T122")
async def test_a_silent_key_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auth.key_client.FETCH_TIMEOUT_SECONDS", 0.2)
    async with listening(never) as port:
        assert (await failure(f"http://127.0.0.1:{port}/")).startswith("no whole answer in 5 s: ")


@pytest.mark.requirement("T122")
async def test_an_unreachable_key_server_is_explained() -> None:
    assert (await failure("http://127.0.0.1:9/")).startswith("the connection was refused or ")
    assert (await failure("https://keys.invalid/")).startswith("its host name isn't known: ")


@pytest.mark.requirement("T122")
def test_an_unforeseen_error_is_named_by_its_class() -> None:
    assert explain(httpx.ConnectError("secret")) == ("ConnectError: see that it can be reached from here")


@pytest.mark.requirement("T122", "T123")
async def test_a_private_ca_is_trusted_only_if_it_is_named(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(answering(b"HTTP/1.1 404 No\r\n\r\n"), tls) as port:
        url = f"https://127.0.0.1:{port}/"
        reason = await failure(url)
        assert reason.startswith("its certificate isn't trusted (self")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert (await failure(url)).startswith("status 404")
    async with listening(answering(b"HTTP/1.1 404 No\r\n\r\n")) as port:
        assert (await failure(f"https://127.0.0.1:{port}/")).startswith("TLS failed (")


@pytest.mark.requirement("T122")
async def test_the_log_names_the_settings(
    make_database: MakeDatabase, key_server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    key_server.status, key_server.headers = 302, "Location: https://other.example/x?secret\r\n"
    settings = make_settings(
        database_url=await make_database("sqlite"), better_auth_url=ORIGIN, jwks_url=key_server.url
    )
    async with running(settings) as service:
        await service.client.get(f"/api/{USER}/tasks", headers=bearer(published_token()))

    (line,) = [record for record in caplog.records if record.name == "auth.jwks"]
    assert line.levelname == "WARNING"
    assert line.getMessage() == (
        "The published keys could not be fetched from JWKS_URL (by default BETTER_AUTH_URL +"
        " /api/auth/jwks): status 302, a redirect to https://other.example/x, which is not"
        " followed: set where the keys are themselves"
    )


@pytest.mark.requirement("T122")
@pytest.mark.parametrize(
    ("url", "warns"),
    [
        *[("http://keys.example/jwks", True), ("http://10.0.0.1/", True), ("http://[fd00::1]/", True)],
        *[("https://keys.example/jwks", False), ("http://localhost:3000/", False)],
        *[("http://127.0.0.2:3000/", False), ("http://[::1]:3000/", False)],
    ],
)
async def test_keys_over_remote_http_are_warned_of_once(
    make_database: MakeDatabase, caplog: pytest.LogCaptureFixture, url: str, *, warns: bool
) -> None:
    settings = make_settings(database_url=await make_database("sqlite"), better_auth_url=ORIGIN, jwks_url=url)
    async with running(settings):
        pass

    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == warns
    assert all("http://" in record.getMessage() for record in warnings)


@pytest.fixture
async def proxy() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that refuses every request, and the heads of these."""
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with listening(refuse) as port:
        yield f"127.0.0.1:{port}", heads


@pytest.mark.requirement("T123")
@pytest.mark.parametrize(
    ("variable", "url", "line"),
    [
        ("HTTP_PROXY", "http://keys.example/jwks", b"GET http://keys.example/jwks "),
        ("HTTPS_PROXY", "https://keys.example/jwks", b"CONNECT keys.example:443 "),
        ("ALL_PROXY", "http://keys.example:80/jwks", b"GET http://keys.example/jwks "),
        ("ALL_PROXY", "https://keys.example:8443/jwks", b"CONNECT keys.example:8443 "),
        ("https_proxy", "https://keys.example/jwks", b"CONNECT keys.example:443 "),
    ],
)
@pytest.mark.parametrize("form", ["{}", "http://{}", "http://user:hunter2@{}/"])
async def test_the_list_is_fetched_by_the_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: tuple[str, list[bytes]], variable: str, url: str, line: bytes, form: str
) -> None:
    address, heads = proxy
    monkeypatch.setenv(variable, form.format(address))
    # Variables that are meant for others do no harm.
    monkeypatch.setenv("NO_PROXY", "fd07:b51a:cc66:f0::/64,[::1],10.0.0.0/8,.local,http://[,*.x")
    if variable == "HTTPS_PROXY":
        monkeypatch.setenv("HTTP_PROXY", "http://[")
        monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")

    reason = await failure(url)

    assert reason.startswith(f"by the proxy of {variable.upper()}, ")
    assert address not in reason
    (head,) = heads
    assert head.startswith(line)
    assert (b"Basic dXNlcjpodW50ZXIy" in head) == ("hunter2" in form)
    assert ("todo-api/9.9" in head.decode()) == line.startswith(b"GET")


@pytest.mark.requirement("T123")
@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("http://127.0.0.1:{}/", "127.0.0.1"),
        ("http://127.0.0.1:{}/", "fd07:b51a:cc66:f0::/64, 127.0.0.1 "),
        ("http://127.0.0.1:{}/", "*"),
        ("http://LOCALHOST:{}/", "localhost"),
        ("http://app.localhost:{}/", ".localhost"),
        ("http://[::1]:{}/", "[::1]"),
        ("http://[::1]:{}/", "::1"),
    ],
)
async def test_no_proxy_names_who_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, proxy: tuple[str, list[bytes]], url: str, hosts: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy[0])
    monkeypatch.setenv("NO_PROXY", hosts)

    reason = await failure(url.format(pick_port()))

    assert not reason.startswith("by the proxy")
    assert proxy[1] == []


@pytest.mark.requirement("T123")
async def test_an_unusable_proxy_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (
        *("socks5://u:hunter2@127.0.0.1:1", "ftp://u:hunter2@x", "http://u:hunter2@["),
        *("http://u:hunter2@", "http://u:hunter2@x:0", "http://u:hunter2@x:99999", "http://x\udcff"),
    ):
        monkeypatch.setenv("ALL_PROXY", address)
        with pytest.raises(StartupError) as error:
            KeyClient("https://keys.example/", "todo-api/9.9")
        assert "ALL_PROXY is no http:// or https:// URL of a proxy" in str(error.value)
        assert "hunter2" not in str(error.value)


@asynccontextmanager
async def process_with(folder: Path, key_server: KeyServer, **environment: str) -> AsyncIterator[Process]:
    origin = key_server.url.removesuffix("/api/auth/jwks")
    values = {"DATABASE_URL": f"sqlite:///{folder}/todo.db", "BETTER_AUTH_URL": origin}
    async with uvicorn_process(folder, **values, **environment) as process:
        yield process


async def status_of(process: Process, key_server: KeyServer) -> int:
    origin = key_server.url.removesuffix("/api/auth/jwks")
    async with httpx.AsyncClient(base_url=await process.url(), trust_env=False) as client:
        token = published_token(iss=origin, aud=origin)
        return (await client.get(f"/api/{USER}/tasks", headers=bearer(token))).status_code


@pytest.mark.requirement("T123")
@pytest.mark.parametrize(
    "environment",
    [
        {"NO_PROXY": "fd07:b51a:cc66:f0::/64"},
        {"NO_PROXY": "[::1]", "no_proxy": "http://["},
        {"HTTPS_PROXY": "http://[", "https_proxy": "garbage"},
        {"ALL_PROXY": "socks5://127.0.0.1:1", "NO_PROXY": "127.0.0.1"},
        {"SSL_CERT_DIR": "/nonexistent"},
        {"HOME": "/nonexistent", "NETRC": "/nonexistent"},
        {"HOME": "home"},
    ],
    ids=str,
)
async def test_it_starts_whatever_libraries_read(
    tmp_path: Path, key_server: KeyServer, environment: dict[str, str]
) -> None:
    # A folder, which even root can't read as a file.
    (tmp_path / "home" / ".netrc").mkdir(parents=True)
    async with process_with(tmp_path, key_server, **environment) as process:
        assert await status_of(process, key_server) == 200
    assert "Traceback" not in process.output


@pytest.mark.requirement("T123")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("all_proxy", "socks5h://127.0.0.1:1"),
        ("HTTP_PROXY", "http://["),
        ("SSL_CERT_FILE", "/nonexistent"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("SSLKEYLOGFILE", "/nonexistent/x"),
    ],
)
async def test_an_unusable_variable_refuses_the_start_in_a_line(
    tmp_path: Path, key_server: KeyServer, name: str, value: str
) -> None:
    async with process_with(tmp_path, key_server, **{name: value}) as process:
        await process.wait_for("startup failed|running on")
        assert "running on" not in process.output
        assert await process.end() != 0
    assert "Traceback" not in process.output
    (line,) = [line for line in process.output.splitlines() if name.upper() in line]
    assert "The published keys can't be fetched. " in line


@pytest.mark.requirement("T122", "T123")
async def test_each_failure_names_the_proxy(tmp_path: Path, key_server: KeyServer) -> None:
    async with process_with(tmp_path, key_server, HTTP_PROXY="garbage") as process:
        assert await status_of(process, key_server) == 503
    assert "/api/auth/jwks): by the proxy of HTTP_PROXY, its host name isn't known" in process.output
