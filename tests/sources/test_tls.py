from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator

import pytest

from builder import tls
from builder.fetch import Download, Fetcher, FetchFailed
from tests.sources.server import CERTIFICATE, Server, serve

DATA = b"some bytes"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def safe_server() -> Iterator[Server]:
    with serve(safe=True) as server:
        server.files["/x"] = DATA
        yield server


def fetch(fetcher: Fetcher, place: str) -> bytes:
    ((_, path),) = fetcher.fetch([Download("x", (place,), SHA256)])
    return path.read_bytes()


def test_servers_are_always_checked() -> None:
    made = tls.context()
    assert made.verify_mode == ssl.CERT_REQUIRED
    assert made.check_hostname


def test_a_server_that_nobody_vouches_for_is_refused(fetcher: Fetcher, safe_server: Server) -> None:
    with pytest.raises(FetchFailed, match="its certificate is not accepted"):
        fetch(fetcher, safe_server.base + "/x")
    assert safe_server.log == []


def test_a_server_that_somebody_vouches_for(fetcher: Fetcher, safe_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert fetch(fetcher, safe_server.base + "/x") == DATA


def test_no_way_leads_from_https_to_http(
    fetcher: Fetcher, server: Server, safe_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    server.files["/x"] = DATA
    safe_server.tricks["/y"] = [f"to {server.base}/x"]
    with pytest.raises(FetchFailed, match="not as safe"):
        fetch(fetcher, safe_server.base + "/y")
    assert server.log == []
    server.tricks["/z"] = [f"to {safe_server.base}/x"]
    assert fetch(fetcher, server.base + "/z") == DATA


def test_another_host_than_the_certificate_is_for(
    fetcher: Fetcher, safe_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with pytest.raises(FetchFailed, match="its certificate is not accepted"):
        fetch(fetcher, safe_server.base.replace("127.0.0.1", "localhost") + "/x")
