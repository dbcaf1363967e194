"""The index: what has which blob, and what came from what, in one sqlite file.

It is a cache of ``results/``, ``artifacts/`` and ``manifests/``. Builders do not write it; who asks brings it up to date first,
by comparing directory listings. If it is missing, damaged, or of another version, it is made again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from store import artifacts, graph
from store.artifacts import Folder
from store.codec import BadRecord
from store.digest import SIZE, Digest
from store.errors import Error
from store.files import NoSpace
from store.graph import Graph, Step, newest_first
from store.manifest import File, Manifest, Symlink, follow, show
from store.store import Store

if TYPE_CHECKING:
    import sqlite_utils

VERSION = 2
BUSY = 30.0
MAX_INTEGER = (1 << 63) - 1

_TABLES: dict[str, tuple[dict[str, type], str | tuple[str, ...]]] = {
    # stamp: tells whether the file is the one that was read.
    "results": ({"action": str, "kind": str, "label": str, "output": str, "started": int, "stamp": str}, "action"),
    "inputs": ({"action": str, "position": int, "label": str, "tree": str}, ("action", "position")),
    "artifacts": ({"folder": str, "name": str, "version": str, "digest": str}, "folder"),
    # artifact: whether the tree is one of an artifact. alone: the size of its blobs, each counted once.
    "trees": ({"id": int, "digest": str, "artifact": int, "files": int, "size": int, "alone": int}, "id"),
    # artifacts: how many artifacts have the blob. holder: the sum of their trees' ids, so if it is one, that one's.
    "blobs": ({"id": int, "digest": bytes, "executable": int, "size": int, "artifacts": int, "holder": int}, "id"),
    # kind: one of the three below.
    "entries": ({"tree": int, "path": bytes, "name": bytes, "blob": int, "kind": int}, ("tree", "path")),
}

# What the tables say, whatever numbers their rows have.
_CONTENT = {
    "results": "SELECT action, kind, label, output, started FROM {0}.results",
    "inputs": "SELECT action, position, label, tree FROM {0}.inputs",
    "artifacts": "SELECT folder, name, version, digest FROM {0}.artifacts",
    "trees": "SELECT digest, artifact, files, size, alone FROM {0}.trees",
    "blobs": "SELECT hex(b.digest), executable, b.size, artifacts, t.digest FROM {0}.blobs b"
    " LEFT JOIN {0}.trees t ON artifacts = 1 AND t.id = holder",
    "entries": "SELECT t.digest, path, name, hex(b.digest), executable, kind FROM {0}.entries e"
    " LEFT JOIN {0}.trees t ON t.id = tree LEFT JOIN {0}.blobs b ON b.id = blob",
}
# A file of a source; of an artifact, a file, or a symlink that leads to a file of the same tree, whose blob it has then.
_SOURCE, _FILE, _LINK = range(3)

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)

# What was made of no other tree: see Graph.makers.
_LEAVES = """
    SELECT output FROM results UNION SELECT tree FROM inputs EXCEPT
    SELECT output FROM results WHERE EXISTS (SELECT 1 FROM inputs WHERE inputs.action = results.action)
    AND NOT EXISTS (SELECT 1 FROM inputs WHERE inputs.action = results.action AND tree = output)
"""

_CAME_OF = """
    WITH RECURSIVE later (tree) AS (
        VALUES (?) UNION
        SELECT output FROM later JOIN inputs USING (tree) JOIN results USING (action) WHERE output <> tree
    ) SELECT tree FROM later
