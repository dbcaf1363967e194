"""Repairing a store: what ``store.check`` finds is restored from whatever has the right bytes.

Bytes are taken from another file of this store that still has them (the blob for a tree, a tree for the blob, a
tree for its manifest), and then from sources that the caller names. Nothing is believed: all of it is hashed. What is
damaged is never deleted. It is moved to ``lost+found/``, or linked there before something good takes its name.

The order makes it safe to be killed: contents first, then what promises them, then trees; and it may be run again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from store import artifacts, compare, files, trees
from store.artifacts import Folder
from store.batch import CHUNK
from store.check import Finding, Kind, Report, check, no_report
from store.digest import Digest
from store.errors import Error
from store.manifest import Manifest
from store.store import NoStore, Store

# Something that may have the bytes of a digest: another store, a remote. It gives a file to read them from, or None. It
# may raise Error or OSError, which counts as None.
Source: TypeAlias = Callable[[Digest], BinaryIO | None]

LOST = "lost+found"


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: each thing with what was done about it, and what is still damaged."""

    done: tuple[tuple[Path, str], ...]
    left: tuple[Finding, ...]


def other_store(place: Path) -> Source:
    """The store at ``place`` as a source. Raises NoStore."""
    if not (place / "blobs").is_dir():
        raise NoStore(place, "there is none")
    other = Store(place)

    def give(digest: Digest) -> BinaryIO | None:
        ways = [
            other.blob_path(digest, executable=False),
            other.blob_path(digest, executable=True),
            other.manifest_path(digest),
        ]
        return _first_good(digest, ways)

    return give


def repair(store: Store, sources: Sequence[Source] = (), report: Report = no_report) -> Repaired:
    """Restore what is damaged, as far as its bytes can be had. Raises what a full disk or a read-only store makes of it."""
    findings = check(store, report)
    if not any(not finding.harmless for finding in findings):
        return Repaired((), ())
    try:
        with store.uncollected(), store.workspace() as workspace:
            work = _Repair(store, sources, workspace)
            work.run([finding for finding in findings if not finding.harmless])
    except OSError as error:
        raise files.explain(error, str(error.filename or store.root)) from error
    left = [finding for finding in check(store) if not finding.harmless]
    return Repaired(tuple(work.done), tuple(left))


