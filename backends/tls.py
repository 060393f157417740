"""TLS with a database, by the `sslmode` of its URL."""
# [Task]: T045, T121 [From]: specs/database/schema.md, specs/api/rest-endpoints.md

import os
import ssl
from typing import Literal

# A context for TLS with a server, or False for none.
TLS = ssl.SSLContext | Literal[False]

# What is tried in turn: (verifies the certificate, verifies the name), or False for no TLS. asyncpg itself
# would verify nothing for `require`, and follow files and variables of the machine for `prefer`.
SSLMODES: dict[str, tuple[tuple[bool, bool] | Literal[False], ...]] = {
    "disable": (False,),
    "allow": (False, (False, False)),
    "prefer": ((False, False), False),
    "no-verify": ((False, False),),
    "require": ((True, True),),
    "verify-ca": ((True, False),),
    "verify-full": ((True, True),),
}


def choose_tls(sslmode: str, sslrootcert: str | None) -> tuple[TLS, ...]:
    """Returns what an `sslmode` tries in turn. Raises `ValueError` if it is unknown, or the CAs can't be read."""
    if sslmode not in SSLMODES:
        raise ValueError(f"has an unknown sslmode; the known ones are {', '.join(SSLMODES)}")
    return tuple(way and make_context(*way, sslrootcert) for way in SSLMODES[sslmode])


def make_context(verifies_certificate: bool, verifies_name: bool, sslrootcert: str | None) -> ssl.SSLContext:  # noqa: FBT001 - a row of the table
    try:
        has_own_file = verifies_certificate and sslrootcert != "system"
        context = ssl.create_default_context(cafile=sslrootcert if has_own_file else None)
    except OSError as error:  # ssl.SSLError, for a file that holds no certificate, is one too
        if error.filename is not None and error.filename == os.environ.get("SSLKEYLOGFILE"):
            raise ValueError("asks for TLS, and the file of SSLKEYLOGFILE can't be written; unset it") from None
        raise ValueError("has an sslrootcert that names no readable CA file") from None
    if not context.cert_store_stats()["x509_ca"] and ssl.get_default_verify_paths().capath is None:
        raise ValueError(
            "asks for TLS, and the system's CAs can't be found; install them, or correct SSL_CERT_FILE and SSL_CERT_DIR"
        )
    context.check_hostname = verifies_name
    context.verify_mode = ssl.CERT_REQUIRED if verifies_certificate else ssl.CERT_NONE
    return context
