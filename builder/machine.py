"""A machine's files as a tree that is packed from: each is read when it is asked for, and no other."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from launcher.names import PREFIX
from store import files
from store.batch import Batch
from store.digest import Digest
from store.errors import Error
from store.manifest import DIRECTORY, Directory, Manifest, Node, Symlink, show

# What the kernel says where a program finds nothing, and looks on: EACCES is of a directory that may not be entered.
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)


class NotReadable(Error):
    """A file or directory of the machine that this user may not read."""

    def __init__(self, path: bytes) -> None:
        super().__init__(
            f"/{show(path)} may not be read",
            hint="Only root may read it on this machine: run the command as root, or leave it.",
        )
        self.path = path


class Changed(Error):
    """A file of the machine that was written to while it was adopted."""

    def __init__(self, path: bytes) -> None:
        super().__init__(f"/{show(path)} changed while it was read", hint="Run the same command again.")
        self.path = path


class Machine:
    """What is below the directory ``fd``, with no symlink followed: whoever asks resolves them, and so stays in there.

    Files are added to ``batch`` when they are first asked for. Devices and the like are not there, nor is what lies in
    directories that may not be entered.
    """

    def __init__(self, fd: int, batch: Batch) -> None:
        self._fd = fd
        self._batch = batch
        self._seen: dict[bytes, Node | None] = {}
        self._places: dict[Digest, bytes] = {}

    def seen(self) -> Manifest:
        """All that was asked for and is there: packing sees no difference between this tree and the machine."""
        return Manifest.with_parents((path, node) for path, node in self._seen.items() if node is not None)

    def get(self, path: bytes) -> Node | None:
        """The node at ``path``, or None. Raises NotReadable."""
        if path not in self._seen:
            self._seen[path] = self._look(path)
        return self._seen[path]

    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory ``path``, sorted; none when there is no such directory. Raises NotReadable."""
        with self._directory(path) as at:
            if at is None:
                return []
            try:
                with files.directory(".", at=at) as fd:
                    return sorted(os.fsencode(name) for name in os.listdir(fd))
            except PermissionError:
                raise NotReadable(path) from None

    def below(self, path: bytes) -> Manifest:
        """What the directory ``path`` holds, as a tree of its own. Raises KeyError when there is no such directory."""
        if self.get(path) != DIRECTORY:
            raise KeyError(path)
        start = path + b"/"
        return Manifest((name[len(start) :], node) for name, node in self._walk(path))

    def read(self, digest: Digest) -> bytes:
        """The bytes of a file that was asked for. Raises Changed."""
        path = self._places[digest]
        with self._directory(path.rpartition(b"/")[0]) as at:
            if at is None:
                raise Changed(path)
            name = path.rpartition(b"/")[2]
            try:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
            except OSError as error:
                if error.errno not in _NOTHING:
                    raise
                raise Changed(path) from None
            with open(fd, "rb") as file:
                data = file.read()
        if Digest.of(data) != digest:
            raise Changed(path)
        return data

    def _walk(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        for name in self.names(path):
            inner = path + b"/" + name
            node = self.get(inner)
            if node is not None:
                yield inner, node
            if type(node) is Directory:
                yield from self._walk(inner)

    def _look(self, path: bytes) -> Node | None:
        if path == PREFIX or path.startswith(PREFIX + b"/"):
            return None  # the place of what is packed
        folder, _, name = path.rpartition(b"/")
        with self._directory(folder) as at:
            if at is None:
                return None
            try:
                mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
            except OSError as error:
                if error.errno not in _NOTHING:
                    raise
                return None
            if stat.S_ISLNK(mode):
                return Symlink(os.readlink(name, dir_fd=at))
            if stat.S_ISDIR(mode):
                return DIRECTORY
            if not stat.S_ISREG(mode):
                return None
            try:
                node = self._batch.copy_file(name, at=at, executable=bool(mode & 0o111))
            except PermissionError:
                raise NotReadable(path) from None
        self._places.setdefault(node.blob, path)
        return node

    @contextlib.contextmanager
    def _directory(self, path: bytes) -> Iterator[int | None]:
        """A descriptor of the directory ``path``, or None when there is none, or none that may be entered."""
        fd = os.dup(self._fd)
        try:
            for name in filter(None, path.split(b"/")):
                # To go through a directory is another permission than to read it.
                inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = inner
        except OSError as error:
            os.close(fd)
            if error.errno not in _NOTHING:
                raise
            yield None
            return
        try:
            yield fd
        finally:
            os.close(fd)
