"""The reverse proxies of deploy/, run for real in front of the service."""
# [Task]: T176 [From]: specs/features/hosting.md

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.server import INHERITED, ROOT, pick_port, running_process
from tests.waiting import BOUND_SECONDS

PATH = f"{os.environ['PATH']}:/usr/sbin"
PROGRAMS = {name: shutil.which(name, path=PATH) for name in ("nginx", "caddy")}
HOST = "api.example.com"
REPLICAS = ("127.0.0.1:8000", "127.0.0.1:8001")


def configuration(name: str, services: Sequence[str]) -> str:
    """The file of deploy/ in front of these services, of which it names two."""
    text = (ROOT / "deploy" / {"nginx": "nginx.conf", "caddy": "Caddyfile"}[name]).read_text()
    for replica, service in zip(REPLICAS, services, strict=True):
        assert replica in text
        text = text.replace(replica, service.removeprefix("http://"))
    return text


def nginx_configuration(folder: Path, text: str, port: int) -> str:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = re.sub(r"(ssl_certificate) .*", rf"\1 {folder}/cert.pem;", text)
    text = re.sub(r"(ssl_certificate_key) .*", rf"\1 {folder}/key.pem;", text)
    assert "listen 443 ssl http2;" in text
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
    return (
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{text}\n}}"
    )


def caddy_configuration(folder: Path, text: str, port: int) -> str:
    assert f"\n{HOST} {{" in text
    site = f"https://127.0.0.1:{port} {{\n\ttls {folder}/cert.pem {folder}/key.pem"
    # Neither its port for commands nor the one that leads to HTTPS.
    options = (
        "{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_sni 127.0.0.1\n\tlog {\n\t\tlevel ERROR\n\t}\n}\n"
    )
    return options + text.replace(f"{HOST} {{", site)


@asynccontextmanager
async def reverse_proxy(
    name: str, folder: Path, *services: str, replacing: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[str]:
    """The origin of a proxy in front of one or two services, with this folder's certificate, and with these parts of
    its file replaced.
    """
    program = PROGRAMS[name]
    assert program
    port = pick_port()
    text = configuration(name, (*services, *services)[:2])
    for old, new in replacing:
        assert old in text
        text = text.replace(old, new)
    file = folder / f"{name}.conf"
    if name == "nginx":
        file.write_text(nginx_configuration(folder, text, port))
        command = [program, "-e", "stderr", "-p", f"{folder}", "-c", f"{file}"]
    else:
        file.write_text(caddy_configuration(folder, text, port))
        command = [program, "run", "--adapter", "caddyfile", "--config", f"{file}"]
    environment = INHERITED | {"HOME": f"{folder}", "XDG_DATA_HOME": f"{folder}", "XDG_CONFIG_HOME": f"{folder}"}
    async with running_process(*command, cwd=folder, env=environment) as process:
        async with asyncio.timeout(BOUND_SECONDS):
            while not await is_open(port):
                assert process.process.returncode is None, process.output
                await asyncio.sleep(0.01)
        yield f"https://127.0.0.1:{port}"


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
