"""The index: what has which blob, and what came from what, in one sqlite file.

It is a cache of ``results/``, ``artifacts/`` and ``manifests/``. Builders do not write it; who asks brings it up to date first,
by comparing directory listings. If it is missing, damaged, or of another version, it is made again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlite_utils  # 100 ms to import: nothing that a build needs may import this module

from store import artifacts, graph
from store.artifacts import Folder
from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.files import NoSpace
from store.graph import Graph, Step
from store.store import Store

VERSION = 1
BUSY = 30.0
MAX_INTEGER = (1 << 63) - 1

_TABLES: dict[str, tuple[dict[str, type], str | tuple[str, ...]]] = {
    # stamp: tells whether the file is the one that was read.
    "results": ({"action": str, "kind": str, "label": str, "output": str, "started": int, "stamp": str}, "action"),
    "inputs": ({"action": str, "position": int, "label": str, "tree": str}, ("action", "position")),
    "artifacts": ({"folder": str, "name": str, "version": str, "digest": str}, "folder"),
    "trees": ({"id": int, "digest": str, "files": int, "size": int}, "id"),
    "entries": ({"tree": int, "path": bytes, "blob": str, "size": int, "executable": int}, ("tree", "path")),
}

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)

T = TypeVar("T")


class IndexRefused(Error):
    """The index cannot be read or written, for a reason that making it again does not change."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}", hint="The store's folder has to be writable, and its disk not full.")
        self.path = path


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact that is checked out.

    ``path`` is its folder, ``files`` how many files it has, ``size`` the sum of their sizes in bytes, and ``started`` when its
    newest build or packing began, in seconds since 1970; 0 when the store has no result that tells.
    """

    name: str
    version: str
    digest: Digest
    path: Path
    files: int
    size: int
    started: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A file that some tree has: the tree's digest, the file's path, blob, and size in bytes."""

    tree: Digest
    path: bytes
    blob: Digest
    size: int


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Index]:
    """The index of ``store``, brought up to date. Raises IndexRefused or NoSpace."""
    index = Index(store)
    try:
        index.update()
        yield index
    finally:
        index.close()


