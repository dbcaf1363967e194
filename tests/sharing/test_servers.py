"""Every kind of remote that is no directory, against a real server of its kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.remotes import open_remote
from builder.remotes.http import HttpRemote
from builder.remotes.objects import ObjectRemote, s3_remote
from builder.remotes.sftp import SftpRemote
from builder.sharing import Sharing
from store.remote import NotThere, Remote, RemoteError
from tests.conftest import RECIPES, Builder, environment
from tests.sharing import servers
from tests.sharing.servers import Server

HERE = Path(__file__).parent
KINDS = ("s3", "webdav", "ssh")
BULK = 48 << 20

Users = Callable[[str], Builder]


@pytest.fixture(scope="module")
def launchers(builder: Builder) -> Path:
    """The artifact with nginx, sshd and ssh."""
    (built,) = builder.build(HERE / "launchers.py")
    return Path(built["path"])


@pytest.fixture(scope="module")
def s3(launchers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.seaweedfs(launchers, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def webdav(launchers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.nginx(launchers, tmp_path_factory.mktemp("dav")) as server:
        yield server


@pytest.fixture(scope="module")
def ssh(launchers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.sshd(launchers, tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The server of the kind that the test is about, with a good line."""
    found: Server = request.getfixturevalue(request.param)
    found.line.forget()
    return found


every_kind = pytest.mark.parametrize("server", KINDS, indirect=True)
# What takes long, and lies in no backend, is tried with one of them by default.
one_kind = pytest.mark.parametrize(
    "server", [kind if kind == "webdav" else pytest.param(kind, marks=pytest.mark.large) for kind in KINDS], indirect=True
)


class World:
    """Two users of one server. ``anna`` builds and pushes, from the store of all tests; ``others`` have empty stores."""

    def __init__(self, folder: Path, builder: Builder, *reachable: Server) -> None:
        self.folder = folder
        self.more = {name: value for server in reachable for name, value in server.environment.items()}
        self.key = Sharing(folder / "anna" / "builder", {}).new_key("anna")
        self.anna = self.user("anna", builder.store)

    def user(self, name: str, store: Path | None = None) -> Builder:
        place = store or self.folder / f"{name}-store"
        Sharing(self.folder / name / "builder", {}).trust(str(self.key))
        return Builder(place, {**environment(place), **self.more, "XDG_CONFIG_HOME": str(self.folder / name)})

    def push(self, remote: str, *names: str) -> dict[str, int]:
        moved: dict[str, int] = json.loads(self.anna("push", remote, *names, "--json").stdout)["moved"]
        return moved


@pytest.fixture
def world(tmp_path: Path, builder: Builder, request: pytest.FixtureRequest) -> World:
    names = {"server", *KINDS} & set(request.fixturenames)
    return World(tmp_path, builder, *(request.getfixturevalue(name) for name in names))


@pytest.fixture(scope="module")
def zlib(builder: Builder) -> dict[str, str]:
    (built,) = builder.build(RECIPES / "zlib.py")
    return built


@pytest.fixture(scope="module")
def bulk(builder: Builder) -> dict[str, str]:
    (built,) = builder.build(HERE / "bulk.py")
    return built


def runs(folder: str) -> None:
    done = subprocess.run([Path(folder, "bin/minigzip")], input=b"to and fro", capture_output=True, check=True, env={})
    assert done.stdout.startswith(b"\x1f\x8b")


@every_kind
def test_there_and_back(server: Server, world: World, zlib: dict[str, str]) -> None:
    remote = server.remote("back")
    first = world.push(remote, zlib["digest"])
    assert (first["parcels"], first["known"]) == (1, 0)
    again = world.push(remote, zlib["digest"])
    assert (again["parcels"], again["blobs"], again["known"]) == (0, 0, first["blobs"])
    # Signed results are written again, of which a store that saw many versions of the builder has some.
    assert again["bytes"] * 5 < first["bytes"]

    server.line.forget()
    bert = world.user("bert")
    folder = bert("pull", remote, "zlib", "--no-link").stdout.strip()
    runs(folder)
    # The remote's mark, the name, the list of what is where, and one parcel.
    assert len(server.line.requests) <= 4
    assert Path(folder).name == Path(zlib["path"]).name
    server.line.forget()
    bert("pull", remote, zlib["digest"], "--no-link")
    assert server.line.down < 200_000
    bert("check")

    carl = world.user("carl")
    server.line.forget()
    carl("remote", "add", "ours", remote, "--builds")
    done = carl("build", RECIPES / "zlib.py", "--no-link", "--json")
    assert json.loads(done.stdout)["artifacts"][0]["digest"] == zlib["digest"]
    assert "built" not in done.stderr
    # Two for each step that leads to it: what came of it, and the list of that.
    assert len(server.line.requests) <= 24

    # Nothing is in need of going; and when the artifact goes, all that was its own does.
    assert json.loads(world.anna("remote", "gc", remote, "--grace", "0", "--json").stdout)["parcels"] == 0
    runs(world.user("dora")("pull", remote, "zlib", "--no-link").stdout.strip())
    gone = [
        json.loads(world.anna("remote", "gc", remote, "--grace", "0", "--keep-newest", "0", "--json").stdout) for _ in range(2)
    ]
    assert gone[0]["artifacts"]
    assert gone[1]["parcels"] == 1
    assert "does not have" in bert("pull", remote, zlib["digest"], "--no-link", status=1).stderr


