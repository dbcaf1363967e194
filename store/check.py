"""Checking a store: everything in it is read, and compared with what its name promises. Nothing is changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from store import artifacts, compare, files, graph, roots
from store.artifacts import Folder
from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.manifest import Manifest, show
from store.signing import Signed
from store.store import FOLDERS, Store

# What is in the store's folder besides its own folders.
OTHERS = frozenset({"index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "index.damaged", "lost+found"})

Report = Callable[[int, int], None]


def no_report(done: int, total: int) -> None:
    """For who does not want to know."""


class Kind(StrEnum):
    """What a finding is about."""

    CORRUPT_BLOB = "corrupt blob"
    MISSING_BLOB = "missing blob"
    CORRUPT_MANIFEST = "corrupt manifest"
    MISSING_MANIFEST = "missing manifest"
    CORRUPT_RESULT = "corrupt result"
    CORRUPT_SIGNATURE = "corrupt signature"
    DANGLING_RESULT = "dangling result"
    WRONG_MODE = "wrong mode"
    CHANGED_TREE = "changed tree"
    BAD_ROOT = "bad root"
    WRONG_INDEX = "wrong index"
    FOREIGN = "foreign file"
    LEFTOVER = "leftover"


# What a killed builder or a deleted link leaves behind, and the next builder or collection takes away.
HARMLESS = frozenset({Kind.LEFTOVER})


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is not as it should be: where it is, and what is wrong with it, for a person."""

    kind: Kind
    path: Path
    detail: str

    @property
    def harmless(self) -> bool:
        """Whether nothing is lost and nothing needs to be done."""
        return self.kind in HARMLESS


def check(store: Store, report: Report = no_report) -> list[Finding]:
    """Read the whole store and give what is wrong with it, in order; an empty list: nothing.

    ``report`` is called with the bytes of blobs read so far and in all, by any thread. A tree that is known and not held
    (see store.collect) is as it should be; one that a root or a folder in ``artifacts/`` stands for has to be whole.
    Builders may work meanwhile; a collection is waited for, and none begins.
    """
    with store.uncollected():
        return sorted(_Check(store, report).run())


