"""Downloaded archives into the store: each becomes a tree, with a result that remembers it.

Unpacking goes on while other archives are still being fetched. Threads are enough to use every core: decompression, hashing
and writing, which are all but a few percent of it, run without Python's lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from builder.archives import BadArchive, read_deb, read_tar
from builder.fetch import Download, Fetcher, Interrupted
from builder.imports_key import import_action, package_action
from builder.known import Known
from builder.lockfile import LockedPackage
from builder.progress import Progress, Task
from builder.recipe import Source
from builder.record import record
from store import files
from store.action import Action
from store.batch import Batch
from store.digest import Digest
from store.manifest import Manifest
from store.store import Store

CHUNK = 1 << 20
SAVE = 512 << 20  # bytes of archives after which what there is gets its names: a stop then costs no more than that

_GONE = "The suite no longer holds it, as happens when it gets an update. `builder lock RECIPE` pins what it holds now."


@dataclass(frozen=True, slots=True)
class Import:
    """An archive that is wanted as a tree.

    ``action`` is its key, ``download`` the file, ``label`` for people. ``package`` is what a Debian package has to be, None for
    a source; of a source, ``strip`` name components are left out, and it is a mere file, named ``file``, if that is not "".
    """

    action: Action
    label: str
    download: Download
    package: LockedPackage | None = None
    strip: int = 0
    file: str = ""

    @property
    def sha256(self) -> str:
        """The archive's hash."""
        return self.download.sha256

    @property
    def size(self) -> int | None:
        """The archive's size in bytes, if known."""
        return self.download.size

    @classmethod
    def of_source(cls, source: Source) -> Import:
        """A recipe's source."""
        download = Download(source.name, source.urls, source.sha256)
        return cls(import_action(source), source.name, download, None, source.strip, "" if source.unpack else source.name)

    @classmethod
    def of_package(cls, package: LockedPackage) -> Import:
        """A locked Debian package."""
        label = f"{package.name} {package.version}"
        place = f"mirror://debian/{package.path}"
        return cls(package_action(package), label, Download(label, (place,), package.sha256, package.size, _GONE), package)


def import_archives(
    store: Store, fetcher: Fetcher, items: Sequence[Import], progress: Progress, *, jobs: int = 0
) -> list[Digest]:
    """The trees of ``items``, in their order. What the store has is neither fetched nor read again.

    ``jobs`` archives are read at once, as many as there are processors when it is 0. Raises BadArchive, and what fetching
    raises; what was read until then stays.
    """
    return _Importer(store, fetcher, progress, jobs or len(os.sched_getaffinity(0))).run(items)


class _Importer:
    def __init__(self, store: Store, fetcher: Fetcher, progress: Progress, jobs: int) -> None:
        self.store = store
        self.known = Known(store)
        self.fetcher = fetcher
        self.progress = progress
        self.jobs = jobs
        self.trees: dict[Digest, Digest] = {}
        self.unsaved = 0
        self.stopped = threading.Event()

    def run(self, items: Sequence[Import]) -> list[Digest]:
        todo: dict[Digest, Import] = {}
        for item in items:
            known = self.known.held(item.action)
            if known is None:
                todo[item.action.digest] = item
            else:
                self.trees[item.action.digest] = known
        if todo:
            # The largest first, so that the last one to be ready is a small one.
            self.make(sorted(todo.values(), key=lambda item: (-(item.size or 1 << 40), item.label)))
        return [self.trees[item.action.digest] for item in items]

    def make(self, items: list[Import]) -> None:
        by_hash: dict[str, list[Import]] = {}
        for item in items:
            by_hash.setdefault(item.sha256, []).append(item)
        downloads = [of_one[0].download for of_one in by_hash.values()]
        total = sum(item.size or 0 for item in items)
        with self.store.batch() as batch, self.progress.task("import", _count(len(items)), total=total) as task:
            running: set[Future[None]] = set()
            with ThreadPoolExecutor(self.jobs, "import") as pool, contextlib.closing(self.fetcher.fetch(downloads)) as fetched:
                try:
                    for download, path in fetched:
                        running |= {pool.submit(self.one, item, path, batch, task) for item in by_hash[download.sha256]}
                        running = self.collect(running, batch, everything=False)
                    self.collect(running, batch, everything=True)
                except BaseException:
                    self.stopped.set()
                    pool.shutdown(wait=True, cancel_futures=True)
                    batch.commit()
                    raise

    def collect(self, running: set[Future[None]], batch: Batch, *, everything: bool) -> set[Future[None]]:
        """Take the outcome of what is ready. Errors come out here."""
        while running:
            done, running = wait(running, timeout=None if everything else 0, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if self.unsaved > SAVE:
                self.unsaved = 0
                batch.commit()
            if not everything:
                break
        return running

    def one(self, item: Import, path: Path, batch: Batch, task: Task) -> None:
        started = time.time()
        try:
            with open(path, "rb") as file:
                tree = _read(item, _Watched(file.read, task, self.stopped), batch)
            digest = batch.add_manifest(tree)
            batch.add_result(record(item.action, item.label, digest, started))
        except OSError as error:
            raise files.explain(error, str(self.store.root)) from error
        self.trees[item.action.digest] = digest
        self.unsaved += os.path.getsize(path)


class _Watched:
    """A file, with what is read of it told to a task. Reading ends when everything is to stop."""

    def __init__(self, read: Callable[[int], bytes], task: Task, stopped: threading.Event) -> None:
        self._read = read
        self._task = task
        self._stopped = stopped

    def read(self, size: int, /) -> bytes:
        if self._stopped.is_set():
            raise Interrupted
        data = self._read(size)
        self._task.advance(len(data))
        return data


def _read(item: Import, file: _Watched, batch: Batch) -> Manifest:
    if item.file:
        return Manifest([(item.file.encode(), batch.add_stream(_pieces(file)))])
    if item.package is None:
        return read_tar(file, batch, item.label, strip=item.strip)
    deb = read_deb(file, batch, item.label)
    told = (deb.package, deb.version, deb.architecture)
    if told != (item.package.name, item.package.version, item.package.architecture):
        raise BadArchive(item.label, b"", f"it says that it is {' '.join(told)}")
    return deb.tree


def _pieces(file: _Watched) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _count(number: int) -> str:
    return f"{number} archive{'s' if number != 1 else ''}"
