"""What the machine refuses: a read-only store, somebody else's, no descriptors, small files. Told in words, and no harm."""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import cli
from builder.remotes.directory import DirectoryRemote
from store import roots
from store.check import check
from store.store import Store
from tests.conftest import RECIPES, ROOT, environment
from tests.sharing.helpers import fill, send
from tests.store.helpers import NOBODY, World, ordinary_folder, start, status
from tests.store.test_crashes import mount_small

MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096

Outcome = tuple[int, str, str]
COMMANDS = ("info", "tree", "gc", "check", "push", "pull", "build", "why")


def load_all() -> None:
    """Another user may not be able to read the modules."""
    for package in ("store", "launcher", "builder"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.stem not in ("__init__", "__main__"):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


class Place:
    """A store with an artifact, a remote with another one, and the command line on them, in a process that can be harmed."""

    def __init__(self, top: Path, store: Path | None = None) -> None:
        self.top = top
        self.world = World(store or top / "store")
        self.link = top / "result"
        roots.add_link(self.world.store, self.link, self.world.artifact.digest, self.world.path)
        self.remote = DirectoryRemote("shelf", top / "shelf")
        other = Store(top / "other", durable=False)
        self.distant = fill(other, {f"share/{n}": b"%d" % n * 2000 for n in range(9)})
        send(other, self.remote, self.distant)

    def words(self, command: str) -> list[str]:
        store = ["--store", str(self.world.store.root)]
        match command:
            case "push":
                return [*store, "push", "--no-sign", str(self.remote.top), str(self.world.path)]
            case "pull":
                return [*store, "pull", "--no-link", str(self.remote.top), str(self.distant.digest)]
            case "why":
                return [*store, "why", str(self.world.path), "share/LICENCE"]
            case "build":
                return [*store, "build", str(RECIPES / "zlib.py"), "--no-link"]
            case "gc" | "check":
                return [*store, command]
        return [*store, command, str(self.world.path)]

    def __call__(
        self, command: str, harm: Callable[[], None] = lambda: None, *, user: int | None = None
    ) -> tuple[int, str, str]:
        """Run a command after ``harm``. Gives its status, what it printed, and its errors."""
        out, err = self.top / "out", self.top / "err"
        for path in (out, err):
            path.write_bytes(b"")
            path.chmod(0o666)

        def work() -> None:
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", 1, errors="backslashreplace")
            os.environ.update(environment(self.world.store.root), HOME=str(self.top), XDG_CONFIG_HOME=str(self.top))
            words = self.words(command)
            harm()
            cli.main(words)

        code = status(start(work, user=user))
        return code, out.read_text(errors="replace"), err.read_text(errors="replace")

    def is_whole(self) -> None:
        store = Store(self.world.store.root, durable=False)
        assert [finding for finding in check(store) if not finding.harmless] == []
        assert (self.link / "bin/hello").read_bytes() == b"launcher of program"


def told(outcome: Outcome, *words: str) -> None:
    """It failed, said why in one line, and what to do in another."""
    code, _, err = outcome
    lines = [line for line in err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert (code, "Traceback" in err, [line[:5] for line in lines]) == (1, False, ["error", "hint:"]), outcome
    assert any(word in lines[0] for word in words), outcome


def read_only(place: Path) -> None:
    """Make ``place`` read-only for this process, whoever it is."""
    mount_small(place.parent / "mount", 1 << 20)
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(place)
    assert libc.mount(target, target, None, MS_BIND, None) == 0, os.strerror(ctypes.get_errno())
    assert libc.mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY, None) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "mount").mkdir()
    return Place(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_store(place: Place, command: str) -> None:
    told(place(command, lambda: read_only(place.world.store.root)), "Read-only file system", "readonly")
    place.is_whole()


@pytest.mark.parametrize("command", COMMANDS)
def test_somebody_elses_store(tmp_path: Path, command: str) -> None:
    with ordinary_folder(tmp_path) as folder:
        place = Place(folder)
        load_all()
        for path in (folder, *folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o555)
        folder.chmod(0o777)
        told(place(command, user=NOBODY), "Permission denied", "readonly")
        place.is_whole()


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "build"])
def test_too_few_descriptors(place: Place, command: str) -> None:
    for more in range(0, 40, 3):

        def harm(more: int = more) -> None:
            used = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1 + more, used + 1 + more))

        outcome = place(command, harm)
        if outcome[0] == 0:
            break
        told(outcome, "Too many open files", "unable to open database")
        place.is_whole()
    else:
        pytest.fail("it never had enough")
    place.is_whole()


@pytest.mark.parametrize("command", ["info", "pull", "push", "check"])
def test_small_files(place: Place, command: str) -> None:
    for limit in (0, 100, 9000, 30_000):

        def harm(limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        outcome = place(command, harm)
        if outcome[0]:
            assert "Traceback" not in outcome[2], outcome
        place.is_whole()
    assert place(command)[0] == 0


@pytest.mark.parametrize(
    "name", [b"with spaces", b"two\nlines", b"\xff\xfe not UTF-8", "\N{SNOWMAN}".encode(), b"-x", b"a:b%$ORIGIN"]
)
def test_odd_places(tmp_path: Path, name: bytes) -> None:
    place = Place(tmp_path, tmp_path / os.fsdecode(name))
    for command in ("info", "tree", "why", "check", "push", "pull", "gc"):
        code, out, err = place(command)
        assert (code, "Traceback" in err) == (0, False), (command, out, err)
    place.is_whole()
    printed = (tmp_path / "out").read_bytes()
    assert b"freed" in printed
    assert place("info")[0] == 0
    assert os.fsencode(place.world.path) in (tmp_path / "out").read_bytes()
