"""The store's folder: where everything is, and how it gets there.

Files are written once: into a private workspace, on disk, and only then under their name. What a name promises is
there before the name is: blobs before the manifests that list them, manifests before the results that point to them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from store import files
from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest
from store.result import Result

FOLDERS = ("blobs", "manifests", "results", "artifacts", "downloads", "roots", "logs", "locks", "tmp")
CHUNK = 1 << 20


class NoStore(Error):
    """There is no store at ``path``, or it cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot use the store {path}: {reason}", hint="Choose another place with --store or BUILDER_STORE.")
        self.path = path


class MissingBlob(Error):
    """A blob that a manifest lists and the store does not hold."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"the store does not hold the blob {digest}", hint="`builder check` tells what is damaged.")
        self.digest = digest


class MissingManifest(Error):
    """A manifest that something points to and the store does not hold."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"the store does not hold the manifest {digest}", hint="`builder check` tells what is damaged.")
        self.digest = digest


class Damaged(Error):
    """A file of the store whose bytes are not what its name says."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged: its bytes do not have the digest that is its name", hint="Run `builder check`.")
        self.path = path


class TooLarge(Error):
    """More bytes than the reader was told to take."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a file of more than {limit} bytes")
        self.limit = limit


class Store:
    """A store on disk. ``durable=False`` leaves out waiting for the disk: for tests, and for a store in memory."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        """Open the store at ``root``, and make it when it is not there. Raises NoStore."""
        self.root = Path(os.path.abspath(root))
        self.durable = durable
        if not (self.root / "tmp").is_dir():
            self._create()

    def _create(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in FOLDERS:
                # Half-made trees and kept build folders are nobody else's business.
                (self.root / folder).mkdir(exist_ok=True, mode=0o700 if folder == "tmp" else 0o755)
        except OSError as error:
            raise NoStore(self.root, os.strerror(error.errno or 0)) from None

    # -- places --

    def _place(self, folder: str, digest: Digest) -> Path:
        digits = digest.hex
        return self.root / folder / digits[:2] / digits

    def blob_path(self, digest: Digest, *, executable: bool) -> Path:
        """Where the blob is. Executable files have their own: hard links share a mode."""
        path = self._place("blobs", digest)
        return path.with_name(path.name + ".x") if executable else path

    def manifest_path(self, digest: Digest) -> Path:
        """Where the manifest is."""
        return self._place("manifests", digest)

    def result_path(self, action: Digest) -> Path:
        """Where the result of an action is."""
        return self._place("results", action)

    def log_path(self, action: Digest) -> Path:
        """Where the output of a build goes while it runs, and stays."""
        return self.root / "logs" / action.hex

    # -- reading --

    def open_blob(self, digest: Digest) -> BinaryIO:
        """The blob, opened for reading. Raises MissingBlob."""
        for executable in (False, True):
            with contextlib.suppress(FileNotFoundError):
                return open(self.blob_path(digest, executable=executable), "rb")
        raise MissingBlob(digest)

    def read_blob(self, digest: Digest) -> bytes:
        """The bytes of a blob. Raises MissingBlob or Damaged."""
        with self.open_blob(digest) as file:
            data = file.read()
            if Digest.of(data) != digest:
                raise Damaged(Path(file.name))
        return data

    def has_blob(self, node: File) -> bool:
        """Whether the file's bytes are here, with the mode it asks for."""
        return os.path.exists(self.blob_path(node.blob, executable=node.executable))

    def holds(self, manifest: Manifest) -> bool:
        """Whether every blob of ``manifest`` is here. A collection may keep a manifest and not its blobs: see store.collect."""
        return all(self.has_blob(node) for node in {node: None for _, node in manifest.files})

    def read_manifest(self, digest: Digest) -> Manifest:
        """The manifest ``digest``. Raises MissingManifest, Damaged or BadRecord."""
        path = self.manifest_path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise MissingManifest(digest) from None
        if Digest.of(data) != digest:
            raise Damaged(path)
        return Manifest.decode(data)

    def read_result(self, action: Digest) -> Result | None:
        """What came of ``action``, or None. A damaged record, or one whose tree is gone, counts as none.

        The tree is known then, but its blobs may be gone: whoever reads them asks ``holds`` first.
        """
        try:
            result = Result.decode(self.result_path(action).read_bytes())
        except (FileNotFoundError, BadRecord):
            return None
        if result.action != action or not self.manifest_path(result.output).exists():
            return None
        return result

    # -- writing --

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """A private folder inside the store, removed at the end, and by the next builder if this one is killed."""
        with files.directory(self.root / "tmp") as parent:
            name = os.urandom(8).hex()
            # A sweep holds this lock, so it cannot see the folder before its own lock says that somebody is in there.
            fcntl.flock(parent, fcntl.LOCK_SH)
            os.mkdir(name, mode=0o700, dir_fd=parent)
            fd = files.open_directory(name, at=parent)
            fcntl.flock(fd, fcntl.LOCK_SH)
            fcntl.flock(parent, fcntl.LOCK_UN)
            try:
                yield self.root / "tmp" / name
            finally:
                files.remove_tree(name, at=parent)
                os.close(fd)

    def sweep(self) -> int:
        """Remove what killed builders left in tmp/. Gives how many folders went."""
        count = 0
        with files.directory(self.root / "tmp") as parent:
            fcntl.flock(parent, fcntl.LOCK_EX)
            for name in os.listdir(parent):
                if name.startswith("kept-"):
                    continue
                with contextlib.suppress(FileNotFoundError, NotADirectoryError), files.directory(name, at=parent) as fd:
                    if files.try_lock(fd):
                        files.remove_tree(name, at=parent)
                        count += 1
        return count

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock ``name``, which other processes and threads then wait for. ``waiting`` is called before a wait."""
        # The file stays: removing it would let two processes hold locks on two files of one name.
        fd = os.open(self.root / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            if not files.try_lock(fd, shared=shared):
                if waiting is not None:
                    waiting()
                fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def in_use(self, *, waiting: Callable[[], None] | None = None) -> contextlib.AbstractContextManager[None]:
        """Keep collections away for as long as the with block lasts: from the first look-up until a root points to the outcome.

        ``waiting`` is called when one is going on, before its end is waited for.
        """
        return self.lock("gc", shared=True, waiting=waiting)

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Things to be added. They get their names when the with block ends, and only if it ends without an error.

        Raises NoSpace, and Error for whatever else the disk refuses when names are given.
        """
        try:
            with self.workspace() as folder, files.directory(folder) as fd:
                batch = Batch(self, fd)
                yield batch
                try:
                    batch.commit()
                except OSError as error:
                    raise files.explain(error, str(self.root)) from error
        except OSError as error:
            # Whatever was added in the block, and the workspace itself: a full disk is the same news everywhere.
            if files.is_full(error):
                raise files.NoSpace(str(self.root)) from error
            raise