class Index:
    """An open index. Not for several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.path = store.root / "index.sqlite"
        self._open: sqlite_utils.Database | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self._open is not None:
            self._open.close()
            self._open = None

    # -- keeping it --

    def update(self) -> None:
        """Take up what is new in the store, and drop what is gone."""
        self._guarded(self._update)

    def rebuild(self) -> None:
        """Make the whole index again from the files of the store."""
        with self.store.lock("index"):
            self._remove()
        self.update()

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                raise self._explained(error) from error
        self._set_aside()
        try:
            return work()
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.DatabaseError) -> Error:
        return NoSpace(str(self.path)) if _code(error) == sqlite3.SQLITE_FULL else IndexRefused(self.path, str(error))

    def _set_aside(self) -> None:
        with self.store.lock("index"):
            self.close()
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path, self.path.with_name("index.damaged"))
            self._remove()
        self._update()

    def _remove(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")

    @property
    def _db(self) -> sqlite_utils.Database:
        if self._open is None:
            # sqlite would follow a symlink, and write behind it.
            if os.path.islink(self.path):
                os.unlink(self.path)
            connection = sqlite3.connect(self.path, timeout=BUSY)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                self._open = sqlite_utils.Database(connection, execute_plugins=False)
            except BaseException:
                connection.close()
                raise
        return self._open

    def _update(self) -> None:
        with self.store.lock("index"):
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                self._remove()
            with self._db.atomic():
                if version != VERSION:
                    self._create()
                self._update_results()
                self._update_artifacts()
                self._update_trees()

    def _create(self) -> None:
        for name, (columns, key) in _TABLES.items():
            self._db.table(name).create(columns, pk=key, strict=True)
        self._db.table("entries").create_index(["blob"])
        self._db.table("trees").create_index(["digest"], unique=True)
        self._db.table("results").create_index(["output"])
        # Inside the transaction: an index without its tables is never of the right version.
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _update_results(self) -> None:
        known = dict(self._rows("SELECT action, stamp FROM results"))
        fresh: list[tuple[Step, str]] = []
        seen = set()
        for entry in graph.result_files(self.store):
            try:
                status = entry.stat(follow_symlinks=False)
                # All files of a store have the same time: only the inode tells that a result was replaced.
                stamp = f"{status.st_ino}:{status.st_ctime_ns}"
                if known.get(entry.name) != stamp:
                    fresh.append((graph.read_step(entry.path), stamp))
            except (FileNotFoundError, BadRecord):
                continue
            seen.add(entry.name)
        stale = [*(known.keys() - seen), *(step.action.hex for step, _ in fresh)]
        self._delete("results", "action", stale)
        self._delete("inputs", "action", stale)
        self._insert("results", ((s.action.hex, s.kind, s.label, s.output.hex, s.started, stamp) for s, stamp in fresh))
        self._insert(
            "inputs",
            (
                (step.action.hex, position, label, tree.hex)
                for step, _ in fresh
                for position, (label, tree) in enumerate(step.inputs)
            ),
        )

    def _update_artifacts(self) -> None:
        known = {folder for (folder,) in self._rows("SELECT folder FROM artifacts")}
        there = {str(folder): folder for folder in artifacts.folders(self.store)}
        self._delete("artifacts", "folder", known - there.keys())
        rows = []
        for text in sorted(there.keys() - known):
            digest = artifacts.digest_of(self.store, there[text])
            if digest is not None:
                rows.append((text, there[text].name, there[text].version, digest.hex))
        self._insert("artifacts", rows)

    def _update_trees(self) -> None:
        """Have the files of what came from outside and of artifacts, and of no other tree: input roots are large and many."""
        wanted = {tree.hex for tree in self._graph().leaves()}
        wanted.update(digest for (digest,) in self._rows("SELECT digest FROM artifacts"))
        known = dict(self._rows("SELECT digest, id FROM trees"))
        stale = [known[digest] for digest in known.keys() - wanted]
        self._delete("trees", "id", stale)
        self._delete("entries", "tree", stale)
        number = max(known.values(), default=0)
        for digest in sorted(wanted - known.keys()):
            try:
                manifest = self.store.read_manifest(Digest.parse(digest))
            except (Error, OSError):
                continue  # gone, or damaged: `check` says so
            number += 1
            files = list(manifest.files)
            # Whoever made it may have listed sizes that no disk has, and together more than a column holds.
            self._insert("trees", [(number, digest, len(files), min(manifest.size, MAX_INTEGER))])
            self._insert("entries", ((number, path, node.blob.hex, node.size, int(node.executable)) for path, node in files))

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        columns = list(_TABLES[table][0])
        # The library's list mode: the first row says what the columns are.
        self._db.table(table).insert_all(_with_heading(columns, rows), batch_size=500)

    def _delete(self, table: str, column: str, values: Iterable[object]) -> None:
        for value in values:
            self._db.table(table).delete_where(f"{column} = ?", [value])

    def _rows(self, sql: str, *values: object) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    # -- asking it --

    def graph(self) -> Graph:
        """Every step that the index knows."""
        return self._guarded(self._graph)

    def _graph(self) -> Graph:
        inputs: dict[str, list[tuple[str, Digest]]] = {}
        for action, label, tree in self._rows("SELECT action, label, tree FROM inputs ORDER BY action, position"):
            inputs.setdefault(action, []).append((label, Digest.parse(tree)))
        rows = self._rows("SELECT action, kind, label, output, started FROM results")
        return Graph(
            Step(Digest.parse(action), kind, label, Digest.parse(output), started, tuple(inputs.get(action, ())))
            for action, kind, label, output, started in rows
        )

    def artifacts(self) -> list[Artifact]:
        """Every artifact that is checked out, the newest first."""
        return self._guarded(self._artifacts)

    def _artifacts(self) -> list[Artifact]:
        rows = self._rows(
            "SELECT folder, digest, files, size, ifnull((SELECT max(started) FROM results WHERE output = digest), 0) AS began"
            " FROM artifacts JOIN trees USING (digest) ORDER BY began DESC, folder"
        )
        found = []
        for text, digest, files, size, started in rows:
            folder = Folder.parse(text)
            assert folder is not None, text
            path = self.store.root / "artifacts" / text
            found.append(Artifact(folder.name, folder.version, Digest.parse(digest), path, files, size, started))
        return found

    def with_blob(self, blob: Digest) -> list[Holder]:
        """Every file with these bytes, in the trees that the index has: packages, sources and artifacts."""
        sql = (
            "SELECT digest, path, blob, entries.size FROM entries JOIN trees ON id = tree WHERE blob = ? ORDER BY digest, path"
        )
        return self._guarded(lambda: [_holder(row) for row in self._rows(sql, blob.hex)])

    def with_name(self, name: bytes) -> list[Holder]:
        """Every file of this path, or whose last component is this, in the same trees."""
        sql = (
            "SELECT digest, path, blob, entries.size FROM entries JOIN trees ON id = tree"
            " WHERE path = ?1 OR substr(path, -length(?1) - 1) = ?2 ORDER BY digest, path"
        )
        return self._guarded(lambda: [_holder(row) for row in self._rows(sql, name, b"/" + name)])

    def is_indexed(self, tree: Digest) -> bool:
        """Whether the index has the files of this tree."""
        return self._guarded(lambda: bool(self._rows("SELECT 1 FROM trees WHERE digest = ?", tree.hex)))


def _holder(row: tuple[str, bytes, str, int]) -> Holder:
    return Holder(Digest.parse(row[0]), row[1], Digest.parse(row[2]), row[3])


def _with_heading(columns: list[str], rows: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    iterator = iter(rows)
    for first in iterator:
        yield columns
        yield first
        yield from iterator


def _code(error: sqlite3.DatabaseError) -> int:
    # The low byte is the kind of error, the others say where it was met. Errors of the module itself have none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