@one_kind
def test_a_push_that_was_killed_is_gone_on_with(server: Server, world: World, bulk: dict[str, str]) -> None:
    remote = server.remote("killed")
    push = world.anna.start("push", remote, bulk["digest"], "--no-outputs", "--json")
    server.line.at("up", BULK * 5 // 6, push.kill)
    push.communicate()
    assert push.returncode == -signal.SIGKILL
    server.line.forget()
    world.anna("push", remote, bulk["digest"], "--no-outputs", "--json")
    assert server.line.up < BULK * 3 // 4
    bert = world.user("bert")
    bert("pull", remote, "bulk", "--no-link")
    bert("check")


@pytest.fixture
def stocked(server: Server, world: World, bulk: dict[str, str]) -> str:
    """A remote of the server that has `bulk`."""
    remote = server.remote("stocked")
    world.anna("push", remote, bulk["digest"], "--no-outputs")
    server.line.forget()
    return remote


@every_kind
def test_a_pull_that_breaks_off_is_gone_on_with(server: Server, world: World, stocked: str) -> None:
    bert = world.user("bert")
    server.line.at("down", BULK * 3 // 4, server.line.die)
    failed = bert("pull", stocked, "bulk", "--no-link", status=1)
    assert "run the same command again" in failed.stderr or "ssh" in failed.stderr
    assert not list((bert.store / "artifacts").iterdir())
    bert("check")

    server.line.forget()
    pull = bert.start("pull", stocked, "bulk", "--no-link")
    server.line.at("down", BULK // 8, lambda: pull.send_signal(signal.SIGINT))
    _, said = pull.communicate()
    assert pull.returncode == 130, said
    assert "Traceback" not in said

    server.line.forget()
    bert("pull", stocked, "bulk", "--no-link")
    # What was on its way at those moments is lost, of each connection.
    assert server.line.down < BULK * 3 // 4
    bert("check")


@one_kind
def test_a_pull_that_was_killed_is_gone_on_with(server: Server, world: World, stocked: str) -> None:
    bert = world.user("bert")
    pull = bert.start("pull", stocked, "bulk", "--no-link")
    stalled = threading.Event()
    server.line.at("down", BULK * 15 // 16, lambda: (setattr(server.line, "mute", True), stalled.set()))
    assert stalled.wait(60)
    # What came is named from time to time.
    while len(list((bert.store / "blobs").glob("??/*"))) <= 30:
        assert pull.poll() is None
        time.sleep(0.02)
    pull.kill()
    pull.communicate()
    server.line.hang_up()
    server.line.forget()
    bert("pull", stocked, "bulk", "--no-link")
    assert server.line.down < BULK // 2
    bert("check")


@every_kind
def test_two_pushers_at_once(server: Server, world: World, zlib: dict[str, str], builder: Builder) -> None:
    remote = server.remote("two")
    (jq,) = builder.build(RECIPES / "jq.py")
    both = [world.anna.start("push", remote, artifact["digest"]) for artifact in (zlib, jq, zlib)]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0, said
    bert = world.user("bert")
    bert("pull", remote, "zlib", "jq", "--no-link")
    bert("check")


@every_kind
def test_a_build_goes_on_without_a_server_that_dies(server: Server, world: World, zlib: dict[str, str], tmp_path: Path) -> None:
    remote, shelf = server.remote("dies"), tmp_path / "shelf"
    world.push(remote, zlib["digest"])
    world.push(str(shelf), zlib["digest"])
    bert = world.user("bert")
    bert("remote", "add", "far", remote)
    server.line.at("down", 500_000, server.line.die)
    done = bert("build", "--from", "far", "--from", shelf, RECIPES / "zlib.py", "--no-link")
    assert "warning: remote far: " in done.stderr
    assert "built" not in done.stderr
    runs(done.stdout.strip())
    bert("check")
    # And one that is not there at all.
    carl = world.user("carl")
    done = carl("build", "--from", remote, "--from", shelf, RECIPES / "zlib.py", "--no-link")
    assert "going on without it" in done.stderr
    runs(done.stdout.strip())


def backend(server: Server, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """The backend itself, which waits for half a second only."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    remote = server.remote("mute")
    if remote.startswith("s3:"):
        return s3_remote("mute", "artifacts", "mute", {"endpoint": remote.partition("endpoint=")[2]}, silence=0.5)
    if remote.startswith("http:"):
        return HttpRemote("mute", remote, silence=0.5)
    return SftpRemote("mute", "127.0.0.1", str(server.work / "files" / "mute"), user="user", port=server.line.port, silence=0.5)


@every_kind
def test_a_server_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    remote = backend(server, monkeypatch)
    # A bucket gets what is larger than this in pieces.
    data = os.urandom(33 << 20 if isinstance(remote, ObjectRemote) else 3 << 20)
    (tmp_path / "large").write_bytes(data)
    remote.write("parcels/aa/large", tmp_path / "large")
    remote.write("small", b"small")
    assert b"".join(remote.stream("parcels/aa/large", 5, 20)) == data[5:25]
    assert remote.read("parcels/aa/large", len(data)) == data
    with pytest.raises(RemoteError, match="more than"):
        remote.read("parcels/aa/large", 1 << 20)
    assert remote.read("nothing", 9) is None
    assert remote.has(["small", "nothing", "parcels/aa/large"]) == [True, False, True]
    assert sorted((item.key, item.size) for item in remote.objects("")) == [("parcels/aa/large", len(data)), ("small", 5)]
    assert [item.key for item in remote.objects("parcels/")] == ["parcels/aa/large"]
    assert list(remote.objects("nothing/")) == []
    with pytest.raises(NotThere):
        list(remote.stream("nothing", 0, 9))
    server.line.at("down", 1 << 20, lambda: setattr(server.line, "mute", True))
    with pytest.raises(RemoteError, match="answer"):
        list(remote.stream("parcels/aa/large", 0, len(data)))
    server.line.mute = False
    assert remote.read("small", 9) == b"small"
    remote.write("small", b"other")
    assert remote.read("small", 9) == b"other"
    remote.remove(["small", "nothing", "parcels/aa/large"])
    assert list(remote.objects("")) == []


# -- S3 --


def test_a_bucket_says_what_is_wrong(s3: Server, world: World, zlib: dict[str, str]) -> None:
    s3.line.forget()
    remote, digest = s3.remote("wrong"), zlib["digest"]
    told = world.anna("push", remote.replace("artifacts", "no-such-bucket"), digest, status=1).stderr
    assert "there is no such bucket" in told
    for name, reason in (("AWS_SECRET_ACCESS_KEY", "secret key"), ("AWS_ACCESS_KEY_ID", "does not know the access key")):
        stranger = Builder(world.anna.store, {**world.anna.environment, name: "another"})
        told = stranger("push", remote, digest, status=1).stderr
        assert reason in told
        assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say who asks" in told
    s3.line.die()
    told = world.anna("push", remote, digest, status=1).stderr
    assert "remote s3://artifacts/wrong" in told
    assert len(told) < 400


# -- HTTP --


def test_any_server_that_gives_files(webdav: Server, world: World, zlib: dict[str, str]) -> None:
    webdav.line.forget()
    world.push(webdav.remote("site"), zlib["digest"])
    base = f"http://127.0.0.1:{webdav.line.port}"
    for number, place in enumerate(("plain", "whole")):
        webdav.line.forget()
        runs(world.user(f"user-{number}")("pull", f"{base}/{place}/site", "zlib", "--no-link").stdout.strip())
        assert len(webdav.line.requests) <= 4
    told = world.anna("push", f"{base}/plain/site", zlib["digest"], status=1).stderr
    assert "it has to know WebDAV" in told
    with servers.static(webdav.work / "files" / "dav") as static:
        bert = world.user("bert")
        runs(bert("pull", static.remote("site"), "zlib", "--no-link").stdout.strip())
        bert("check")
        told = bert("pull", static.remote("elsewhere"), "zlib", "--no-link", status=1).stderr
        assert "there is no remote yet" in told


def test_a_server_without_ranges_gives_a_part(webdav: Server) -> None:
    webdav.line.forget()
    HttpRemote("x", webdav.remote("parts")).write("object", bytes(range(256)) * 4000)
    base = f"http://127.0.0.1:{webdav.line.port}"
    for place in ("plain", "whole"):
        remote = HttpRemote("x", f"{base}/{place}/parts")
        for start, length in ((0, 10), (1000, 70_000), (1_000_000, 24_000)):
            assert b"".join(remote.stream("object", start, length)) == (bytes(range(256)) * 4000)[start : start + length]


def test_through_a_proxy(webdav: Server, world: World, zlib: dict[str, str]) -> None:
    webdav.line.forget()
    world.push(webdav.remote("far"), zlib["digest"])
    bert = world.user("bert")
    # It takes whole addresses, as proxies do, and looks at their paths only: nobody else knows such a host.
    through = {"http_proxy": f"http://127.0.0.1:{webdav.line.port}", "no_proxy": ""}
    knows = Builder(bert.store, {**bert.environment, **through})
    runs(knows("pull", "http://artifacts.invalid/plain/far", "zlib", "--no-link").stdout.strip())
    told = Builder(bert.store, {**bert.environment, "http_proxy": "", "HTTP_PROXY": ""})(
        "pull", "http://artifacts.invalid/plain/far", "zlib", "--no-link", status=1
    ).stderr
    assert "its host is not known" in told


def test_a_login(webdav: Server, world: World, zlib: dict[str, str]) -> None:
    webdav.line.forget()
    remote, digest = webdav.remote("login"), zlib["digest"]
    told = world.anna("push", remote.replace("pass%20word", "guess"), digest, status=1).stderr
    assert "it refuses this login" in told
    assert "guess" not in told
    told = world.anna("push", remote.replace(servers.LOGIN + "@", ""), digest, status=1).stderr
    assert "it asks who we are" in told
    assert "https://user:password@" in told


def test_certificates_are_looked_at(webdav: Server, world: World, zlib: dict[str, str]) -> None:
    webdav.line.forget()
    world.push(webdav.remote("safe"), zlib["digest"])
    line = servers.Line(servers.unix(webdav.work / "https"))
    try:
        remote = f"https://{servers.LOGIN}@127.0.0.1:{line.port}/dav/safe"
        bert = world.user("bert")
        told = bert("pull", remote, "zlib", "--no-link", status=1).stderr
        assert "its certificate is not accepted" in told
        assert "SSL_CERT_FILE" in told
        knows = Builder(bert.store, {**bert.environment, "SSL_CERT_FILE": str(webdav.work / "authority.pem")})
        runs(knows("pull", remote, "zlib", "--no-link").stdout.strip())
        told = knows("pull", remote.replace("127.0.0.1", "localhost"), "zlib", "--no-link", status=1).stderr
        assert "its certificate is not accepted" in told
        anna = Builder(world.anna.store, {**world.anna.environment, "SSL_CERT_FILE": str(webdav.work / "authority.pem")})
        anna("push", remote, zlib["digest"])
    finally:
        line.close()


# -- ssh --


def test_ssh_says_what_is_wrong(ssh: Server, world: World, zlib: dict[str, str], tmp_path: Path) -> None:
    ssh.line.forget()
    remote, digest = ssh.remote("wrong"), zlib["digest"]
    config = (ssh.work / "ssh").read_text()

    def told(text: str, address: str = remote) -> str:
        (tmp_path / "config").write_text(text)
        user = Builder(world.anna.store, {**world.anna.environment, "SSH_CONFIG": str(tmp_path / "config")})
        return user("push", address, digest, status=1).stderr

    (tmp_path / "others").write_text(
        (ssh.work / "known-hosts")
        .read_text()
        .replace((ssh.work / "host-key.pub").read_text(), (ssh.work / "user-key.pub").read_text())
    )
    assert "Host key verification failed" in told(config.replace(str(ssh.work / "known-hosts"), str(tmp_path / "others")))
    assert "Permission denied (publickey)" in told(config.replace(str(ssh.work / "user-key"), str(ssh.work / "host-key")))
    (ssh.work / "closed").mkdir(mode=0o555)
    assert "Permission denied" in told(config, remote.replace("/files/", "/closed/"))
    ssh.line.die()
    assert "ssh 127.0.0.1" in told(config)
    nowhere = Builder(world.anna.store, {**world.anna.environment, "PATH": "/nonexistent"})
    assert "there is no ssh on this machine" in nowhere("push", remote, digest, status=1).stderr


def test_addresses_open_what_they_say() -> None:
    kinds: dict[str, type[Any]] = {"https://example.org/x": HttpRemote, "ssh://example.org/x": SftpRemote}
    for address, kind in kinds.items():
        assert isinstance(open_remote("x", address), kind)