class Batch:
    """What is to be added to a store, in one step. Threads may share one."""

    def __init__(self, store: Store, fd: int) -> None:
        self._store = store
        self._fd = fd
        self._lock = threading.Lock()
        self._count = 0
        # By place in the store: the name in the workspace. One dictionary a stage, in the order that they get names.
        self._blobs: dict[Path, str] = {}
        self._manifests: dict[Path, str] = {}
        self._results: dict[Path, str] = {}

    def _new_name(self) -> str:
        with self._lock:
            self._count += 1
            return f"{self._count:x}"

    def _create(self, name: str) -> int:
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd)

    def _keep(self, stage: dict[Path, str], place: Path, name: str) -> None:
        with self._lock:
            if stage.setdefault(place, name) != name:
                os.unlink(name, dir_fd=self._fd)

    def _known(self, stage: dict[Path, str], place: Path) -> bool:
        with self._lock:
            if place in stage:
                return True
        return os.path.exists(place)

    def _seal(self, name: str, executable: bool) -> None:
        os.chmod(name, 0o555 if executable else 0o444, dir_fd=self._fd)
        os.utime(name, (files.EPOCH, files.EPOCH), dir_fd=self._fd, follow_symlinks=False)

    def add_bytes(self, data: bytes, *, executable: bool = False) -> File:
        """Add a blob from memory."""
        digest = Digest.of(data)
        place = self._store.blob_path(digest, executable=executable)
        if not self._known(self._blobs, place):
            self._write(self._blobs, place, data, executable=executable)
        return File(digest, len(data), executable)

    def _write(self, stage: dict[Path, str], place: Path, data: bytes, *, executable: bool = False) -> None:
        name = self._new_name()
        fd = self._create(name)
        try:
            files.write_all(fd, data)
            os.fchmod(fd, 0o555 if executable else 0o444)
            os.utime(fd, (files.EPOCH, files.EPOCH))
        finally:
            os.close(fd)
        self._keep(stage, place, name)

    def add_stream(self, chunks: Iterable[bytes], *, executable: bool = False, limit: int = 1 << 40) -> File:
        """Add a blob from its bytes in pieces. Raises TooLarge at more than ``limit`` bytes in all."""
        iterator = iter(chunks)
        first = next(iterator, b"")
        second = next(iterator, None)
        if second is None:
            if len(first) > limit:
                raise TooLarge(limit)
            return self.add_bytes(first, executable=executable)
        hasher, size, name = blake3(), 0, self._new_name()
        fd = self._create(name)
        try:
            for chunk in _chain(first, second, iterator):
                size += len(chunk)
                if size > limit:
                    raise TooLarge(limit)
                hasher.update(chunk)
                files.write_all(fd, chunk)
        except BaseException:
            os.unlink(name, dir_fd=self._fd)
            raise
        finally:
            os.close(fd)
        return self._place_blob(name, Digest(hasher.digest()), size, executable)

    def _place_blob(self, name: str, digest: Digest, size: int, executable: bool) -> File:
        place = self._store.blob_path(digest, executable=executable)
        if self._known(self._blobs, place):
            os.unlink(name, dir_fd=self._fd)
        else:
            self._seal(name, executable)
            self._keep(self._blobs, place, name)
        return File(digest, size, executable)

    def move_file(self, source: str | bytes, *, at: int, executable: bool) -> File:
        """Take over the regular file ``source`` of the directory ``at``, which nothing may write to any more.

        The file is not copied: it has to be on the store's file system. It is gone from ``at`` afterwards.
        """
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            digest, size = hash_file(fd)
            shared = os.fstat(fd).st_nlink > 1
        finally:
            os.close(fd)
        place = self._store.blob_path(digest, executable=executable)
        if shared and not self._known(self._blobs, place):
            # Another name of this file is still to come, perhaps with another mode: blobs never share an inode.
            node = self.copy_file(source, at=at, executable=executable)
            os.unlink(source, dir_fd=at)
            return node
        if self._known(self._blobs, place):
            os.unlink(source, dir_fd=at)
            return File(digest, size, executable)
        name = self._new_name()
        os.rename(source, name, src_dir_fd=at, dst_dir_fd=self._fd)
        self._seal(name, executable)
        self._keep(self._blobs, place, name)
        return File(digest, size, executable)

    def copy_file(self, source: str | bytes, *, at: int, executable: bool) -> File:
        """Add a copy of the regular file ``source`` of the directory ``at``."""
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            return self.add_stream(_pieces(fd), executable=executable)
        finally:
            os.close(fd)

    def add_manifest(self, manifest: Manifest) -> Digest:
        """Add a manifest, all of whose blobs are in the store or in this batch."""
        place = self._store.manifest_path(manifest.digest)
        if not self._known(self._manifests, place):
            self._write(self._manifests, place, manifest.encode())
        return manifest.digest

    def add_result(self, result: Result) -> None:
        """Add, or replace, what came of an action."""
        self._write(self._results, self._store.result_path(result.action), result.encode())

    def commit(self) -> None:
        """Give everything its name. Can be called more than once, to save what there is so far."""
        stages = (self._blobs, self._manifests, self._results)
        with self._lock:
            # All at one moment: what another thread adds meanwhile might be a result whose blobs came too late for this time.
            every = [dict(stage) for stage in stages]
        for stage, taken in zip(stages, every, strict=True):
            if not taken:
                continue
            self._sync()
            for place, name in taken.items():
                self._rename(name, place)
            with self._lock:
                for place in taken:
                    del stage[place]
        self._sync()

    def _sync(self) -> None:
        if self._store.durable:
            files.sync_file_system(self._fd)

    def _rename(self, name: str, place: Path) -> None:
        try:
            os.rename(name, place, src_dir_fd=self._fd)
        except FileNotFoundError:
            place.parent.mkdir(exist_ok=True)
            os.rename(name, place, src_dir_fd=self._fd)


def _chain(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, CHUNK):
        yield piece


def hash_file(fd: int) -> tuple[Digest, int]:
    """The digest and the size in bytes of an open regular file, read from its start. Both cores are used on large ones."""
    size = os.fstat(fd).st_size
    hasher = blake3(max_threads=blake3.AUTO) if size > 4 * CHUNK else blake3()
    if size > CHUNK:
        hasher.update_mmap(f"/proc/self/fd/{fd}")
        return Digest(hasher.digest()), size
    count = 0
    while piece := os.pread(fd, CHUNK, count):
        hasher.update(piece)
        count += len(piece)
    return Digest(hasher.digest()), count


def is_link_limit(error: OSError) -> bool:
    """Whether a hard link could not be made for a reason that a copy gets around."""
    return error.errno in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP)