"""

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
class Sizes:
    """What an artifact takes on the disk, in bytes: ``alone`` with each blob counted once, ``unique`` what no other one has."""

    alone: int
    unique: int

    @property
    def shared(self) -> int:
        """What other artifacts have too."""
        return self.alone - self.unique


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


@contextlib.contextmanager
def opened_as_it_is(store: Store) -> Iterator[Index]:
    """The same, not brought up to date: to be verified."""
    index = Index(store)
    try:
        yield index
    finally:
        index.close()


class Index:
    """An open index. Not for several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.path = store.root / "index.sqlite"
        self._open: sqlite3.Connection | None = None

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

    def verify(self) -> list[str]:
        """Make the index again, and give what was wrong with the old one when it had been brought up to date, in words."""
        if not self.path.exists():
            self.update()
            return []
        with contextlib.ExitStack() as stack:
            try:
                self._update()
                folder = stack.enter_context(self.store.workspace())
                with self.store.lock("index"):
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    self.close()
                    old = folder / "old.sqlite"
                    shutil.copyfile(self.path, old)
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise self._explained(error) from error
                self.rebuild()
                return [str(error)]
            self.rebuild()
            try:
                return self._differences(old)
            except sqlite3.DatabaseError as error:
                return [str(error)]

    def _differences(self, old: Path) -> list[str]:
        found = []
        # As bytes, which a path need not share with any text.
        self._db.execute("ATTACH ? AS old", [os.fsencode(old)])
        for table, sql in _CONTENT.items():
            for one, other, what in (("old", "main", "a row that is wrong"), ("main", "old", "a row was missing")):
                rows = self._rows(f"{sql.format(one)} EXCEPT {sql.format(other)} LIMIT 10")
                found += [f"{table}: {what}: {', '.join(map(_shown, row))}" for row in rows]
        return found

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
    def _db(self) -> sqlite3.Connection:
        if self._open is None:
            # sqlite would follow a symlink, and write behind it.
            if os.path.islink(self.path):
                os.unlink(self.path)
            # No transactions but our own.
            connection = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                self._open = connection
            except BaseException:
                connection.close()
                raise
        return self._open

    @property
    def _tables(self) -> sqlite_utils.Database:
        import sqlite_utils  # 100 ms: only when there is something to write

        return sqlite_utils.Database(self._db, execute_plugins=False)

    def _update(self) -> None:
        with self.store.lock("index"):
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                self._remove()
            with self._transaction():
                if version != VERSION:
                    self._create()
                news = [self._update_results(), self._update_artifacts(), self._unread() > 0]
                if any(news):
                    self._update_trees()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.rollback()
            raise
        self._db.execute("COMMIT")

    def _create(self) -> None:
        tables = self._tables
        for name, (columns, key) in _TABLES.items():
            tables.table(name).create(columns, pk=key, strict=True)
        tables.table("entries").create_index(["blob"])
        tables.table("entries").create_index(["name"])
        tables.table("blobs").create_index(["digest", "executable"], unique=True)
        tables.table("trees").create_index(["digest"], unique=True)
        tables.table("results").create_index(["output"])
        tables.table("inputs").create_index(["tree"])
        tables.table("artifacts").create_index(["digest"])
        # What a thousand artifacts have may come from one package.
        self._db.execute(f"CREATE INDEX source_blobs ON entries (blob) WHERE kind = {_SOURCE}")
        self._db.execute("CREATE INDEX unique_blobs ON blobs (holder, size) WHERE artifacts = 1")
        # Inside the transaction: an index without its tables is never of the right version.
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _unread(self) -> int:
        """How many trees should be in the index, and had manifests that could not be read."""
        # A number that sqlite keeps for whoever made the file.
        return int(self._rows("PRAGMA application_id")[0][0])

    def _update_results(self) -> bool:
        """Whether there was something to do."""
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
        return bool(stale or fresh)

    def _update_artifacts(self) -> bool:
        """The same."""
        known = {folder for (folder,) in self._rows("SELECT folder FROM artifacts")}
        there = {str(folder): folder for folder in artifacts.folders(self.store)}
        self._delete("artifacts", "folder", known - there.keys())
        rows = []
        for text in sorted(there.keys() - known):
            digest = artifacts.digest_of(self.store, there[text])
            if digest is not None:
                rows.append((text, there[text].name, there[text].version, digest.hex))
        self._insert("artifacts", rows)
        return bool(rows or known - there.keys())

    def _update_trees(self) -> None:
        """Have the files of what came from outside and of artifacts, and of no other tree: input roots are large and many."""
        wanted = {digest: 0 for (digest,) in self._rows(_LEAVES)}
        wanted.update((digest, 1) for (digest,) in self._rows("SELECT digest FROM artifacts"))
        known = {
            digest: (number, artifact) for digest, number, artifact in self._rows("SELECT digest, id, artifact FROM trees")
        }
        for digest, (number, artifact) in known.items():
            if wanted.get(digest) != artifact:
                self._forget(number)
        number = max((number for number, _ in known.values()), default=0)
        unread = 0
        for digest in sorted(digest for digest, artifact in wanted.items() if known.get(digest, (0, -1))[1] != artifact):
            try:
                manifest = self.store.read_manifest(Digest.parse(digest))
            except (Error, OSError):
                unread += 1  # gone, or damaged: `check` says so
                continue
            number += 1
            self._learn(number, manifest, wanted[digest])
        self._db.execute(f"PRAGMA application_id = {min(unread, 0x7FFFFFFF)}")

    def _learn(self, tree: int, manifest: Manifest, artifact: int) -> None:
        blobs = {(node.blob.raw, int(node.executable)): node.size for _, node in manifest.files}
        files = sum(1 for _ in manifest.files)
        # Whoever made it may have listed sizes that no disk has, and together more than a column holds.
        size, alone = (min(count, MAX_INTEGER) for count in (manifest.size, sum(blobs.values())))
        self._insert("trees", [(tree, manifest.digest.hex, artifact, files, size, alone)])
        self._db.executemany(
            "INSERT INTO blobs (digest, executable, size, artifacts, holder) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET artifacts = artifacts + excluded.artifacts, holder = holder + excluded.holder",
            ((*blob, size, artifact, tree * artifact) for blob, size in blobs.items()),
        )
        self._db.executemany(
            "INSERT INTO entries SELECT ?, ?, ?, id, ? FROM blobs WHERE digest = ? AND executable = ?",
            ((tree, path, path.rpartition(b"/")[2], kind, *blob) for path, kind, blob in _named(manifest, artifact)),
        )

    def _forget(self, tree: int) -> None:
        mine = "id IN (SELECT blob FROM entries WHERE tree = ?1)"
        self._rows(
            f"UPDATE blobs SET artifacts = artifacts - 1, holder = holder - ?1 WHERE {mine}"  # noqa: S608
            " AND (SELECT artifact FROM trees WHERE id = ?1)",
            tree,
        )
        others = "SELECT 1 FROM entries WHERE blob = blobs.id AND tree <> ?1"
        self._rows(f"DELETE FROM blobs WHERE {mine} AND NOT EXISTS ({others})", tree)  # noqa: S608
        self._delete("entries", "tree", [tree])
        self._delete("trees", "id", [tree])

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        iterator = iter(rows)
        for first in iterator:
            # The library's list mode: the first row says what the columns are.
            self._tables.table(table).insert_all(itertools.chain([list(_TABLES[table][0]), first], iterator), batch_size=500)

    def _delete(self, table: str, column: str, values: Iterable[object]) -> None:
        for value in values:
            self._rows(f"DELETE FROM {table} WHERE {column} = ?", value)  # noqa: S608

    def _rows(self, sql: str, *values: object) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    # -- asking it --

    def graph(self) -> Graph:
        """Every step that the index knows, each looked up when it is asked for."""
        return _IndexedGraph(self)

    def steps_to(self, tree: Digest) -> list[Step]:
        """The steps that gave ``tree``, the newest first."""
        return self._guarded(lambda: self._steps_to(tree))

    def _steps_to(self, tree: Digest) -> list[Step]:
        found = []
        for action, kind, label, started in self._rows(
            "SELECT action, kind, label, started FROM results WHERE output = ?", tree.hex
        ):
            inputs = self._rows("SELECT label, tree FROM inputs WHERE action = ? ORDER BY position", action)
            named = tuple((name, Digest.parse(digest)) for name, digest in inputs)
            found.append(Step(Digest.parse(action), kind, label, tree, started, named))
        return sorted(found, key=newest_first)

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

    def sizes(self) -> dict[Digest, Sizes]:
        """What each artifact takes on the disk."""
        return self._guarded(lambda: self._sizes("", ()))

    def sizes_of(self, artifact: Digest) -> Sizes:
        """What this one takes, which has to be checked out. Raises KeyError."""
        return self._guarded(lambda: self._sizes("AND digest = ?", (artifact.hex,)))[artifact]

    def _sizes(self, which: str, values: tuple[str, ...]) -> dict[Digest, Sizes]:
        rows = self._rows(
            "SELECT digest, alone, (SELECT CAST(total(size) AS INTEGER) FROM blobs WHERE holder = trees.id AND artifacts = 1)"  # noqa: S608
            f" FROM trees WHERE artifact {which}",
            *values,
        )
        return {Digest.parse(digest): Sizes(alone, unique) for digest, alone, unique in rows}

    def size(self) -> int:
        """The bytes of all artifacts, each blob counted once."""
        return self._guarded(
            lambda: int(self._rows("SELECT CAST(total(size) AS INTEGER) FROM blobs WHERE artifacts > 0")[0][0])
        )

    def sources_with(self, blob: Digest) -> list[Holder]:
        """Every file with these bytes in what came from outside: packages and sources."""
        return self._holders(f"blobs.digest = ? AND kind = {_SOURCE}", blob.raw)

    def with_digits(self, digits: str) -> list[Holder]:
        """Every file of an artifact, the digest of whose bytes begins with these hex digits."""
        width = 2 * SIZE
        low, high = bytes.fromhex(digits.ljust(width, "0")), bytes.fromhex(digits.ljust(width, "f"))
        return self._holders(f"blobs.digest BETWEEN ? AND ? AND kind = {_FILE}", low, high)

    def with_name(self, name: bytes) -> list[Holder]:
        """Every file or symlink of an artifact that has this path or last name, or is a library of this name: libssl.

        A symlink counts if it leads to a file of its own tree, and stands for that.
        """
        last = name.rpartition(b"/")[2]
        if last != name:
            return self._holders(f"name = ? AND path = ? AND kind <> {_SOURCE}", last, name)
        like = "name = ? OR (name >= ? AND name < ?)"
        return self._holders(f"({like}) AND kind <> {_SOURCE}", name, name + b".so", name + b".so\xff")

    def _holders(self, condition: str, *values: bytes) -> list[Holder]:
        sql = (
            "SELECT trees.digest, path, blobs.digest, blobs.size FROM entries JOIN trees ON trees.id = tree"  # noqa: S608
            f" JOIN blobs ON blobs.id = blob WHERE {condition} ORDER BY trees.digest, path"
        )
        return self._guarded(lambda: [_holder(row) for row in self._rows(sql, *values)])

    def came_of(self, tree: Digest) -> set[Digest]:
        """All that was made of ``tree``, directly or not."""
        rows = self._guarded(lambda: self._rows(_CAME_OF, tree.hex))
        return {Digest.parse(digest) for (digest,) in rows}

    def sources_of(self, artifact: Digest) -> list[Holder]:
        """The same for all files of an artifact at once."""
        sql = (
            "SELECT trees.digest, entries.path, theirs.digest, theirs.size FROM entries AS mine"  # noqa: S608
            " JOIN blobs AS ours ON ours.id = mine.blob JOIN blobs AS theirs ON theirs.digest = ours.digest"
            " JOIN entries ON entries.blob = theirs.id JOIN trees ON trees.id = entries.tree"
            f" WHERE mine.tree = (SELECT id FROM trees WHERE digest = ?) AND entries.kind = {_SOURCE}"
            " GROUP BY trees.digest, entries.path"
        )
        return self._guarded(lambda: [_holder(row) for row in self._rows(sql, artifact.hex)])

    def is_source(self, tree: Digest) -> bool:
        """Whether this tree is one that ``sources_with`` looks into."""
        return self._guarded(lambda: bool(self._rows("SELECT 1 FROM trees WHERE digest = ? AND NOT artifact", tree.hex)))


