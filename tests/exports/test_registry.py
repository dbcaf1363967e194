"""Pushing to a real registry: Debian's, on this machine, with and without logins and certificates."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from builder import logins, registry
from builder.logins import BadLogins, Login
from builder.oci import Blob, Image
from builder.registry import BadReference, NotAllowed, PushFailed, Reference
from tests.conftest import Builder
from tests.exports.conftest import Tools
from tests.sources.server import CERTIFICATE
from tests.test_docs import documented_json, shape

# What htpasswd -B writes for the user "ann" and the password "secret".
HTPASSWD = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def serve(tools: Tools, folder: Path, *more: str) -> Iterator[str]:
    """A registry with its files in ``folder``: its host and port."""
    folder.mkdir()
    port = free_port()
    # Its configuration is YAML, of which JSON is a part.
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "x"},
    }
    for text in more:
        for key, value in json.loads(text).items():
            settings.setdefault(key, {}).update(value)
    (folder / "config.yml").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([tools.bin / "docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        for _ in range(1000):
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 5):
                break
            time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def stored(folder: Path) -> set[Path]:
    """Everything that a registry has on its disk, but for its records of uploads."""
    return {path for path in (folder / "data").rglob("*") if path.is_file() and "_uploads" not in path.parts}


Programs = tuple[dict[str, str], dict[str, str]]


def test_an_image_is_pushed_once_and_runs_elsewhere(builder: Builder, programs: Programs, tools: Tools, tmp_path: Path) -> None:
    with serve(tools, tmp_path / "registry") as host:
        done = json.loads(builder("push", f"oci://{host}/tools/jq", programs[0]["digest"], "--json").stdout)
        shape(documented_json("push-image"), done, "push-image")
        reference, _, digest = done["image"].partition("@")
        assert reference == f"{host}/tools/jq:1.7.1"
        assert done["moved"]["known"] == 0
        assert done["moved"]["tagged"]
        assert done["moved"]["blobs"] > 4
        before = stored(tmp_path / "registry")

        again = json.loads(builder("push", f"oci://{host}/tools/jq", programs[0]["digest"], "--json").stdout)
        assert again["image"] == done["image"]
        assert again["moved"] == {"bytes": 0, "blobs": 0, "known": done["moved"]["blobs"], "tagged": False}
        assert stored(tmp_path / "registry") == before
        forced = json.loads(builder("push", "--again", f"oci://{host}/tools/jq", programs[0]["digest"], "--json").stdout)
        assert forced["moved"] == done["moved"]

        # Another artifact in the same repository: what they share stays.
        other = json.loads(builder("push", f"oci+http://{host}/tools/jq:hello", programs[1]["digest"], "--json").stdout)
        assert other["moved"]["known"] == 3

        said = tools.skopeo("inspect", "--tls-verify=false", f"docker://{host}/tools/jq@{digest}")
        assert sorted(json.loads(said)["RepoTags"]) == ["1.7.1", "hello"]
        tools.skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", "oci:pulled:it")
        index = json.loads((tools.home / "pulled" / "index.json").read_text())
        assert index["manifests"][0]["digest"] == digest
    tools.run("umoci", "unpack", "--rootless", "--image", "pulled:it", "pulled-jq")
    assert tools.enter(tools.home / "pulled-jq", "-n", "1 + 1") == "2\n"


def test_a_registry_that_knows_users(builder: Builder, programs: Programs, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(HTPASSWD)
    auth = json.dumps({"auth": {"htpasswd": {"realm": "tests", "path": str(tmp_path / "users")}}})
    with serve(tools, tmp_path / "registry", auth) as host:
        address, file = f"oci://{host}/jq:x", tools.home / "auth.json"
        environment = {**builder.environment, "REGISTRY_AUTH_FILE": str(file)}
        with_logins = Builder(builder.store, environment)
        assert "Log in with" in with_logins("push", address, programs[0]["digest"], status=1).stderr
        # As skopeo writes it.
        words = ("login", "--tls-verify=false", "--authfile", "auth.json", "-u", "ann", "-p")
        tools.skopeo(*words, "secret", host)
        assert with_logins("push", address, programs[0]["digest"]).stdout.startswith(f"{host}/jq:x@sha256:")
        file.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(b"ann:wrong").decode()}}}))
        assert "does not allow it" in with_logins("push", address, programs[0]["digest"], status=1).stderr


@dataclass
class Tokens:
    """A server of tokens, as large registries have.

    ``asked`` are the questions that had the right login; to the first ``stale`` of them it gives tokens that are over.
    """

    base: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    stale: int = 0


@contextlib.contextmanager
def serve_tokens() -> Iterator[Tokens]:
    state = Tokens()
    key = serialization.load_pem_private_key(CERTIFICATE.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    begin = "-----BEGIN CERTIFICATE-----"
    chain = CERTIFICATE.read_text().partition(begin)[2].partition("-----END")[0].replace("\n", "")

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    def token(scopes: list[str]) -> str:
        kind, _, rest = scopes[0].partition(":")
        name, _, actions = rest.rpartition(":")
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [chain]}
        body = {
            "iss": "tests",
            "aud": "registry",
            "sub": "ann",
            "jti": os.urandom(8).hex(),
            "exp": now + (300 if len(state.asked) > state.stale else -300),
            "nbf": now - 600,
            "iat": now,
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        text = f"{part(json.dumps(head).encode())}.{part(json.dumps(body).encode())}"
        r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            right = "Basic " + base64.b64encode(b"ann:secret").decode()
            self.answer(query, self.headers.get("Authorization") == right)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.answer(form, (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["lasting"]))

        def answer(self, query: dict[str, list[str]], right: bool) -> None:
            if right:
                state.asked.append(query)
            said = {"access_token": token(query["scope"])} if right else {"details": "incorrect username or password"}
            data = json.dumps(said).encode()
            self.send_response(200 if right else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.base = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def image(builder: Builder, programs: Programs, tools: Tools) -> tuple[Image, Path]:
    """hello, as a layout."""
    layout = tools.home.parent / "to-push.oci"
    builder("export", programs[1]["digest"], "-o", layout)
    index = json.loads((layout / "index.json").read_text())

    def blob(row: dict[str, Any]) -> Blob:
        return Blob(row["mediaType"], row["digest"], row["size"])

    manifest = blob(index["manifests"][0])
    inside = json.loads((layout / "blobs" / "sha256" / manifest.digest.removeprefix("sha256:")).read_bytes())
    return Image(manifest, tuple(blob(row) for row in [*inside["layers"], inside["config"]])), layout


def test_a_registry_that_wants_tokens(image: tuple[Image, Path], tools: Tools, tmp_path: Path) -> None:
    with serve_tokens() as tokens:
        settings = {"realm": f"{tokens.base}/token", "service": "registry", "issuer": "tests"}
        auth = json.dumps({"auth": {"token": {**settings, "rootcertbundle": str(CERTIFICATE)}}})
        with serve(tools, tmp_path / "registry", auth) as host:
            to = Reference.parse(f"oci://{host}/deep/er/hello:1")
            with pytest.raises(NotAllowed, match="incorrect username"):
                registry.push(to, *image)
            with pytest.raises(NotAllowed, match="incorrect username") as raised:
                registry.push(to, *image, login=Login("ann", "wrong"))
            assert "does not allow it" in raised.value.hint
            assert registry.push(to, *image, login=Login("ann", "secret")).blobs == len(set(image[0].parts))
            assert tokens.asked == [{"service": ["registry"], "scope": ["repository:deep/er/hello:pull,push"]}]
            # A lasting token instead of a password; and tokens that are over before they are used are asked for again.
            assert registry.push(to, *image, login=Login("", "lasting")).unchanged
            tokens.asked.clear()
            tokens.stale = 1
            assert registry.push(to, *image, login=Login("", "lasting")).unchanged
            assert len(tokens.asked) > 1
            tokens.stale = 1000
            with pytest.raises(NotAllowed):
                registry.push(to, *image, login=Login("", "lasting"))


def test_a_registry_with_a_certificate(
    image: tuple[Image, Path], tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "server.pem"
    key.write_text(CERTIFICATE.read_text())
    tls = json.dumps({"http": {"tls": {"certificate": str(key), "key": str(key)}}})
    with serve(tools, tmp_path / "registry", tls) as host:
        to = Reference(host, "hello", "1", secure=True)
        with pytest.raises(PushFailed, match="its certificate is not accepted"):
            registry.push(to, *image)
        assert not stored(tmp_path / "registry")
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert registry.push(to, *image).blobs == len(set(image[0].parts))


def test_a_registry_that_is_not_there_and_one_that_breaks_off(image: tuple[Image, Path], tools: Tools, tmp_path: Path) -> None:
    with pytest.raises(PushFailed, match=r"no connection$"):
        registry.push(Reference.parse(f"oci://127.0.0.1:{free_port()}/x:1"), *image, pauses=(0.01,))
    with serve(tools, tmp_path / "registry") as host, breaking(host) as (between, cuts):
        done = registry.push(Reference.parse(f"oci://{between}/hello:1"), *image, pauses=(0.01,) * 8)
        assert done.blobs + done.known == len(set(image[0].parts))
        assert not cuts
        tools.skopeo("copy", "--src-tls-verify=false", f"docker://{host}/hello:1", "oci:after-cuts:1")


@contextlib.contextmanager
def breaking(host: str) -> Iterator[tuple[str, list[int]]]:
    """A way to ``host`` that is cut after so many bytes, once for each number in the list."""
    cuts = [100, 5_000, 50_000, 300_000]
    listening = socket.create_server(("127.0.0.1", 0))

    def carry(client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])))
        threading.Thread(target=copy, args=(server, client), daemon=True).start()
        left = cuts.pop(0) if cuts else 1 << 40
        with contextlib.suppress(OSError):
            while left > 0 and (data := client.recv(min(left, 65_536))):
                server.sendall(data)
                left -= len(data)
        for end in client, server:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=carry, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}", cuts
    finally:
        listening.close()


# -- words --


@pytest.mark.parametrize(
    ("address", "host", "repository", "tag", "secure"),
    [
        ("oci://example.org/jq", "example.org", "jq", "", True),
        ("oci://example.org:5000/a/b-c_d.e:1.0-x", "example.org:5000", "a/b-c_d.e", "1.0-x", True),
        ("oci://localhost:5000/jq", "localhost:5000", "jq", "", False),
        ("oci://[::1]:5000/jq", "[::1]:5000", "jq", "", False),
        ("oci+http://example.org/jq", "example.org", "jq", "", False),
    ],
)
def test_addresses(address: str, host: str, repository: str, tag: str, secure: bool) -> None:
    assert Reference.parse(address) == Reference(host, repository, tag, secure)


@pytest.mark.parametrize(
    "address",
    [
        *("oci://", "oci:///jq", "oci://example.org", "oci://example.org/", "oci://example.org/JQ", "oci://example.org/a//b"),
        *("oci://example.org/jq:", "oci://example.org/jq:a/b", "oci://example.org/jq:.x", "oci://example.org/../jq"),
        *("oci://ann:pw@example.org/jq", "oci://example.org:x/jq", "oci://example.org/jq@sha256:ab", "http://example.org/jq"),
        *(
            "oci://example.org/jq?x",
            "oci://exam ple.org/jq",
            "oci://example.org/" + "a" * 256,
            "oci://example.org/jq:" + "a" * 129,
        ),
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(BadReference):
        Reference.parse(address)


def test_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def login(table: object, address: str = "oci://example.org:1/a/b") -> Login | None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(table))
        to = Reference.parse(address)
        return logins.login_for(to.host, to.repository, [tmp_path / "not-there", path])

    ann = {"auth": base64.b64encode(b"ann:p:w").decode()}
    bob = {"auth": base64.b64encode(b"bob:x").decode()}
    assert login({}) is None
    assert login({"auths": {"example.org": ann}}) is None
    assert login({"auths": {"example.org:1": ann}}) == Login("ann", "p:w")
    assert login({"auths": {"example.org:1": ann, "example.org:1/a": bob}}) == Login("bob", "x")
    assert login({"auths": {"https://index.docker.io/v1/": ann}}, "oci://docker.io/ann/x") == Login("ann", "p:w")
    assert login({"auths": {"example.org:1": {"identitytoken": "t", **ann}}}) == Login("", "t")
    helper = tmp_path / "docker-credential-tests"
    helper.write_text('#!/bin/sh\nread place\necho "{\\"Username\\": \\"$1\\", \\"Secret\\": \\"$place\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert login({"credHelpers": {"example.org:1": "tests"}}) == Login("get", "example.org:1")
    assert login({"auths": {"example.org:1": {}}, "credsStore": "tests"}) == Login("get", "example.org:1")
    for table in (
        {"auths": {"example.org:1": {"auth": "!"}}},
        {"credHelpers": {"example.org:1": "../tests"}},
        {"credHelpers": {"example.org:1": "nowhere"}},
    ):
        with pytest.raises(BadLogins):
            login(table)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadLogins):
        logins.login_for("example.org", "a", [tmp_path / "config.json"])


def test_what_an_image_cannot_be_pushed_with(builder: Builder, programs: Programs) -> None:
    digest = programs[0]["digest"]
    assert "of one artifact" in builder("push", "oci://localhost:1/x", digest, digest, status=1).stderr
    assert "are not of images" in builder("push", "oci://localhost:1/x", digest, "--no-sign", status=1).stderr
    assert "are of images" in builder("push", "/nowhere", digest, "--entrypoint", "jq", status=1).stderr
