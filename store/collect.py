"""Garbage collection: what no root needs goes.

The rule, in three lines:

1. A **blob** lives if an artifact of a living root lists it. What running builds use (store.lease) and artifacts that
   processes use (store.running) count as roots.
2. A **manifest**, a **result** with its signatures, or a **log** lives if one gets to it from such an artifact by walking
   back through results, over every input of every step. With ``keep.inputs`` the blobs of those manifests live too.
3. Nothing else lives: downloads, kept build folders and the folders of other artifacts go.

So a build whose artifact lives still finds all its keys and has nothing to do, although the 1 GB of its compilers is gone:
their trees are *known* but not *held*. A result therefore says what the outcome was, never that its bytes are here. Who
needs the bytes (to check a tree out, to read a program) asks ``Store.holds``, and where it says no, acts as if there were
no result: the step runs again, and each blob that is missing is written again, for a batch looks for blobs one by one.

A collection killed half-way leaves a store that the same rule describes: results go before the manifests that they point
to, and an artifact's folder goes before its manifest and blobs. The disk is waited for in between, so this holds after a power
cut too.

Builds go on beside a collection, and lose nothing. Everything that relies on something being there, from its first look-up
until a root points to the outcome, does so inside ``Store.in_use``, which has a lease. Let a name be taken away in a moment
M, and a build look whether it is there, after it wrote the name into its lease at W. W is not within M. If W is before M, M
has read it, and spares the name, and with a result or tree all that it needs. If it is after M, the build sees that the name
is gone. What a batch adds is in its workspace until it has its name: a blob that was there already as a second link. It
writes the names into the lease before it gives them, so that a moment takes away an old file of that name only. Leases of
builds that end meanwhile are kept until this collection's end, and those that ended before have their roots, which are
read after that. A build waits for moments, which are short, and for nothing else; a collection waits for no build.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from store import artifacts, files, graph, lease, roots
from store.artifacts import Folder
from store.digest import Digest
from store.errors import Error
from store.graph import Step
from store.running import running
from store.store import Store

PATIENCE = 10.0
_FANNED = ("blobs", "manifests", "results", "signatures")  # folders of 256 folders
MOMENT = 500  # names that are taken away while builds may have to wait


class InUse(Error):
    """Another collection or a check works in the store, so that nothing can be collected now."""

    def __init__(self, store: Store) -> None:
        super().__init__(
            f"{store.root} is being collected or checked by another process",
            hint="Collect again when it has finished. Nothing was removed.",
        )


@dataclass(frozen=True, slots=True)
class Keep:
    """What to keep besides what roots need, and how much to remove.

    Of the artifacts without a root, the ``newest`` of each name and those that were built in the last ``younger`` seconds
    stay. With ``free``, the oldest go first, and nothing more once so many bytes are gone; with ``max_size``, once
    the store has no more than so many. With ``inputs`` the blobs of what living artifacts were built from stay.
    """

    inputs: bool = False
    newest: int = 0
    younger: float = 0.0
    free: int | None = None
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, or would remove. ``size`` is the sum of the files' sizes, in bytes; hard links count once."""

    artifacts: tuple[Folder, ...]
    results: int
    manifests: int
    blobs: int
    others: int
    size: int


def collect(
    store: Store,
    keep: Keep | None = None,
    *,
    dry_run: bool = False,
    patience: float = PATIENCE,
    waiting: Callable[[], None] | None = None,
) -> Collected:
    """Remove what no root needs, or with ``dry_run`` only say what that is. Builds may go on beside it.

    Another collection or a check is waited for, ``patience`` seconds at most, after a call of ``waiting``. Raises InUse;
    MissingManifest, Damaged, BadRoot or BadRecord when a root or its artifact cannot be read: nothing is removed then.
    """
    keep = keep or Keep()
    with _alone(store, patience, waiting):
        leases = lease.Leases(store.root / "locks")
        with store.lock(lease.GATE):
            leases.forget_ended()
        removal = _Removal(store, keep, leases, dry_run=dry_run)
        try:
            return removal.run()
        finally:
            with store.lock(lease.GATE):
                leases.forget_ended()