def _shown(value: object) -> str:
    return show(value) if isinstance(value, bytes) else str(value)


class _IndexedGraph(Graph):
    """The graph that an index has. Each tree is asked for once."""

    def __init__(self, index: Index) -> None:
        super().__init__(())
        self._index = index

    def gave(self, tree: Digest) -> list[Step]:
        if tree not in self._by_output:
            self._by_output[tree] = self._index.steps_to(tree)
        return self._by_output[tree]


def _holder(row: tuple[str, bytes, bytes, int]) -> Holder:
    return Holder(Digest.parse(row[0]), row[1], Digest(row[2]), row[3])


def _named(manifest: Manifest, artifact: int) -> Iterator[tuple[bytes, int, tuple[bytes, int]]]:
    """Every path that leads to a file, its kind, and the file's blob and mode."""
    for path, node in manifest.entries:
        if type(node) is File:
            yield path, _FILE if artifact else _SOURCE, (node.blob.raw, int(node.executable))
        elif type(node) is Symlink and artifact:
            target = manifest.get(follow(manifest, path) or b"")
            if type(target) is File:
                yield path, _LINK, (target.blob.raw, int(target.executable))


def _code(error: sqlite3.DatabaseError) -> int:
    # The low byte is the kind of error, the others say where it was met. Errors of the module itself have none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
