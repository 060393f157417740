"""URLs and origins in settings: as a browser sends them, and patterns of them."""
# [Task]: T069, T078, T120 [From]: specs/api/rest-endpoints.md

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import httpx

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
# What `*` stands for.
WILD = "[a-z0-9-]+"


def is_fetchable(url: str) -> bool:
    """Whether httpx will take it; `urlsplit` passes over blanks and control characters."""
    if not url.isprintable() or " " in url:
        return False
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return True


def read_http_url(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        return urlsplit("")


def origin_of(url: SplitResult) -> str | None:
    """The serialised origin (RFC 6454, section 6.2) of an http or https URL, else None."""
    try:
        port = url.port
    except ValueError:
        return None
    host = url.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if url.scheme not in DEFAULT_PORTS or not HOST.fullmatch(host):
        return None
    if url.username is not None or url.password is not None or url.query or url.fragment:
        return None
    is_default = port in {None, DEFAULT_PORTS[url.scheme]}
    return f"{url.scheme}://{host}" if is_default else f"{url.scheme}://{host}:{port}"


def is_allowable(entry: str) -> bool:
    """Whether it is an origin, or one with `*` in labels of its host other than the last two."""
    filled = entry.replace("*", "x")
    if filled != origin_of(read_http_url(filled)):
        return False
    labels = (read_http_url(entry).hostname or "").split(".")
    # A dot at the end would make an empty label one of the last two.
    is_pattern = all(labels) and "".join(labels[:-2]).count("*") == entry.count("*")
    return is_pattern or "*" not in entry


def pattern_of(entry: str) -> str:
    """The regular expression of an entry. `*` is letters, digits and hyphens of one label."""
    return r"\.".join(map(pattern_of_label, entry.split(".")))


def pattern_of_label(label: str) -> str:
    """Matched in a time linear in the label's length: what comes after each `*` but the last is
    found at its first place and then never looked for again (an atomic group).
    """
    first, *parts = map(re.escape, label.split("*"))
    inner = "".join(f"(?>{WILD}?{part})" for part in parts[:-1])
    return first + inner + "".join(WILD + part for part in parts[-1:])


def is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    if not host or host.startswith("/") or host.lower() == "localhost":
        return True
    return is_address(host) and ip_address(host).is_loopback
