"""Garbage collection: what no root needs goes.

The rule, in three lines:

1. A **blob** lives if an artifact of a living root lists it.
2. A **manifest**, a **result** or a **log** lives if one gets to it from such an artifact by walking back through results,
   over every input of every step. With ``keep_inputs`` the blobs of those manifests live too.
3. Nothing else lives: downloads, kept build folders and the folders of other artifacts go.

So a build whose artifact lives still finds all its keys and has nothing to do, although the 1 GB of its compilers is gone:
their trees are *known* but not *held*. A result therefore says what the outcome was, never that its bytes are here. Who
needs the bytes (to check a tree out, to read a program) asks ``Store.holds``, and where it says no, acts as if there were
no result: the step runs again, and each blob that is missing is written again, for a batch looks for blobs one by one.

A collection killed half-way leaves a store that the same rule describes: results go before the manifests that they point
to, and an artifact's folder goes before its manifest and blobs. Everything that relies on something being there, from its
first look-up until a root points to the outcome, does so inside ``Store.in_use``, which keeps collections away.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from store import artifacts, files, graph, roots
from store.artifacts import Folder
from store.errors import Error
from store.manifest import Manifest
from store.store import Store

PATIENCE = 10.0


class InUse(Error):
    """A builder works in the store, so that nothing can be collected now."""

    def __init__(self, store: Store) -> None:
        super().__init__(
            f"{store.root} is in use by another builder",
            hint="Collect again when it has finished. Nothing was removed.",
        )


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, or would remove. ``size`` is the sum of the files' sizes, in bytes; hard links count once."""

    artifacts: tuple[Folder, ...]
    results: int
    manifests: int
    blobs: int
    others: int
    size: int


@dataclass(frozen=True, slots=True)
class _Living:
    artifacts: frozenset[str]
    manifests: frozenset[str]
    results: frozenset[str]
    blobs: frozenset[str]
    roots: frozenset[str]


def collect(
    store: Store,
    *,
    keep_inputs: bool = False,
    dry_run: bool = False,
    patience: float = PATIENCE,
    waiting: Callable[[], None] | None = None,
) -> Collected:
    """Remove what no root needs, or with ``dry_run`` only say what that is.

    Builders that work in the store are waited for, ``patience`` seconds at most, after a call of ``waiting``. Raises InUse;
    MissingManifest, Damaged, BadRoot or BadRecord when a root or its artifact cannot be read: nothing is removed then.
    """
    with _alone(store, patience, waiting):
        living = _find_living(store, keep_inputs=keep_inputs)
        return _Removal(store, dry_run=dry_run).run(living)


@contextlib.contextmanager
def _alone(store: Store, patience: float, waiting: Callable[[], None] | None) -> Iterator[None]:
    end = time.monotonic() + patience
    fd = os.open(store.root / "locks" / "gc", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        while not files.try_lock(fd):
            if waiting is not None:
                waiting()
                waiting = None
            if time.monotonic() >= end:
                raise InUse(store)
            time.sleep(0.05)
        yield
    finally:
        os.close(fd)


def _find_living(store: Store, *, keep_inputs: bool) -> _Living:
    known = graph.Graph(graph.steps(store))
    living_roots = [root for root in roots.listed(store) if root.alive]
    top = {root.artifact for root in living_roots}
    trees, way = known.behind(top)
    blobs: set[str] = set()
    for tree in trees if keep_inputs else top:
        # An input's manifest may be gone already, by hand: then there is nothing to keep of it.
        if tree in top or store.manifest_path(tree).exists():
            blobs.update(_blob_names(store.read_manifest(tree)))
    return _Living(
        artifacts=frozenset(tree.base32 for tree in top),
        manifests=frozenset(tree.hex for tree in trees),
        results=frozenset(step.action.hex for step in way),
        blobs=frozenset(blobs),
        roots=frozenset(root.file for root in living_roots),
    )


def _blob_names(manifest: Manifest) -> Iterator[str]:
    for _, node in manifest.files:
        yield node.blob.hex + ".x" if node.executable else node.blob.hex


class _Removal:
    def __init__(self, store: Store, *, dry_run: bool) -> None:
        self.store = store
        self.dry_run = dry_run
        self.size = 0

    def run(self, living: _Living) -> Collected:
        others = self.flat("roots", living.roots)
        results = self.fanned("results", living.results)
        gone = self.folders(living.artifacts)
        manifests = self.fanned("manifests", living.manifests)
        blobs = self.fanned("blobs", living.blobs)
        others += self.flat("logs", living.results) + self.flat("downloads", ()) + self.workspaces()
        if not living.results and not self.dry_run:
            # It would say nothing, and a store without roots is to be empty.
            for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.store.root / name)
        return Collected(gone, results, manifests, blobs, others, self.size)

    def folders(self, living: frozenset[str]) -> tuple[Folder, ...]:
        gone = sorted((f for f in artifacts.folders(self.store) if f.base32 not in living), key=str)
        for folder in gone:
            if not self.dry_run:
                artifacts.remove(self.store, folder)
        return tuple(gone)

    def fanned(self, kind: str, living: frozenset[str]) -> int:
        """Remove what is not ``living`` from a folder of 256 folders."""
        count = 0
        with files.directory(self.store.root / kind) as top:
            for fan in os.listdir(top):
                with contextlib.suppress(NotADirectoryError), files.directory(fan, at=top) as fd:
                    count += self.remove(fd, (name for name in os.listdir(fd) if name not in living))
                if not self.dry_run:
                    with contextlib.suppress(OSError):  # not empty
                        os.rmdir(fan, dir_fd=top)
        return count

    def flat(self, kind: str, living: Iterable[str]) -> int:
        with files.directory(self.store.root / kind) as fd:
            return self.remove(fd, sorted(set(os.listdir(fd)).difference(living)))

    def remove(self, at: int, names: Iterable[str]) -> int:
        count = 0
        for name in names:
            self.size += os.stat(name, dir_fd=at, follow_symlinks=False).st_size
            count += 1
            if not self.dry_run:
                files.remove_tree(name, at=at)
        return count

    def workspaces(self) -> int:
        if self.dry_run:
            return 0
        count = self.store.sweep()
        with files.directory(self.store.root / "tmp") as parent:
            for name in os.listdir(parent):
                # A failed build's folder, kept for a person, who may be in it right now.
                if name.startswith("kept-"):
                    with contextlib.suppress(NotADirectoryError), files.directory(name, at=parent) as fd:
                        if files.try_lock(fd):
                            files.remove_tree(name, at=parent)
                            count += 1
        return count
