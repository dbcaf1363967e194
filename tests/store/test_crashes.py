"""A store whose builder is killed, interrupted, or refused by the disk, at every system call that changes something."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store import artifacts, collect, files, roots, trees
from store.action import Action
from store.batch import Batch
from store.check import check
from store.errors import Error
from store.files import NoSpace
from store.manifest import Manifest
from store.store import Store
from tests.store.helpers import World, kill, record, start, status, tree

# All calls of the standard library's os module that change a file system, in the store's code or in what it uses.
CALLS = ("open", "mkdir", "rename", "link", "symlink", "unlink", "rmdir", "write", "chmod", "fchmod", "utime", "sendfile")
ACTION = Action("build", (), ("x",))
DONE = 100
KILLED = 9


def break_at(number: int, how: Callable[[], None]) -> Callable[[], bool]:
    """Do ``how`` before the call ``number`` of CALLS, counted from now, in this process. Gives whether it came to that."""
    left = number

    def broken(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                how()
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, broken(getattr(os, name)))
    files.sync_file_system = lambda fd: None  # the disk is not what is tried here, and it is slow
    return lambda: left <= 0


def die() -> None:
    os._exit(KILLED)


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> None:
    raise KeyboardInterrupt


def content(batch: Batch) -> Manifest:
    return tree(batch, {"bin/a": b"program", "share/b": b"text", "share/c": b"text", "l": "bin/a", "empty": None})


def build(root: Path, *, durable: bool = False) -> Path:
    """All that a build does to a store, and gives the result link."""
    store = Store(root / "store", durable=durable)
    store.sweep()
    with store.in_use():
        if store.read_result(ACTION.digest) is None:
            with store.workspace() as folder:
                (folder / "out").mkdir()
                (folder / "out/moved").write_bytes(b"moved")
                with store.batch() as batch, files.directory(folder / "out") as fd:
                    manifest = Manifest([*content(batch).entries, *trees.take_in(batch, fd, move=True).entries])
                    batch.add_stream([b"a stream ", b"of ", b"bytes"])
                    record(batch, ACTION, "x", manifest)
        result = store.read_result(ACTION.digest)
        assert result is not None
        artifact = store.read_manifest(result.output)
        place = artifacts.check_out(store, artifact, name="x", version="1")
        roots.add_link(store, root / "result", artifact.digest, place)
    return root / "result"


def is_done(link: Path) -> None:
    assert (link / "bin/a").read_bytes() == b"program"
    assert (link / "moved").read_bytes() == b"moved"
    assert os.readlink(link / "l") == "bin/a"


def damage(store: Store) -> list[object]:
    return [finding for finding in check(store) if not finding.harmless]


def broken_run(root: Path, number: int, how: Callable[[], None]) -> int:
    """Run a build in another process and break it at a call. Gives DONE when it has fewer calls, otherwise KILLED."""

    def work() -> None:
        came_to_it = break_at(number, how)
        try:
            is_done(build(root, durable=True))
        except (Error, OSError, KeyboardInterrupt):
            os._exit(KILLED)
        os._exit(KILLED if came_to_it() else DONE)

    return status(start(work))


@pytest.mark.parametrize("how", [die, refuse, interrupt])
def test_a_build_broken_at_every_call(tmp_path: Path, how: Callable[[], None]) -> None:
    for number in range(1, 2000):
        root = tmp_path / str(number)
        root.mkdir()
        outcome = broken_run(root, number, how)
        assert outcome in (KILLED, DONE)
        if (root / "store/tmp").exists():
            store = Store(root / "store", durable=False)
            assert damage(store) == [], number
            if how is not die and outcome != DONE and (root / "store/tmp").exists():
                # An error in the removal of a workspace leaves it to the next builder, as a killed process does.
                assert len(os.listdir(root / "store/tmp")) <= 2
        # Where there is a link, it leads to all of it.
        if os.path.lexists(root / "result"):
            is_done(root / "result")
        store = Store(root / "store", durable=False)
        is_done(build(root))
        assert check(store) == [], number
        assert [name for name in os.listdir(root) if name not in ("store", "result")] in ([], _left_links(root))
        if outcome == DONE:
            assert number > 80
            return
    pytest.fail("it never came to its end")


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMLINK, errno.EXDEV])
def test_a_build_refused_at_many_calls(tmp_path: Path, number: int) -> None:
    """Other words than those of a full disk. Some of them have a meaning: a link that cannot be made becomes a copy."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    outcome = KILLED
    for call in range(1 + number % 3, 2000, 3):
        root = tmp_path / str(call)
        root.mkdir()
        outcome = broken_run(root, call, fail)
        assert outcome in (KILLED, DONE)
        if (root / "store/tmp").exists():
            assert damage(Store(root / "store", durable=False)) == [], call
        is_done(build(root))
        assert check(Store(root / "store", durable=False)) == [], call
        if outcome == DONE:
            break
    assert outcome == DONE


