"""Fetches the published keys, and explains why it couldn't."""
# [Task]: T026, T122, T123 [From]: specs/features/authentication.md

import asyncio
import logging
import os
import socket
import ssl
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from errors import StartupError
from origins import is_loopback

logger = logging.getLogger(__name__)

FETCH_TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 256 * 1024
SHOWN_CHARACTERS = 200

# OpenSSL and Python read these when they create a TLS context.
TLS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

# What is wrong and what to do, by the first known error in the chain.
CAUSES: dict[type[BaseException], str] = {
    TimeoutError: f"no whole answer in {FETCH_TIMEOUT_SECONDS:g} s: see that it is up, and near",
    ssl.SSLCertVerificationError: "its certificate isn't trusted ({}): SSL_CERT_FILE names the CAs",
    ssl.SSLError: "TLS failed ({}): see that it is the right port, and http or https",
    socket.gaierror: "its host name isn't known: see that it is spelt right",
    ConnectionError: "the connection was refused or broken off: see that it is up",
    httpx.ProxyError: "the proxy refused: see to its settings, or name the host in NO_PROXY",
    httpx.ProtocolError: "no whole HTTP answer: see that it is the right port, and http or https",
}


class NoKeyList(Exception):
    """The key server gave no list of keys. The message, meant for the log, says why and what to do."""


class KeyClient:
    """Fetches the list of keys from one URL, through the environment's proxy for it.

    Raises `StartupError` if the environment names an unusable proxy or file.
    """

    def __init__(self, url: str, user_agent: str) -> None:
        self._url = url
        self._user_agent = user_agent
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            logger.warning(
                "The published keys come from another machine by http://, and can be replaced on the way:"
                " set JWKS_URL (or BETTER_AUTH_URL) to an https:// URL"
            )
        self._proxy_variable, proxy = find_proxy(url)
        self._client = httpx.AsyncClient(
            transport=open_transport(self._proxy_variable, proxy),
            # Firewalls refuse a library's name, and a compressed list could be of any size when decompressed.
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def fetch(self) -> bytes:
        """Returns the list unparsed. Raises `NoKeyList`."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                return await self._download()
        except (NoKeyList, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            reason = explain(error)
            if self._proxy_variable:
                reason = f"by the proxy of {self._proxy_variable}, {reason}"
            raise NoKeyList(reason) from None

    async def _download(self) -> bytes:
        content = bytearray()
        async with self._client.stream("GET", self._url) as response:
            if not response.is_success:
                raise NoKeyList(self._explain_status(response))
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_RESPONSE_BYTES:
                    raise NoKeyList("the answer is longer than 256 KiB: see that it is the list")
        return bytes(content)

    def _explain_status(self, response: httpx.Response) -> str:
        status = f"status {response.status_code}"
        if response.next_request is not None:
            url = response.next_request.url
            target = quote(f"{url.scheme}://{url.netloc.decode()}{url.path}", safe="/:[]")[:SHOWN_CHARACTERS]
            return f"{status}, a redirect to {target}, which is not followed: set where the keys are themselves"
        if response.status_code in {401, 403, 429}:
            return f"{status}: let the User-Agent {self._user_agent} in, without a login"
        return f"{status}: see that Better Auth's jwt plugin is on, and what the key server logs"


def explain(error: BaseException) -> str:
    """Says what is wrong and what to do, in the words of `CAUSES` or of a `NoKeyList`."""
    if isinstance(error, NoKeyList):
        return str(error)
    cause: BaseException | None = error
    while cause is not None:
        for kind, words in CAUSES.items():
            if isinstance(cause, kind):
                return words.format(getattr(cause, "verify_message", getattr(cause, "reason", "")))
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: see that it can be reached from here"


def find_proxy(url: str) -> tuple[str, str]:
    """Returns the variable that names a proxy for this URL, and the proxy; both are empty if there is none.

    httpx would read all such variables, and fail on some that are for others (`NO_PROXY=fd07:b51a:cc66:f0::/64`).
    """
    parts, proxies = urlsplit(url), getproxies()
    scheme = parts.scheme if proxies.get(parts.scheme) else "all"
    # NO_PROXY may have an IPv6 address with its brackets or without.
    if not (proxy := proxies.get(scheme)) or proxy_bypass(parts.netloc) or proxy_bypass(parts.hostname or ""):
        return "", ""
    return f"{scheme.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}"


def open_transport(variable: str, proxy: str) -> httpx.AsyncHTTPTransport:
    reason = (
        f"{variable} is no http:// or https:// URL of a proxy, and no other can be used: mend it, unset it, or name"
        " the key server's host in NO_PROXY"
    )
    try:
        # httpx would accept `http://[`, and ports that don't exist.
        if not proxy or (urlsplit(proxy).hostname and urlsplit(proxy).port != 0):
            return httpx.AsyncHTTPTransport(proxy=proxy or None)
    except OSError as error:
        names = " or ".join(filter(os.environ.get, TLS_VARIABLES))
        reason = f"{names} names a file that can't be used ({error.strerror}): name another, or unset it"
    except (ImportError, ValueError, httpx.InvalidURL):
        pass
    raise StartupError(f"The published keys can't be fetched. {reason}.")
