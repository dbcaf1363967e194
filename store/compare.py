"""Comparing a directory with the manifest that it was checked out from."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from blake3 import blake3

from store import files
from store.batch import CHUNK
from store.digest import Digest
from store.manifest import Directory, File, Manifest, Symlink, show
from store.store import Store


def compare(store: Store, manifest: Manifest, fd: int) -> Iterator[tuple[bytes, str]]:
    """What is different in the directory ``fd``, whose tree should be ``manifest``, as check_out makes it in ``artifacts/``.

    Gives (path, what is wrong with it). The bytes of files that are hard links to blobs are not read.
    """
    return _Comparison(store, manifest).directory(fd, b"")


class _Comparison:
    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.store = store
        self.nodes = manifest.nodes
        self.names: dict[bytes, set[bytes]] = {}
        for path in self.nodes:
            parent, slash, name = path.rpartition(b"/")
            self.names.setdefault(parent + slash, set()).add(name)

    def directory(self, fd: int, prefix: bytes) -> Iterator[tuple[bytes, str]]:
        # The top is left writable when its builder was killed right after it moved it into place: that is no harm.
        if prefix and os.fstat(fd).st_mode & 0o222:
            yield prefix[:-1], "a directory that can be written to"
        there = set(os.listdir(os.fsencode(f"/proc/self/fd/{fd}")))
        expected = self.names.get(prefix, set())
        for name in sorted(there ^ expected):
            yield prefix + name, "it was added" if name in there else "it is missing"
        for name in sorted(there & expected):
            path = prefix + name
            if problem := self.problem(path, name, fd):
                yield path, problem
            elif type(self.nodes[path]) is Directory:
                with files.directory(name, at=fd) as inner:
                    yield from self.directory(inner, path + b"/")

    def problem(self, path: bytes, name: bytes, at: int) -> str:
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
        match self.nodes[path]:
            case Directory():
                return "" if stat.S_ISDIR(status.st_mode) else "it is not a directory any more"
            case Symlink(target):
                if not stat.S_ISLNK(status.st_mode):
                    return "it is not a symlink any more"
                actual = os.readlink(name, dir_fd=at)
                return "" if actual == target else f"it leads to {show(actual)} instead of {show(target)}"
            case File() as node:
                return self.file_problem(node, name, at, status)

    def file_problem(self, node: File, name: bytes, at: int, status: os.stat_result) -> str:
        if not stat.S_ISREG(status.st_mode):
            return "it is not a file any more"
        if self.is_blob(node, status):
            return ""
        mode = 0o555 if node.executable else 0o444
        if stat.S_IMODE(status.st_mode) != mode:
            return f"its mode is {stat.S_IMODE(status.st_mode):04o} instead of {mode:04o}"
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            return "" if digest_of(fd) == node.blob else "its content was changed"
        finally:
            os.close(fd)

    def is_blob(self, node: File, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(os.lstat(self.store.blob_path(node.blob, executable=node.executable)), status)
        except FileNotFoundError:
            return False


def digest_of(fd: int) -> Digest:
    """The digest of what is left to read from ``fd``. Raises OSError when the disk cannot give it."""
    # Not by mmap: a disk error would then be a signal that kills us, and not an error that can be told of.
    hasher = blake3()
    while piece := os.read(fd, CHUNK):
        hasher.update(piece)
    return Digest(hasher.digest())
