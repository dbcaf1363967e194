"""Adding to a store.

Files are written once: into a private workspace, on disk, and only then under their name. What a name promises is
there before the name is: blobs before the manifests that list them, manifests before the results that point to them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from store import files
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest
from store.result import Result
from store.signing import Signed
from store.store import Store

CHUNK = 1 << 20
MOST_TRIES = 100


class TooLarge(Error):
    """More bytes than the reader was told to take."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a file of more than {limit} bytes")
        self.limit = limit


class WrongBytes(Error):
    """Bytes that came under another digest than their own, and were not kept."""

    def __init__(self, expected: Digest, actual: Digest) -> None:
        super().__init__(f"bytes with the digest {actual.short} instead of {expected.short}")
        self.expected = expected
        self.actual = actual


class Batch:
    """What is to be added to a store, in one step. Threads may share one."""

    def __init__(self, store: Store, fd: int) -> None:
        self._store = store
        self._fd = fd
        self._lock = threading.Lock()
        self._committing = threading.Lock()
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
        """Whether it is in this batch, or in the store: then it is held by a link, and given its name again at the end.

        A collection may take the name away in between.
        """
        with self._lock:
            if place in stage:
                return True
        name = self._new_name()
        try:
            os.link(place, name, dst_dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            if files.is_link_limit(error):
                return False
            raise
        if not stat.S_ISREG(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
            # A link has a symlink's name too, and that is nothing of ours.
            os.unlink(name, dir_fd=self._fd)
            return False
        self._keep(stage, place, name)
        return True

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
        finally:
            os.close(fd)
        self._seal(name, executable)
        self._keep(stage, place, name)

    def add_expected(self, chunks: Iterable[bytes], node: File) -> None:
        """Add the blob of ``node`` from its bytes in pieces. Raises WrongBytes, and keeps nothing, when they are others."""
        hasher, name = blake3(), self._new_name()
        fd = self._create(name)
        try:
            for chunk in chunks:
                hasher.update(chunk)
                files.write_all(fd, chunk)
            digest = Digest(hasher.digest())
            if digest != node.blob:
                raise WrongBytes(node.blob, digest)
        except BaseException:
            os.unlink(name, dir_fd=self._fd)
            raise
        finally:
            os.close(fd)
        self._place_blob(name, digest, node.size, node.executable)

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
        name = self._new_name()
        os.rename(source, name, src_dir_fd=at, dst_dir_fd=self._fd)
        return self._place_blob(name, digest, size, executable)

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
        self._write(self._results, self._store.result_path(result.action), result.sealed())

    def add_signature(self, signed: Signed) -> None:
        """Add what a key says of a result, which is in the store or in this batch. It is not verified here."""
        place = self._store.signature_path(signed.statement.result.action, signed.signer)
        self._write(self._results, place, signed.encode())

    def commit(self) -> None:
        """Give everything its name. Can be called more than once, by any thread, to save what there is so far."""
        with self._committing:
            self._commit()

    def _commit(self) -> None:
        stages = (self._blobs, self._manifests, self._results)
        with self._lock:
            # All at one moment: what another thread adds meanwhile might be a result whose blobs came too late for this time.
            every = [dict(stage) for stage in stages]
        for stage, taken in zip(stages, every, strict=True):
            if not taken:
                continue
            self._sync()
            # Before they have their names: a collection that goes on may have found files of these names, and condemned them.
            for kind in {place.parent.parent.name for place in taken}:
                self._store.use(kind, *(place.name for place in taken if place.parent.parent.name == kind))
            if stage is self._manifests:
                self._store.use("tree", *(place.name for place in taken))
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
        for _ in range(MOST_TRIES):
            with contextlib.suppress(FileNotFoundError):
                os.rename(name, place, src_dir_fd=self._fd)
                return
            # Not there yet, or empty and just taken away by a collection.
            place.parent.mkdir(exist_ok=True, parents=True)
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