class _Repair:
    def __init__(self, store: Store, sources: Sequence[Source], workspace: Path) -> None:
        self.store = store
        self.sources = sources
        self.workspace = workspace
        self.lost = store.root / LOST / os.urandom(4).hex()
        self.done: list[tuple[Path, str]] = []

    def run(self, findings: list[Finding]) -> None:
        by_kind: dict[Kind, list[Path]] = {}
        for finding in findings:
            by_kind.setdefault(finding.kind, []).append(finding.path)
        for path in by_kind.get(Kind.FOREIGN, []):
            self.aside(path, "it is none of the store's")
        for path in by_kind.get(Kind.WRONG_MODE, []):
            with contextlib.suppress(FileNotFoundError):
                os.chmod(path, 0o555 if path.name.endswith(".x") else 0o444)
                self.done.append((path, "its mode was set right"))
        for path in [*by_kind.get(Kind.CORRUPT_MANIFEST, []), *by_kind.get(Kind.MISSING_MANIFEST, [])]:
            self.manifest(path)
        # A manifest that came back may list blobs of which nobody knew: all that are needed are looked at.
        wanted = dict.fromkeys(by_kind.get(Kind.CORRUPT_BLOB, []) + by_kind.get(Kind.MISSING_BLOB, []))
        for path in [*wanted, *self.missing(wanted)]:
            self.blob(path)
        for path in by_kind.get(Kind.CORRUPT_RESULT, []) + by_kind.get(Kind.DANGLING_RESULT, []):
            if not self.is_whole(path):
                self.aside(path, "the next build does that step again")
        for path in by_kind.get(Kind.CORRUPT_SIGNATURE, []):
            self.aside(path, "`builder sign`, or the next pull, brings it again")
        self.trees(by_kind.get(Kind.CHANGED_TREE, []))

    # -- records and contents --

    def manifest(self, path: Path) -> None:
        if path.parent == self.store.root / "artifacts":
            folder = Folder.parse(path.name)
            found = None if folder is None else self.tree(folder)
            if found is not None:
                self.write(found.encode(), self.store.manifest_path(found.digest))
            return
        digest = Digest.parse(path.name)
        if self.is_manifest(digest):
            return  # all that was wrong was its mode
        data = self.bytes_of(digest, path)
        if data is None:
            for folder in artifacts.folders(self.store):
                if folder.base32 == digest.base32 and (found := self.tree(folder)) is not None:
                    data = found.encode()
        if data is not None:
            self.write(data, path)
        elif os.path.lexists(path):
            self.aside(path, "nobody has its bytes")

    def is_manifest(self, digest: Digest) -> bool:
        with contextlib.suppress(Error, OSError):
            return bool(self.store.read_manifest(digest).digest)
        return False

    def tree(self, folder: Folder) -> Manifest | None:
        """The manifest of an artifact, read back from its folder, if that is as it was."""
        with contextlib.suppress(OSError, Error), files.directory(self.store.root / "artifacts" / str(folder)) as fd:
            found = trees.read(fd)
            if found.digest.base32 == folder.base32:
                return found
        return None

    def bytes_of(self, digest: Digest, place: Path) -> bytes | None:
        for file in self.givers(digest, place):
            with file:
                data = file.read()
            if Digest.of(data) == digest:
                return data
        return None

    def missing(self, known: dict[Path, None]) -> Iterator[Path]:
        """Blobs of checked-out artifacts that are not there, and not known to be missing."""
        for _, manifest in self.checked_out():
            for _, node in manifest.files:
                place = self.store.blob_path(node.blob, executable=node.executable)
                if place not in known and not place.exists():
                    known[place] = None
                    yield place

    def blob(self, path: Path) -> None:
        digest = Digest.parse(path.name.removesuffix(".x"))
        if (file := _first_good(digest, [path])) is not None:
            file.close()  # all that was wrong was its mode
            return
        for file in self.givers(digest, path):
            with file:
                fresh = self.copy(file, digest)
            if fresh is not None:
                self.name(fresh, path)
                return
        if os.path.lexists(path):
            self.aside(path, "nobody has its bytes")

    def givers(self, digest: Digest, place: Path) -> Iterator[BinaryIO]:
        """Files that may have the bytes of ``digest``, none of them at ``place``."""
        own = [self.store.blob_path(digest, executable=executable) for executable in (False, True)]
        for path in [*(path for path in own if path != place), *self.copies(digest)]:
            with contextlib.suppress(OSError):
                yield open(path, "rb")
        for source in self.sources:
            with contextlib.suppress(OSError, Error):
                file = source(digest)
                if file is not None:
                    yield file

    def copies(self, digest: Digest) -> Iterator[Path]:
        for place, manifest in self.checked_out():
            for path, node in manifest.files:
                if node.blob == digest and not (place / os.fsdecode(path)).is_symlink():
                    yield place / os.fsdecode(path)

    def checked_out(self) -> Iterator[tuple[Path, Manifest]]:
        for folder in artifacts.folders(self.store):
            digest = artifacts.digest_of(self.store, folder)
            with contextlib.suppress(Error, OSError):
                if digest is not None:
                    yield self.store.root / "artifacts" / str(folder), self.store.read_manifest(digest)

    def copy(self, file: BinaryIO, digest: Digest) -> Path | None:
        """A copy in the workspace, if it has the right bytes."""
        fresh = self.workspace / os.urandom(8).hex()
        try:
            with open(fresh, "xb") as out:
                while piece := file.read(CHUNK):
                    out.write(piece)
            with open(fresh, "rb") as again:
                if compare.digest_of(again.fileno()) == digest:
                    return fresh
        except OSError as error:
            if files.is_full(error):
                raise
        fresh.unlink(missing_ok=True)
        return None

    def write(self, data: bytes, place: Path) -> None:
        fresh = self.workspace / os.urandom(8).hex()
        fresh.write_bytes(data)
        self.name(fresh, place)

    def name(self, fresh: Path, place: Path) -> None:
        """Give a good file its name; what has the name now is linked to lost+found first, and so never gone."""
        os.chmod(fresh, 0o555 if place.name.endswith(".x") else 0o444)
        os.utime(fresh, (files.EPOCH, files.EPOCH))
        self.sync()
        if os.path.lexists(place):
            with contextlib.suppress(FileExistsError):
                os.link(place, self.lost_place(place), follow_symlinks=False)
        place.parent.mkdir(exist_ok=True)
        os.rename(fresh, place)
        self.done.append((place, "restored"))

    def sync(self) -> None:
        if self.store.durable:
            with files.directory(self.workspace) as fd:
                files.sync_file_system(fd)

    def is_whole(self, path: Path) -> bool:
        """Whether a result has its manifest again."""
        with contextlib.suppress(Error, OSError):
            return self.store.read_result(Digest.parse(path.name)) is not None
        return False

    # -- aside --

    def lost_place(self, path: Path) -> Path:
        place = self.lost / path.relative_to(self.store.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def aside(self, path: Path, why: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.chmod(path, 0o700)  # else it cannot be moved to another parent
            place = self.lost_place(path)
            os.rename(path, place)
            self.done.append((path, f"moved to {place}: {why}"))

    # -- trees --

    def trees(self, changed: list[Path]) -> None:
        """Make every tree again that is not as its manifest says: also those that hold what was a damaged blob."""
        top = self.store.root / "artifacts"
        names = {path.relative_to(top).parts[0] for path in changed}
        for name in sorted({*names, *map(str, artifacts.folders(self.store))}):
            folder = Folder.parse(name)
            digest = None if folder is None else artifacts.digest_of(self.store, folder)
            if digest is None:
                continue
            with contextlib.suppress(Error):
                manifest = self.store.read_manifest(digest)
                if not self.is_as_it_should_be(top / name, manifest):
                    self.tree_again(top / name, manifest)

    def is_as_it_should_be(self, place: Path, manifest: Manifest) -> bool:
        if not self.store.holds(manifest):
            return False
        with contextlib.suppress(OSError), files.directory(place) as fd:
            return not any(True for _ in compare.compare(self.store, manifest, fd))
        return False

    def tree_again(self, place: Path, manifest: Manifest) -> None:
        folder = Folder.parse(place.name)
        assert folder is not None
        if not self.store.holds(manifest):
            # While it is there, a build would take it for whole. Without it, the next build makes what is missing.
            self.aside(place, "some of its blobs are lost; build its recipe again")
            return
        self.aside(place, "it was changed")
        artifacts.check_out(self.store, manifest, name=folder.name, version=folder.version)
        self.done.append((place, "made again from its manifest"))


def _first_good(digest: Digest, ways: Sequence[Path]) -> BinaryIO | None:
    for path in ways:
        with contextlib.suppress(OSError):
            file = open(path, "rb")
            try:
                if compare.digest_of(file.fileno()) == digest:
                    file.seek(0)
                    return file
            except OSError:
                pass
            file.close()
    return None
