"""TLS with a database, by the `sslmode` of its URL."""
# [Task]: T045, T121 [From]: specs/database/schema.md, specs/api/rest-endpoints.md

import os
import ssl
from collections.abc import Callable
from typing import Literal

# How to speak with a server; False is without.
TLS = ssl.SSLContext | Literal[False]


def choose_tls(sslmode: str, sslrootcert: str | None) -> tuple[TLS, ...]:
    """How to speak with a server. asyncpg's own reading of `require` would verify nothing, and
    that of `prefer` goes by files and variables of the machine, so that contexts are made here.
    """

    def verified(*, has_name: bool = True) -> ssl.SSLContext:
        cafile = None if sslrootcert in {None, "system"} else sslrootcert
        context = make_context(cafile)
        context.check_hostname = has_name
        return context

    def unverified() -> ssl.SSLContext:
        context = make_context(None)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    modes: dict[str, Callable[[], tuple[TLS, ...]]] = {
        "disable": lambda: (False,),
        "allow": lambda: (False, unverified()),
        "prefer": lambda: (unverified(), False),
        "no-verify": lambda: (unverified(),),
        "require": lambda: (verified(),),
        "verify-ca": lambda: (verified(has_name=False),),
        "verify-full": lambda: (verified(),),
    }
    if sslmode not in modes:
        raise ValueError(f"has an unknown sslmode; the known ones are {', '.join(modes)}")
    return modes[sslmode]()


def make_context(cafile: str | None) -> ssl.SSLContext:
    """A context that trusts this file's CAs, or else the system's."""
    try:
        context = ssl.create_default_context(cafile=cafile)
    except OSError as error:  # ssl.SSLError, for a file that holds no certificate, is one too
        if error.filename is not None and error.filename == os.environ.get("SSLKEYLOGFILE"):
            raise ValueError("asks for TLS, and the file of SSLKEYLOGFILE can't be written; unset it") from None
        raise ValueError("has an sslrootcert that names no readable CA file") from None
    if not context.cert_store_stats()["x509_ca"] and ssl.get_default_verify_paths().capath is None:
        raise ValueError(
            "asks for TLS, and the system's CA certificates can't be found; install them, or"
            " correct SSL_CERT_FILE and SSL_CERT_DIR"
        )
    return context