@contextlib.contextmanager
def _alone(store: Store, patience: float, waiting: Callable[[], None] | None) -> Iterator[None]:
    end = time.monotonic() + patience
    fd = os.open(store.root / "locks" / lease.COLLECTION, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
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


def _blob_names(store: Store, tree: Digest) -> Iterator[str]:
    for raw, executable in store.blobs_of(tree):
        yield raw.hex() + ".x" if executable else raw.hex()


@dataclass(slots=True)
class _Living:
    """What stays, by the folder of the store that it is in. It grows while a collection goes on, by what builds use."""

    store: Store
    known: graph.Graph
    steps: dict[str, Step]
    inputs: bool
    names: dict[str, set[str]] = field(default_factory=dict)
    tops: set[Digest] = field(default_factory=set)
    unread: set[Digest] = field(default_factory=set)

    def of(self, kind: str) -> set[str]:
        return self.names.setdefault(kind, set())

    def has(self, kind: str, name: str) -> bool:
        if kind == "artifacts":
            name = name.partition("-")[0]
        elif kind == "downloads":
            name = name.partition(".")[0]
        elif kind == "signatures":
            return name in self.of(kind) or name.partition("-")[0] in self.of("results")
        elif kind == "logs" and name in self.of("results"):
            return True
        return name in self.of(kind)

    def add(self, trees: Iterable[Digest]) -> None:
        """Keep artifacts and what is behind them. Raises what reading their manifests raises."""
        fresh = set(trees) - self.tops
        reached, way = self.known.behind(fresh)
        for tree in reached if self.inputs else fresh:
            # An input's manifest may be gone already, by hand: then there is nothing to keep of it.
            if tree in fresh or self.store.manifest_path(tree).exists():
                self.of("blobs").update(_blob_names(self.store, tree))
        self.tops |= fresh
        self.of("artifacts").update(tree.base32 for tree in fresh)
        self.of("manifests").update(tree.hex for tree in reached)
        self.of("results").update(step.action.hex for step in way)

    def use(self, lines: Iterable[tuple[str, str]]) -> None:
        """Keep what builds say that they use."""
        for kind, name in lines:
            if kind != "tree":
                self.of(kind).add(name)
            step = self.steps.get(name) if kind == "results" else None
            if kind == "tree":
                self.unread.add(Digest.parse(name))
            elif step is not None:
                self.unread.add(step.output)
        for tree in list(self.unread):
            # One that is about to be added has no manifest yet; its blobs are named one by one. One that is damaged helps
            # nobody.
            with contextlib.suppress(Error):
                self.add([tree])
                self.unread.discard(tree)


class _Enough(Exception):
    """So much was removed as was asked for."""


class _Removal:
    def __init__(self, store: Store, keep: Keep, leases: lease.Leases, *, dry_run: bool) -> None:
        self.store = store
        self.keep = keep
        self.leases = leases
        self.dry_run = dry_run
        self.size = 0
        steps = list(graph.steps(store))
        self.living = _Living(store, graph.Graph(steps), {step.action.hex: step for step in steps}, keep.inputs)
        listed = roots.listed(store)
        self.living.of("roots").update(root.file for root in listed if root.alive)
        self.living.add(root.artifact for root in listed if root.alive)
        # For people the order of results says what was built from what. Who loses a result loses it before those behind it.
        self.steps = _users_first(steps)
        self.goal: int | None = None

    def run(self) -> Collected:
        with self.moment():
            pass  # what builds use, to begin with
        self.use_running()
        self.living.use(("tree", digest.hex) for digest in self.spared())
        gone: list[Folder] = []
        counts = dict.fromkeys(("roots", "results", "signatures", "manifests", "blobs", "logs", "downloads", "tmp"), 0)
        counts["roots"] = self.flat("roots")
        with contextlib.suppress(_Enough):
            if self.goal is not None:
                # What costs least to have again goes first: then the oldest artifacts, as many as it takes.
                counts["downloads"] += self.flat("downloads")
            counts["results"] = self.results()
            counts["signatures"] = self.fanned("signatures")
            gone = self.folders()
            counts["manifests"] = self.fanned("manifests")
            counts["logs"] = self.flat("logs")
            counts["blobs"] = self.fanned("blobs")
            counts["downloads"] += self.flat("downloads")
            counts["tmp"] = self.workspaces()
        self.index()
        others = counts["roots"] + counts["signatures"] + counts["logs"] + counts["downloads"] + counts["tmp"]
        return Collected(tuple(gone), counts["results"], counts["manifests"], counts["blobs"], others, self.size)

    # -- what stays besides what roots need --

    def spared(self) -> set[Digest]:
        """Artifacts without a root that stay, because they are young, or because enough is removed without them."""
        dead = self.dead()
        spared: set[Digest] = set()
        now = time.time()
        seen: dict[str, int] = {}
        there = {digest for _, digest, _ in dead}
        for folder, digest, started in dead:
            whole = self.living.known.whole_of(digest)
            if whole is not None and (whole in there or self.living.has("artifacts", whole.base32)):
                # What running needs of an artifact counts for nothing beside it.
                spared |= {digest} if whole in spared else set()
                continue
            seen[folder.name] = seen.get(folder.name, 0) + 1
            if seen[folder.name] <= self.keep.newest or (self.keep.younger and started > now - self.keep.younger):
                spared.add(digest)
        goals = [self.keep.free] if self.keep.free is not None else []
        if self.keep.max_size is not None:
            goals.append(max(0, self.store_size() - self.keep.max_size))
        if goals:
            self.goal = max(goals)
            spared |= self.enough_without([digest for _, digest, _ in dead if digest not in spared])
        return spared

    def dead(self) -> list[tuple[Folder, Digest, int]]:
        """Artifacts that no root, build or process needs, the newest first, with the time of their newest step."""
        started: dict[Digest, int] = {}
        for step in self.living.steps.values():
            started[step.output] = max(step.started, started.get(step.output, 0))
        rows = []
        for folder in artifacts.folders(self.store):
            digest = artifacts.digest_of(self.store, folder)
            if digest is not None and not self.living.has("artifacts", str(folder)):
                rows.append((folder, digest, started.get(self.living.known.whole_of(digest) or digest, 0)))
        return sorted(rows, key=lambda row: (-row[2], self.living.known.whole_of(row[1]) is not None, str(row[0])))

    def enough_without(self, dead: list[Digest]) -> set[Digest]:
        """Of ``dead``, the newest first, those that may stay when the others are removed until the goal is reached."""
        assert self.goal is not None
        sizes = dict(self.sizes("blobs"))
        blobs = {tree: self.blobs_of(tree) for tree in dead}
        holders: dict[str, int] = {}
        for name in chain.from_iterable(blobs.values()):
            holders[name] = holders.get(name, 0) + 1
        free = sum(size for name, size in sizes.items() if not self.living.has("blobs", name) and name not in holders)
        free += sum(size for name, size in self.sizes("downloads") if not self.living.has("downloads", name))
        left = list(dead)
        while left and free < self.goal:
            for name in blobs[left.pop()]:
                holders[name] -= 1
                if not holders[name] and not self.living.has("blobs", name):
                    free += sizes.get(name, 0)
        return set(left)

    def blobs_of(self, tree: Digest) -> set[str]:
        try:
            return set(_blob_names(self.store, tree))
        except Error:
            return set()

    def store_size(self) -> int:
        return sum(size for kind in (*_FANNED, "logs", "downloads") for _, size in self.sizes(kind))

    def sizes(self, kind: str) -> Iterator[tuple[str, int]]:
        top = self.store.root / kind
        for place in top.glob("*/*") if kind in _FANNED else top.iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield place.name, os.lstat(place).st_size

    # -- taking away --

    @contextlib.contextmanager
    def moment(self) -> Iterator[None]:
        """What builds say that they use until now stays, and they say no more until the end of the with block."""
        self.living.use(self.leases.new())  # most of it before anybody has to wait: manifests may be large
        with self.store.lock(lease.GATE):
            self.living.use(self.leases.new())
            yield
        # flock(2) is not fair: without a pause, who waits may do so until the end of the collection.
        time.sleep(0 if self.dry_run else 0.0005)

    def use_running(self) -> None:
        """Artifacts that processes use stay."""
        found = running(self.store, besides=self.living.of("artifacts"))
        self.living.use(("tree", one.artifact.hex) for one in found)

    def results(self) -> int:
        """Results go from the last step to the first, so that one that a build finds still has all that is behind it."""
        there = {Path(entry.path).name: Path(entry.path).parent.name for entry in graph.result_files(self.store)}
        order = [name for name in self.steps if name in there]
        bad = sorted(there.keys() - set(order))
        count = 0
        with files.directory(self.store.root / "results") as top:
            count += self.remove("results", top, (f"{there[name]}/{name}" for name in [*bad, *order]))
            self.drop_empty(top)
        return count

    def folders(self) -> list[Folder]:
        """Folders lose their names one by one. What was in them goes when it is on the disk that they, and results, did."""
        gone: list[Folder] = []
        self.use_running()  # once more, for a program may have been started since
        with self.store.workspace() as workspace, files.directory(workspace) as fd:
            for folder in sorted(artifacts.folders(self.store), key=str):
                if self.living.has("artifacts", str(folder)):
                    continue
                if self.dry_run:
                    gone.append(folder)
                    continue
                with self.moment():
                    if not self.living.has("artifacts", str(folder)):
                        artifacts.move_away(self.store, folder, workspace / str(len(gone)))
                        gone.append(folder)
            if self.store.durable and not self.dry_run and (gone or self.size):
                files.sync_file_system(fd)
        return gone

    def fanned(self, kind: str) -> int:
        """Remove what is not living from a folder of 256 folders."""
        count = 0
        with files.directory(self.store.root / kind) as top:
            for fan in sorted(os.listdir(top)):
                with contextlib.suppress(NotADirectoryError), files.directory(fan, at=top) as fd:
                    count += self.remove(kind, fd, sorted(os.listdir(fd)))
            self.drop_empty(top)
        return count

    def drop_empty(self, top: int) -> None:
        for fan in [] if self.dry_run else os.listdir(top):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(fan, dir_fd=top)

    def flat(self, kind: str) -> int:
        with files.directory(self.store.root / kind) as fd:
            return self.remove(kind, fd, sorted(os.listdir(fd)))

    def remove(self, kind: str, at: int, paths: Iterable[str]) -> int:
        """Remove what is not living, a moment's worth at a time. Raises _Enough."""
        count = 0
        dead = (path for path in paths if not self.living.has(kind, path.rpartition("/")[2]))
        while some := list(islice(dead, MOMENT)):
            with self.moment():
                for path in some:
                    if self.living.has(kind, path.rpartition("/")[2]):
                        continue
                    if self.goal is not None and self.size >= self.goal and kind in ("blobs", "downloads"):
                        raise _Enough
                    with contextlib.suppress(FileNotFoundError):
                        size = os.stat(path, dir_fd=at, follow_symlinks=False).st_size
                        if not self.dry_run:
                            folder, _, name = path.rpartition("/")
                            with files.directory(folder or ".", at=at) as fd:
                                files.remove_tree(name, at=fd)
                        self.size += size
                        count += 1
        return count

    def index(self) -> None:
        """The index of a store without anything: it would say nothing, and such a store is to be empty."""
        with self.moment():
            if self.dry_run or self.living.of("results") or any(True for _ in graph.result_files(self.store)):
                return
            for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.store.root / name)

    def workspaces(self) -> int:
        if self.dry_run:
            return 0
        count = self.store.sweep()
        with files.directory(self.store.root / "tmp") as parent:
            for name in os.listdir(parent):
                # A failed build's folder, kept for a person, who may be in it right now.
                if name.startswith("kept-") and not self.living.has("tmp", name):
                    with (
                        contextlib.suppress(NotADirectoryError, FileNotFoundError),
                        self.moment(),
                        files.directory(name, at=parent) as fd,
                    ):
                        if not self.living.has("tmp", name) and files.try_lock(fd):
                            files.remove_tree(name, at=parent)
                            count += 1
        return count


def _users_first(steps: Iterable[Step]) -> list[str]:
    """The actions of ``steps``, each before those that made its inputs."""
    makers: dict[Digest, list[Step]] = {}
    for step in steps:
        makers.setdefault(step.output, []).append(step)
    order: list[str] = []
    seen: set[Digest] = set()
    for start in makers:
        # Depth first, without recursion: a tree is done when all that it was made of is.
        stack: list[tuple[Digest, bool]] = [(start, False)]
        while stack:
            tree, done = stack.pop()
            if done:
                order += [step.action.hex for step in makers.get(tree, ())]
            elif tree not in seen:
                seen.add(tree)
                stack.append((tree, True))
                stack += [(inner, False) for step in makers.get(tree, ()) for _, inner in step.inputs]
    return order[::-1]
