"""The certificates that servers are checked against: the system's, always."""

from __future__ import annotations

import os
import ssl

from store.errors import Error

# Where distributions keep all certificates in one file. A Python that was built elsewhere looks in that place, not here.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class NoCertificates(Error):
    """The machine has no certificate authorities, so that no server can be believed."""

    def __init__(self) -> None:
        super().__init__(
            "no certificate authorities were found on this machine, so that no https server can be checked",
            hint="Install the package ca-certificates, or set SSL_CERT_FILE to a file that holds them.",
        )


def context() -> ssl.SSLContext:
    """A context that verifies names and certificates. Raises NoCertificates."""
    made = ssl.create_default_context()
    if made.cert_store_stats()["x509_ca"]:
        return made
    paths = ssl.get_default_verify_paths()
    # Certificates in a directory are read when a server shows one, so they are not counted yet.
    if paths.capath and any(name.endswith(".0") for name in os.listdir(paths.capath)):
        return made
    for bundle in BUNDLES:
        if os.path.isfile(bundle):
            made.load_verify_locations(cafile=bundle)
            return made
    try:
        import certifi  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise NoCertificates from None
    made.load_verify_locations(cafile=certifi.where())
    return made