@pytest.mark.parametrize("number", range(1, 11))
def test_a_disk_that_cannot_write_says_so_at_a_sync(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not synced gets no name: the bytes may be lost, and the next sync would not say so again."""
    left = number

    def sync(fd: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_file_system", sync)
    monkeypatch.setattr(files, "sync_directory", sync)
    # What is there after how many syncs.
    names = [("store/signatures", 1), ("store/blobs/*/*", 2), ("store/manifests/*/*", 3), ("store/results/*/*", 4)]
    names += [("store/artifacts/*", 6), ("store/roots/*", 7), ("result", 8)]
    try:
        build(tmp_path, durable=True)
    except (Error, OSError):
        assert left <= 0
        for pattern, after in names:
            assert bool(list(tmp_path.glob(pattern))) == (number > after), pattern
    else:
        assert left > 0
        assert number == 10
    is_done(build(tmp_path))
    assert check(Store(tmp_path / "store")) == []


def _left_links(root: Path) -> list[str]:
    """The symlink that was about to replace the result, where a killed process left it."""
    return [name for name in os.listdir(root) if name.startswith(".result.")]


@pytest.mark.parametrize(("how", "alive"), [(die, True), (die, False), (refuse, True), (interrupt, True)])
def test_a_collection_broken_at_every_call(tmp_path: Path, how: Callable[[], None], alive: bool) -> None:
    for number in range(1, 2000, 1 if alive else 3):  # without a root there are thrice as many calls
        root = tmp_path / str(number)
        world = World(root / "store")
        store = world.store
        with store.batch() as batch:
            other = tree(batch, {"bin/other": b"dead", "share/LICENCE": b"do as you like"})
            record(batch, Action("pack", (("output", world.output.digest),), ("other",)), "other 1", other)
        dead = artifacts.check_out(store, other, name="other", version="1")
        if alive:
            roots.add_named(store, "keep", world.artifact.digest)

        def work(number: int = number, store: Store = store) -> None:
            came_to_it = break_at(number, how)
            try:
                collect.collect(store)
            except (Error, OSError, KeyboardInterrupt):
                os._exit(KILLED)
            os._exit(KILLED if came_to_it() else DONE)

        outcome = status(start(work))
        assert outcome in (KILLED, DONE)
        assert damage(store) == [], number
        # Whatever is believed can be had, or is known not to be held.
        for action in (world.pack, world.build):
            result = store.read_result(action.digest)
            assert result is None or store.read_manifest(result.output)
        if alive:
            assert store.holds(world.artifact)
            assert (world.path / "bin/hello").read_bytes() == b"launcher of program"
        collect.collect(store)
        assert check(store) == []
        assert not dead.exists()
        assert world.path.exists() == alive
        if not alive:
            assert [path for path in store.root.rglob("*") if path.is_file() and path.parent.name != "locks"] == []
        if outcome == DONE:
            assert number > 10
            return
    pytest.fail("it never came to its end")


def test_kill_at_any_moment(tmp_path: Path) -> None:
    """The same without a list of calls: real builders, killed by the clock, on one store."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    store = Store(tmp_path / "store", durable=False)

    def work(number: int) -> None:
        for turn in range(1000):
            with store.in_use(), store.batch() as batch:
                label = f"{number}-{turn}"
                files_of_it = {f"bin/{name}": b"%d %d" % (turn, name) for name in range(20)}
                manifest = tree(batch, {**files_of_it, "shared": b"the same in all" * 1000})
                record(batch, Action("build", (), (label,)), label, manifest)
            artifacts.check_out(store, manifest, name="x", version=str(turn))

    for number in range(25):
        children = [start(lambda number=number: work(number)) for _ in range(2)]  # type: ignore[misc]
        time.sleep(dice.random() * 0.08)
        for child in children:
            kill(child)
        assert damage(store) == []
    store.sweep()
    assert check(store) == []
    assert os.listdir(store.root / "artifacts")
    collect.collect(store)
    assert check(store) == []
    assert os.listdir(store.root / "artifacts") == []


# -- a full disk --

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def mount_small(place: Path, size: int) -> None:
    """Mount an empty file system of ``size`` bytes, for this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    assert libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)) == 0, os.strerror(ctypes.get_errno())
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(text)
    private = 1 << 18 | 1 << 14
    assert libc.mount(b"none", b"/", None, private, None) == 0, os.strerror(ctypes.get_errno())
    options = f"size={size},mode=0755".encode()
    assert libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, options) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize("way", ["bytes", "stream", "many", "copy"])
def test_a_full_disk(tmp_path: Path, way: str) -> None:
    def work() -> None:
        mount_small(tmp_path, 1 << 20)
        store = Store(tmp_path / "store")
        with store.batch() as batch:
            good = tree(batch, {"bin/a": b"good" * 1000})
            batch.add_manifest(good)
        used = shutil.disk_usage(tmp_path).used
        with pytest.raises(NoSpace) as caught, store.batch() as batch:
            if way == "bytes":
                batch.add_bytes(os.urandom(1 << 21))
            elif way == "stream":
                batch.add_stream(os.urandom(1 << 16) for _ in range(100))
            elif way == "many":
                for _ in range(100):
                    batch.add_bytes(os.urandom(1 << 15))
            else:
                with store.workspace() as folder:
                    (folder / "a").write_bytes(os.urandom(600_000))
                    with files.directory(folder) as fd:
                        batch.copy_file("a", at=fd, executable=False)
        assert "builder gc" in caught.value.hint
        # All of it was given back, and what was there before is as it was.
        assert shutil.disk_usage(tmp_path).used == used
        assert check(store) == []
        with store.batch() as batch:
            batch.add_bytes(b"there is room again")
        assert artifacts.check_out(store, good, name="a", version="1")

    assert status(start(work)) == 0
