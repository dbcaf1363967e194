"""Real servers, each behind a line that counts what goes over it, and that breaks on demand."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_REQUEST = re.compile(rb"(?:\A|\r\n\r\n)(GET|HEAD|PUT|POST|DELETE|MKCOL|PROPFIND) (\S+) HTTP/1\.1\r\n")


class Line:
    """Takes connections at ``port`` and passes them on to what ``reach`` connects to.

    ``up`` and ``down`` count bytes to and from the server. ``at`` sets a trap: when so many more bytes have gone ``up`` or
    ``down``, what it says is done once. ``dead`` refuses everything, ``mute`` takes everything and says nothing.
    """

    def __init__(self, reach: Callable[[], socket.socket]) -> None:
        self.reach = reach
        self.up = self.down = 0
        self.dead = self.mute = False
        self.requests: list[tuple[str, str]] = []
        self._trap: tuple[str, int, Callable[[], object]] | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        """Count from zero, and be a good line again."""
        with self._lock:
            self.up = self.down = 0
            self.requests = []
            self.dead = self.mute = False
            self._trap = None

    def at(self, way: str, count: int, then: Callable[[], object]) -> None:
        self._trap = (way, getattr(self, way) + count, then)

    def die(self) -> None:
        """As if the server's machine were gone: every connection breaks off, and there are no new ones."""
        self.dead = True
        self.hang_up()

    def hang_up(self) -> None:
        with self._lock:
            every, self._open = self._open, set()
        for one in every:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.die()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.dead:
                    near.close()
                    continue
                try:
                    far = self.reach()
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._open |= {near, far}
                for way, source, target in (("up", near, far), ("down", far, near)):
                    threading.Thread(target=self._pump, args=(way, source, target), daemon=True).start()

    def _pump(self, way: str, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                while self.mute:
                    time.sleep(0.05)
                self._count(way, data)
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _count(self, way: str, data: bytes) -> None:
        due: Callable[[], object] | None = None
        with self._lock:
            setattr(self, way, getattr(self, way) + len(data))
            if way == "up":
                self.requests += [(m[1].decode(), m[2].decode()) for m in _REQUEST.finditer(data)]
            if self._trap is not None and self._trap[0] == way and getattr(self, way) >= self._trap[1]:
                due, self._trap = self._trap[2], None
        if due is not None:
            due()


@dataclass
class Server:
    """A server that is running, the line to it, what the environment of a client has, and where it keeps its files.

    ``address`` has ``{}`` where the name of a remote goes: one server has many. ``direct`` is the way around the line.
    """

    address: str
    line: Line
    environment: Mapping[str, str] = field(default_factory=dict)
    work: Path = Path()
    direct: str = ""

    def remote(self, name: str) -> str:
        return self.address.format(name)


class Box:
    """Starts servers as an ordinary user of its own, who has nothing but the launchers and ``work``."""

    def __init__(self, artifact: Path, work: Path) -> None:
        self.artifact = artifact
        self.work = work
        (work / "passwd").write_text(f"user:x:1000:1000::{work}:{artifact}/.launch/x86_64-linux-gnu/bin/sh\n")
        (work / "group").write_text("user:x:1000:\n")
        self.log = work / "log"

    def start(
        self, *words: str | Path, more: Sequence[Path] = (), pipe: socket.socket | None = None
    ) -> subprocess.Popen[bytes]:
        read_only = [word for path in (self.artifact, *more) for word in ("--ro-bind", path, path)]
        etc = [word for name in ("passwd", "group") for word in ("--ro-bind", self.work / name, f"/etc/{name}")]
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [
                    *(self.artifact / "bin" / "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent"),
                    *("--uid", "1000", "--gid", "1000", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"),
                    *(*read_only, *etc, "--bind", self.work, self.work, "--chdir", self.work, "--", *words),
                ],
                env={"HOME": str(self.work)},
                stdin=subprocess.DEVNULL if pipe is None else pipe.fileno(),
                stdout=log if pipe is None else pipe.fileno(),
                stderr=log,
            )


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    while not ready():
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)


def unix(path: Path) -> Callable[[], socket.socket]:
    def reach() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(path))
        return made

    return reach


# -- HTTP --

_NGINX = """
load_module {modules}/ngx_http_dav_ext_module.so;
daemon off;
master_process off;
pid {work}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {work}/bodies;
    proxy_temp_path {work}/unused-1;
    fastcgi_temp_path {work}/unused-2;
    scgi_temp_path {work}/unused-3;
    uwsgi_temp_path {work}/unused-4;
    client_max_body_size 0;
    default_type application/octet-stream;
    server {{
        listen unix:{work}/http;
        listen unix:{work}/https ssl;
        ssl_certificate {work}/server.pem;
        ssl_certificate_key {work}/server.pem;
        root {work}/files;
        location /dav/ {{
            auth_basic "artifacts";
            auth_basic_user_file {work}/users;
            dav_methods PUT DELETE MKCOL COPY MOVE;
            dav_ext_methods PROPFIND OPTIONS;
        }}
        location /whole/ {{
            alias {work}/files/dav/;
            max_ranges 0;
        }}
        location /plain/ {{
            alias {work}/files/dav/;
        }}
    }}
}}
"""
LOGIN = "anna:pass%20word"