class _Check:
    def __init__(self, store: Store, report: Report) -> None:
        self.store = store
        self.report = report
        self.findings: list[Finding] = []

    def found(self, kind: Kind, path: Path, detail: str) -> None:
        self.findings.append(Finding(kind, path, detail))

    def run(self) -> list[Finding]:
        # Builders add blobs, then manifests, then results, then folders and roots. Here it goes the other way round, so
        # that what was there when a list was made has everything below it in the lists made later.
        wanted = self.check_roots()
        folders = self.check_folder_names()
        self.check_results()
        self.check_signatures()
        manifests = self.check_manifests()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            held = self.check_blobs(pool)
        for digest in sorted(wanted.union(digest for digest in folders.values() if digest), key=lambda digest: digest.raw):
            if digest in manifests:
                self.check_held(digest, held)
            elif not self.store.manifest_path(digest).exists():
                self.found(Kind.MISSING_MANIFEST, self.store.manifest_path(digest), "a root needs it")
        for folder, known in folders.items():
            place = self.store.root / "artifacts" / str(folder)
            if known is None:
                self.found(Kind.MISSING_MANIFEST, place, "the store has no manifest of this artifact")
            elif known in manifests:
                self.check_tree(place, self.store.read_manifest(known))
        self.check_workspaces()
        self.check_top()
        return self.findings

    def check_top(self) -> None:
        for name in os.listdir(self.store.root):
            if name not in FOLDERS and name not in OTHERS:
                self.found(Kind.FOREIGN, self.store.root / name, "the store has nothing of this name")

    def check_roots(self) -> set[Digest]:
        wanted = set()
        for file in os.listdir(self.store.root / "roots"):
            try:
                root = roots.read(self.store, file)
            except FileNotFoundError:
                continue
            except (roots.BadRoot, OSError):
                self.found(Kind.BAD_ROOT, self.store.root / "roots" / file, "its record cannot be read")
                continue
            if root.alive:
                wanted.add(root.artifact)
                self.check_link(root)
            else:
                self.found(Kind.LEFTOVER, self.store.root / "roots" / file, f"its link {root.name} is gone")
        return wanted

    def check_link(self, root: roots.Root) -> None:
        """That the folder is there to which a link leads."""
        with contextlib.suppress(OSError):
            place = self.store.root / "artifacts" / os.path.basename(os.readlink(root.name)) if root.kind == "link" else None
            if place is not None and not os.path.lexists(place):
                self.found(Kind.CHANGED_TREE, place, f"it is missing, and {root.name} leads to it")

    def check_folder_names(self) -> dict[Folder, Digest | None]:
        folders = {}
        for name in os.listdir(self.store.root / "artifacts"):
            folder = Folder.parse(name)
            if folder is None:
                self.found(Kind.FOREIGN, self.store.root / "artifacts" / name, "no artifact has such a name")
            else:
                folders[folder] = artifacts.digest_of(self.store, folder)
        return folders

    def check_results(self) -> None:
        for path, _, suffix in self.fanned("results"):
            if suffix:
                self.found(Kind.FOREIGN, path, "no result has such a name")
                continue
            try:
                step = graph.read_step(str(path))
            except FileNotFoundError:
                continue
            except BadRecord as error:
                self.found(Kind.CORRUPT_RESULT, path, error.reason)
                continue
            except OSError as error:
                self.found(Kind.CORRUPT_RESULT, path, os.strerror(error.errno or 0))
                continue
            manifest = self.store.manifest_path(step.output)
            if not manifest.exists():
                self.found(Kind.DANGLING_RESULT, path, f"{step.label}: the store has no manifest {step.output.short}")
            self.check_mode(path, 0o444)

    def check_signatures(self) -> None:
        for path, action, _ in self.fanned("signatures"):
            try:
                signed = Signed.decode(path.read_bytes())
                signed.verify()
                if self.store.signature_path(signed.statement.result.action, signed.signer) != path:
                    raise BadRecord("signature", f"it is about another action than {action.short}, or by another key")
            except FileNotFoundError:
                continue
            except Error as error:
                self.found(Kind.CORRUPT_SIGNATURE, path, error.message)
                continue
            self.check_mode(path, 0o444)

    def check_manifests(self) -> set[Digest]:
        good = set()
        for path, digest, suffix in self.fanned("manifests"):
            if suffix:
                self.found(Kind.FOREIGN, path, "no manifest has such a name")
                continue
            try:
                self.store.read_manifest(digest)
            except (Error, OSError) as error:
                reason = error.message if isinstance(error, Error) else os.strerror(error.errno or 0)
                self.found(Kind.CORRUPT_MANIFEST, path, reason)
                continue
            self.check_mode(path, 0o444)
            good.add(digest)
        return good

    def fanned(self, kind: str) -> Iterator[tuple[Path, Digest, str]]:
        top = self.store.root / kind
        for fan in sorted(os.listdir(top)):
            if not (top / fan).is_dir() or (top / fan).is_symlink():
                self.found(Kind.FOREIGN, top / fan, "not a directory of the store")
                continue
            for name in sorted(os.listdir(top / fan)):
                digits, suffix = name[:64], name[64:]
                try:
                    digest = Digest.parse(digits)
                except Error:
                    self.found(Kind.FOREIGN, top / fan / name, "not named by a digest")
                    continue
                if not _is_file(top / fan / name):
                    self.found(Kind.FOREIGN, top / fan / name, "not a file")
                elif fan != digits[:2]:
                    self.found(Kind.FOREIGN, top / fan / name, "in the directory of other digests")
                else:
                    yield top / fan / name, digest, suffix

    # -- blobs --

    def check_blobs(self, pool: ThreadPoolExecutor) -> set[str]:
        blobs: list[tuple[int, Path, Digest]] = []
        for path, digest, suffix in self.fanned("blobs"):
            status = os.lstat(path)
            if suffix not in ("", ".x"):
                self.found(Kind.FOREIGN, path, "no blob")
                continue
            self.check_mode(path, 0o555 if suffix else 0o444)
            blobs.append((status.st_size, path, digest))
        # The largest first: else one may be left for the end, when the other cores have nothing to do.
        blobs.sort(reverse=True)
        total, done = sum(size for size, _, _ in blobs), 0
        bad = set()
        self.report(0, total)
        for (size, path, digest), problem in zip(blobs, pool.map(_read_blob, blobs), strict=True):
            done += size
            self.report(done, total)
            if problem:
                self.found(Kind.CORRUPT_BLOB, path, f"{problem}; its name is {digest.short}")
                bad.add(path.name)
        return {path.name for _, path, _ in blobs} - bad

    def check_held(self, digest: Digest, held: set[str]) -> None:
        reported = set()
        for path, node in self.store.read_manifest(digest).files:
            name = node.blob.hex + ".x" if node.executable else node.blob.hex
            place = self.store.blob_path(node.blob, executable=node.executable)
            # A corrupt one has been told of already.
            if name not in held and name not in reported and not place.exists():
                reported.add(name)
                self.found(Kind.MISSING_BLOB, place, f"{show(path)} of the artifact {digest.short}")

    def check_mode(self, path: Path, mode: int) -> None:
        actual = stat.S_IMODE(os.lstat(path).st_mode)
        if actual != mode:
            self.found(Kind.WRONG_MODE, path, f"{actual:04o} instead of {mode:04o}")

    def check_tree(self, place: Path, manifest: Manifest) -> None:
        try:
            with files.directory(place) as fd:
                for path, problem in compare.compare(self.store, manifest, fd):
                    self.found(Kind.CHANGED_TREE, place / os.fsdecode(path), problem)
        except OSError as error:
            self.found(Kind.CHANGED_TREE, place, os.strerror(error.errno or 0))

    def check_workspaces(self) -> None:
        with files.directory(self.store.root / "tmp") as parent:
            # As in a sweep: else a workspace that is just being made would look abandoned.
            fcntl.flock(parent, fcntl.LOCK_EX)
            for name in os.listdir(parent):
                path = self.store.root / "tmp" / name
                if name.startswith("kept-"):
                    continue
                try:
                    with files.directory(name, at=parent) as fd:
                        abandoned = files.try_lock(fd)
                except FileNotFoundError:
                    continue
                except NotADirectoryError:
                    self.found(Kind.FOREIGN, path, "not a workspace")
                    continue
                if abandoned:
                    self.found(Kind.LEFTOVER, path, "a killed builder left it; the next one removes it")


def _is_file(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return True  # gone since the list was made: whoever reads it sees that


def _read_blob(blob: tuple[int, Path, Digest]) -> str:
    _, path, digest = blob
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return os.strerror(error.errno or 0)
    try:
        actual = compare.digest_of(fd)
    except OSError as error:  # a disk that is going bad
        return os.strerror(error.errno or 0)
    finally:
        os.close(fd)
    return "" if actual == digest else f"its bytes have the digest {actual.short}"
