"""Origins in settings, in the form that browsers send, and patterns of origins."""
# [Task]: T069, T078, T120 [From]: specs/api/rest-endpoints.md

import re
from contextlib import suppress
from ipaddress import ip_address

import httpx

# A URL with a host in ASCII, and without a user name, query or fragment.
HTTP_URL = re.compile(r"(?ai)https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]*)?(/[^?# ]*)?\??#?")
# `*` may be in any label of the host but the last two.
PATTERN = re.compile(r"https?://([a-z0-9_*-]+\.)+[a-z0-9_-]+\.[a-z0-9_-]+(:[0-9]+)?")
# The characters that `*` matches.
WILD = "[a-z0-9-]+"


def origin_of(url: str) -> str | None:
    """Returns the serialised origin (RFC 6454, section 6.2) of an http or https URL, None for anything else."""
    if url.isprintable() and HTTP_URL.fullmatch(url):
        with suppress(httpx.InvalidURL):
            parts = httpx.URL(url.lower())  # whose default port is that of a scheme in lower case
            if (parts.port or 0) < 2**16:
                return f"{parts.scheme}://{parts.netloc.decode()}"
    return None


def is_allowable(entry: str) -> bool:
    """Whether an entry is an origin, perhaps with `*` in labels of its host other than the last two."""
    filled = entry.replace("*", "x")
    return origin_of(filled) == filled and ("*" not in entry or PATTERN.fullmatch(entry) is not None)


def pattern_of(entry: str) -> str:
    """Returns the regular expression of an entry; `*` matches letters, digits and hyphens within one label.

    Matching is linear in a label's length: an atomic group settles the text after each `*` but the last on its first
    occurrence.
    """
    pattern = re.sub(r"\\\*([^*.]*?)(?=\\\*)", rf"(?>{WILD}?\1)", re.escape(entry))
    return pattern.replace(r"\*", WILD)


def is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    if not host or host.startswith("/") or host.lower() == "localhost":
        return True
    return is_address(host) and ip_address(host).is_loopback