@contextlib.contextmanager
def nginx(artifact: Path, work: Path) -> Iterator[Server]:
    """WebDAV at /dav/, for who logs in; its files once more at /plain/, for everybody, and at /whole/, without ranges."""
    authority(work)
    (work / "users").write_text("anna:{PLAIN}pass word\n")
    (work / "files" / "dav").mkdir(parents=True)
    (work / "conf").write_text(_NGINX.format(modules=artifact / "modules", work=work))
    box = Box(artifact, work)
    process = box.start(artifact / "bin" / "nginx", "-e", "stderr", "-p", work, "-c", work / "conf")
    with running(process):
        wait_for((work / "https").exists, process, box.log)
        line = Line(unix(work / "http"))
        try:
            yield Server(f"http://{LOGIN}@127.0.0.1:{line.port}/dav/{{}}", line, work=work)
        finally:
            line.close()


def authority(work: Path) -> None:
    """An authority of our own, ``authority.pem``, and the key and certificate of 127.0.0.1 that it has signed."""
    now = datetime.datetime.now(datetime.UTC)
    own, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, "authority"))
        made = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=9))
        made = made.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            made = made.add_extension(names, critical=False)
        return made.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    secret = server.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (work / "authority.pem").write_bytes(certificate("authority", own, ca=True))
    (work / "server.pem").write_bytes(secret + certificate("127.0.0.1", server, ca=False))


# -- S3 --

KEYS = {"AWS_ACCESS_KEY_ID": "anna", "AWS_SECRET_ACCESS_KEY": "the secret of anna"}


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


@contextlib.contextmanager
def seaweedfs(artifact: Path, work: Path) -> Iterator[Server]:
    """An S3 server with the bucket "artifacts"."""
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    credentials = [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]
    rights = ["Admin", "Read", "List", "Tagging", "Write"]
    (work / "s3.json").write_text(json.dumps({"identities": [{"name": "anna", "credentials": credentials, "actions": rights}]}))
    (work / "data").mkdir()
    names = [f"{part}.port{end}" for part in ("master", "volume", "filer", "s3") for end in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    box = Box(artifact, work)
    process = box.start(
        *(weed, "server", f"-dir={work}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
        *("-s3", f"-s3.config={work}/s3.json", "-s3.iam=false", "-s3.autoCreateBucket=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=50"),
        *(f"-{name}={port}" for name, port in ports.items()),
        more=[weed],
    )
    with running(process):
        wait_for(lambda: _makes_bucket(ports["filer.port"], ports["s3.port"]), process, box.log)
        line = Line(lambda: socket.create_connection(("127.0.0.1", ports["s3.port"])))
        try:
            address = "s3://artifacts/{{}}?endpoint=http://127.0.0.1:{}"
            direct = address.format(ports["s3.port"])
            yield Server(address.format(line.port), line, KEYS, work, direct)
        finally:
            line.close()


def _makes_bucket(filer: int, s3: int) -> bool:
    """Whether the server is ready, and has the bucket: a folder of its files."""
    connection = http.client.HTTPConnection("127.0.0.1", filer, timeout=5)
    with contextlib.suppress(OSError), contextlib.closing(connection):
        socket.create_connection(("127.0.0.1", s3)).close()
        connection.request("POST", "/buckets/artifacts/")
        return connection.getresponse().status == 201
    return False


# -- ssh --

_SSHD = """
HostKey {work}/host-key
AuthorizedKeysFile {work}/user-key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
Subsystem sftp internal-sftp
"""
_SSH = """
IdentityFile {work}/user-key
IdentitiesOnly yes
UserKnownHostsFile {work}/known-hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
BatchMode yes
"""


@contextlib.contextmanager
def sshd(artifact: Path, work: Path) -> Iterator[Server]:
    """OpenSSH's server: one process a connection, as inetd starts them, with the directory ``files``."""
    for name in ("host-key", "user-key"):
        words = ["-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f", str(work / name)]
        subprocess.run([artifact / "bin" / "ssh-keygen", *words], check=True)
    (work / "sshd").write_text(_SSHD.format(work=work))
    (work / "ssh").write_text(_SSH.format(work=work))
    box = Box(artifact, work)
    sessions: list[subprocess.Popen[bytes]] = []

    def reach() -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            sessions.append(box.start(artifact / "bin" / "sshd", "-i", "-e", "-f", work / "sshd", pipe=theirs))
        return ours

    line = Line(reach)
    host = (work / "host-key.pub").read_text()
    (work / "known-hosts").write_text(f"[127.0.0.1]:{line.port} {host}")
    environment = {"SSH_CONFIG": str(work / "ssh"), "PATH": f"{artifact}/bin:{os.environ['PATH']}"}
    try:
        yield Server(f"ssh://user@127.0.0.1:{line.port}{work}/files/{{}}", line, environment, work)
    finally:
        line.close()
        for session in sessions:
            session.kill()
            session.wait()


# -- a static server of the standard library --


@contextlib.contextmanager
def static(folder: Path) -> Iterator[Server]:
    """`python3 -m http.server`, which knows no ranges."""
    words = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "0"]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with running(process):
        match = re.search(rb"port (\d+)", process.stdout.readline())
        assert match is not None
        port = int(match[1])
        line = Line(lambda: socket.create_connection(("127.0.0.1", port)))
        try:
            yield Server(f"http://127.0.0.1:{line.port}/{{}}", line)
        finally:
            line.close()
