"""Between manifests and directories: checking a tree out, and taking one in.

Both work from a held descriptor, name by name, and follow no symlink: what else happens on the disk meanwhile cannot
lead them out of the directory that they were given.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from store import files
from store.batch import Batch, hash_file
from store.errors import Error
from store.manifest import DIRECTORY, Directory, File, Manifest, Node, Symlink, show
from store.store import MissingBlob, Store

MOST_TRIES = 100


class NotATree(Error):
    """Something in a directory that a manifest cannot hold: a device, a socket, a named pipe."""

    def __init__(self, path: bytes) -> None:
        super().__init__(
            f"{show(path)} is neither a file, a directory nor a symlink", hint="Remove it at the end of the script."
        )
        self.path = path


def check_out(store: Store, manifest: Manifest, fd: int, *, copy: bool = False, directory_mode: int = 0o755) -> None:
    """Fill the empty directory ``fd`` with the tree of ``manifest``.

    Files are hard links to blobs, read-only; with ``copy`` they are copies that may be written to. Raises MissingBlob, and
    FileExistsError when the directory is not empty.
    """
    _Checkout(store, copy=copy).run(manifest, fd, directory_mode)


class _Checkout:
    def __init__(self, store: Store, *, copy: bool) -> None:
        self.copy = copy
        self.blobs = files.open_directory(store.root / "blobs")

    def run(self, manifest: Manifest, top: int, directory_mode: int) -> None:
        # The descriptors of the directories that lead to the entry at hand, and how many bytes of its path they stand for.
        open_directories: list[tuple[bytes, int]] = [(b"", top)]
        try:
            for path, node in manifest.entries:
                parent, _, name = path.rpartition(b"/")
                while open_directories[-1][0] != parent:
                    self.leave(open_directories.pop()[1], directory_mode)
                at = open_directories[-1][1]
                match node:
                    case Directory():
                        os.mkdir(name, 0o700, dir_fd=at)
                        open_directories.append((path, files.open_directory(name, at=at)))
                    case Symlink(target):
                        os.symlink(target, name, dir_fd=at)
                    case File():
                        self.place(node, name, at)
        finally:
            for _, fd in reversed(open_directories[1:]):
                self.leave(fd, directory_mode)
            os.close(self.blobs)

    @staticmethod
    def leave(fd: int, mode: int) -> None:
        os.fchmod(fd, mode)
        os.utime(fd, (files.EPOCH, files.EPOCH))
        os.close(fd)

    def place(self, node: File, name: bytes, at: int) -> None:
        digits = node.blob.hex
        source = f"{digits[:2]}/{digits}.x" if node.executable else f"{digits[:2]}/{digits}"
        try:
            if self.copy:
                self.duplicate(source, name, at, 0o755 if node.executable else 0o644)
                return
            try:
                self.link(source, name, at)
            except OSError as error:
                if not files.is_link_limit(error):
                    raise
                self.duplicate(source, name, at, 0o555 if node.executable else 0o444)
        except FileNotFoundError:
            raise MissingBlob(node.blob) from None

    def link(self, source: str, name: bytes, at: int) -> None:
        # Another process may give the name its own copy between the kernel's look-up and the link: then the file that was
        # found has no name any more, and link(2) says ENOENT although there has been a blob of this name all the time.
        for _ in range(MOST_TRIES):
            try:
                os.link(source, name, src_dir_fd=self.blobs, dst_dir_fd=at, follow_symlinks=False)
                return
            except FileNotFoundError:
                os.stat(source, dir_fd=self.blobs, follow_symlinks=False)
        self.duplicate(source, name, at, 0o555 if source.endswith(".x") else 0o444)

    def duplicate(self, source: str, name: bytes, at: int, mode: int) -> None:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.blobs)
        try:
            writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)
            try:
                while os.sendfile(writing, reading, None, 1 << 30):
                    pass
                os.fchmod(writing, mode)
                os.utime(writing, (files.EPOCH, files.EPOCH))
            finally:
                os.close(writing)
        finally:
            os.close(reading)


def take_in(batch: Batch, fd: int, *, move: bool) -> Manifest:
    """The tree in the directory ``fd`` as a manifest, with its files added to ``batch``.

    With ``move`` the files are taken away from there, which costs no copy; they must lie on the store's file system, and
    nothing may write to them any more; without it nothing is changed there. Owners, times and all modes but the executable
    one are forgotten. Raises NotATree, and Error for what may not be read.
    """
    return Manifest(_walk(batch, fd, b"", move))


def read(fd: int) -> Manifest:
    """The tree in the directory ``fd`` as a manifest, with nothing added to any store. Raises NotATree, Error and OSError."""
    return Manifest(_walk(_Reader(), fd, b"", move=False))


class _Reader:
    """In the place of a batch: it takes the digest of a file, and no copy."""

    def copy_file(self, source: str | bytes, *, at: int, executable: bool) -> File:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            return File(*hash_file(fd), executable)
        finally:
            os.close(fd)

    move_file = copy_file  # never asked for: nothing is moved


def _walk(batch: Batch | _Reader, fd: int, prefix: bytes, move: bool) -> Iterator[tuple[bytes, Node]]:
    for name in sorted(os.listdir(os.fsencode(f"/proc/self/fd/{fd}"))):
        path = prefix + name
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield path, DIRECTORY
            if move and mode & 0o700 != 0o700:
                os.chmod(name, 0o700, dir_fd=fd)
            try:
                inner = files.open_directory(name, at=fd)
            except PermissionError as error:
                raise files.explain(error, show(path)) from error
            try:
                yield from _walk(batch, inner, path + b"/", move)
            finally:
                os.close(inner)
        elif stat.S_ISLNK(mode):
            yield path, Symlink(os.readlink(name, dir_fd=fd))
        elif stat.S_ISREG(mode):
            executable = bool(mode & 0o111)
            if move:
                if not mode & 0o400:
                    os.chmod(name, 0o600, dir_fd=fd)
                yield path, batch.move_file(name, at=fd, executable=executable)
            else:
                try:
                    yield path, batch.copy_file(name, at=fd, executable=executable)
                except PermissionError as error:
                    raise files.explain(error, show(path)) from error
        else:
            raise NotATree(path)
