"""Small things that the tests of the store share."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from store import artifacts, files, trees
from store.action import Action
from store.batch import Batch
from store.digest import Digest
from store.manifest import DIRECTORY, File, Manifest, Node, Symlink
from store.result import Result
from store.store import Store

NOBODY = 65534


def tree(batch: Batch, content: dict[str, bytes | str | None]) -> Manifest:
    """A tree from a dictionary: bytes are a file (executable below bin/), a text is a symlink, None is an empty directory."""
    entries: list[tuple[bytes, Node]] = []
    for path, value in content.items():
        name = os.fsencode(path)
        if value is None:
            entries.append((name, DIRECTORY))
        elif isinstance(value, str):
            entries.append((name, Symlink(value.encode())))
        else:
            entries.append((name, batch.add_bytes(value, executable="bin/" in path)))
    return Manifest.with_parents(entries)


def record(batch: Batch, action: Action, label: str, output: Manifest, *, started: int = 1) -> Digest:
    """Add a tree as the outcome of an action."""
    batch.add_manifest(output)
    batch.add_result(Result(action.encode(), label, output.digest, started, 5, "test"))
    return output.digest


class World:
    """A small store with all kinds of steps: two packages and a source, a root, an input root, a build, a packed artifact."""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self.store = Store(root, durable=durable)
        with self.store.batch() as batch:
            self.libc = tree(batch, {"usr/lib/ld.so": b"loader", "usr/lib/libc.so.6": b"libc", "usr/share/empty": b""})
            self.ssl = tree(
                batch, {"usr/lib/libssl.so.3": b"ssl", "usr/lib/libssl.so": "libssl.so.3", "usr/bin/openssl": b"tool"}
            )
            self.source = tree(batch, {"hello/main.c": b"int main;", "hello/LICENCE": b"do as you like"})
            self.skeleton = tree(batch, {"etc/passwd": b"root", "tmp": None})
            batch.add_manifest(self.skeleton)
            record(batch, Action("import", (), ("libc",)), "libc6 2.36", self.libc)
            record(batch, Action("import", (), ("ssl",)), "libssl3 3.0", self.ssl)
            record(batch, Action("import", (), ("source",)), "hello.tar.gz", self.source)
            self.root = Manifest.with_parents(
                [*self.libc.files, *self.ssl.files, (b"usr/lib/libssl.so", Symlink(b"libssl.so.3"))]
            )
            parts = (("libc6 2.36", self.libc.digest), ("libssl3 3.0", self.ssl.digest))
            record(batch, Action("root", parts, ()), "toolchain 12", self.root)
            record(batch, Action("system", (), ("lock",)), "toolchain 12", self.root)
            inputs = [*self.root.files, *self.skeleton.files, *self.source.under(b"build").files]
            self.input_root = Manifest.with_parents(inputs)
            merged = (("skeleton", self.skeleton.digest), ("toolchain 12", self.root.digest), ("hello", self.source.digest))
            record(batch, Action("merge", merged, ()), "hello 2.10", self.input_root)
            self.output = tree(
                batch, {"bin/hello": b"program", "bin/openssl": b"tool", "share/LICENCE": b"do as you like", "share/empty": b""}
            )
            self.build = Action("build", (("input root", self.input_root.digest),), ("make",))
            record(batch, self.build, "hello 2.10", self.output)
            self.artifact = tree(
                batch,
                {
                    "bin/hello": b"launcher of program",
                    "bin/openssl": b"launcher of tool",
                    "share/LICENCE": b"do as you like",
                    "share/empty": b"",
                    ".launch/hello/ld.so": b"loader",
                    ".launch/hello/lib/libssl.so.3": b"ssl",
                    "lib/libssl.so": "../.launch/hello/lib/libssl.so.3",
                },
            )
            packed = (("output", self.output.digest), ("input root", self.input_root.digest))
            self.pack = Action("pack", packed, ())
            record(batch, self.pack, "hello 2.10", self.artifact, started=7)
            self.check = Action("check", (("artifact", self.artifact.digest), ("bare root", self.libc.digest)), ())
            record(batch, self.check, "hello 2.10", self.artifact, started=8)
        self.path = artifacts.check_out(self.store, self.artifact, name="hello", version="2.10")


def check_out(store: Store, manifest: Manifest, place: Path, **options: bool) -> None:
    """Check a tree out into a new directory."""
    place.mkdir()
    with files.directory(place) as fd:
        trees.check_out(store, manifest, fd, **options)


def take_in(store: Store, place: Path, *, move: bool = False) -> Manifest:
    """Take the tree in a directory into the store."""
    with store.batch() as batch, files.directory(place) as fd:
        manifest = trees.take_in(batch, fd, move=move)
        batch.add_manifest(manifest)
    return manifest


def file_of(manifest: Manifest, path: bytes) -> File:
    """The file at a path."""
    node = manifest.get(path)
    assert isinstance(node, File)
    return node


def start(work: Callable[[], object], *, user: int | None = None) -> int:
    """Do ``work`` in another process, as another user if one is given and we may. Gives its id; see ``status``."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if user is not None and os.getuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def status(child: int) -> int:
    """Wait for a process and give its exit status; negative: the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int) -> None:
    """End a process as a power cut would."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@contextlib.contextmanager
def ordinary_folder(top: Path) -> Iterator[Path]:
    """A folder that an ordinary user owns and can reach; the same user as ours when we are none but that."""
    folder = top / "ordinary"
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        # pytest's folders are for their owner only: whoever can search them finds the one below by its name.
        for parent in [top, *top.parents]:
            mode = parent.stat().st_mode
            if not mode & 0o001:
                os.chmod(parent, mode & 0o7777 | 0o001)
    yield folder
