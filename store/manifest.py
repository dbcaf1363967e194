"""Manifests: a whole tree as one canonical value.

Paths are bytes, relative, without a trailing slash. Entries are in the order of a depth-first walk: names are compared
component by component, as bytes. Every directory is an entry, except the top, which is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from store import codec
from store.digest import BadDigest, Digest
from store.errors import Error

MAX_ENTRIES = 4_000_000
MAX_NAME = 255
MAX_PATH = 4095
MAX_SIZE = 1 << 60

_DIRECTORY, _FILE, _SYMLINK = 0, 1, 2

# What ``check_path`` takes: components of 1 to 255 bytes that are neither "." nor "..".
_PATH = re.compile(rb"(?:(?!\.{1,2}(?:/|\Z))[^/\0]{1,255}(?:/(?!\Z)|\Z))+\Z")


class BadEntry(Error):
    """An entry that no tree can hold; ``path`` is its name and ``reason`` says why."""

    def __init__(self, path: bytes, reason: str) -> None:
        super().__init__(f"bad entry {show(path)}: {reason}")
        self.path = path
        self.reason = reason


class MergeConflict(Error):
    """Two trees that hold something different at the same ``path``; ``first`` and ``second`` are their labels."""

    def __init__(self, path: bytes, first: str, second: str) -> None:
        super().__init__(
            f"{first} and {second} both hold {show(path)}, with different contents",
            hint=f"Say which one wins in the recipe: wins={{{show(path)!r}: {first.split(' ', maxsplit=1)[0]!r}}}.",
        )
        self.path = path
        self.first = first
        self.second = second


def show(path: bytes) -> str:
    """A path for people: readable, on one line, with no control characters."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, empty or not."""


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: the digest of its bytes, its size in bytes, and whether it may be executed."""

    blob: Digest
    size: int
    executable: bool

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 0 <= self.size <= MAX_SIZE:
            raise BadEntry(b"", f"a size of {self.size!r} bytes")
        if type(self.executable) is not bool:
            raise BadEntry(b"", "a mark for executable files that is neither true nor false")


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link and the text it holds."""

    target: bytes

    def __post_init__(self) -> None:
        if type(self.target) is not bytes or not self.target or b"\0" in self.target or len(self.target) > MAX_PATH:
            raise BadEntry(b"", "a symlink whose target is empty, holds NUL, or is over 4095 bytes")


Node = Directory | File | Symlink

DIRECTORY = Directory()


def check_path(path: bytes) -> bytes:
    """``path`` itself, when an entry may have it as its name. Raises BadEntry."""
    if type(path) is not bytes or not path:
        raise BadEntry(b"", "an empty name")
    if _PATH.match(path) and len(path) <= MAX_PATH:
        return path
    if len(path) > MAX_PATH:
        raise BadEntry(path, f"longer than {MAX_PATH} bytes")
    if b"\0" in path:
        raise BadEntry(path, "it holds a NUL byte")
    for name in path.split(b"/"):
        if name in (b"", b".", b".."):
            raise BadEntry(path, f"it holds the component {name.decode()!r}")
        if len(name) > MAX_NAME:
            raise BadEntry(path, f"a component is longer than {MAX_NAME} bytes")
    return path


def order(path: bytes) -> bytes:
    """The sort key of entries: a directory comes right before what is in it."""
    return path.replace(b"/", b"\0")


class Manifest:
    """A tree as a value. It cannot be built wrong: the constructor refuses what no file system could hold.

    ``entries`` gives (path, node) in canonical order. Iterating, ``len``, ``in`` and ``[path]`` do what they say.
    """

    __slots__ = ("_digest", "_encoded", "_nodes")

    def __init__(self, entries: Iterable[tuple[bytes, Node]]) -> None:
        """Take entries in any order. Raises BadEntry: bad name, duplicate, no parent directory, too many."""
        nodes: dict[bytes, Node] = {}
        for path, node in entries:
            check_path(path)
            if path in nodes:
                raise BadEntry(path, "it is there twice")
            nodes[path] = node
            if len(nodes) > MAX_ENTRIES:
                raise BadEntry(path, f"more than {MAX_ENTRIES} entries")
        for path in nodes:
            parent, slash, _ = path.rpartition(b"/")
            if slash and type(nodes.get(parent)) is not Directory:
                what = "has no entry" if parent not in nodes else "is not a directory"
                raise BadEntry(path, f"its parent {show(parent)} {what}")
        self._nodes = {path: nodes[path] for path in sorted(nodes, key=order)}
        self._encoded: bytes | None = None
        self._digest: Digest | None = None

    @classmethod
    def with_parents(cls, entries: Iterable[tuple[bytes, Node]]) -> Manifest:
        """As the constructor, with the missing parent directories made up. An identical duplicate directory is one."""
        nodes: dict[bytes, Node] = {}
        for path, node in entries:
            known = nodes.get(path)
            if known is not None and not (type(node) is Directory and type(known) is Directory):
                raise BadEntry(path, "it is there twice")
            nodes[path] = node
        for path in list(nodes):
            parent = path
            while parent := parent.rpartition(b"/")[0]:
                if parent in nodes:
                    break
                nodes[parent] = DIRECTORY
        return cls(nodes.items())

    @property
    def entries(self) -> Iterable[tuple[bytes, Node]]:
        """Every (path, node), in canonical order."""
        return self._nodes.items()

    @property
    def nodes(self) -> Mapping[bytes, Node]:
        """Every node by its path, in canonical order. Not to be changed."""
        return self._nodes

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: object) -> bool:
        return path in self._nodes

    def __getitem__(self, path: bytes) -> Node:
        return self._nodes[path]

    def get(self, path: bytes) -> Node | None:
        """The node at ``path``, or None."""
        return self._nodes.get(path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self._nodes == other._nodes

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Manifest {self.digest.short}, {len(self)} entries>"

    @property
    def files(self) -> Iterator[tuple[bytes, File]]:
        """Every regular file, with its path, in order."""
        for path, node in self._nodes.items():
            if type(node) is File:
                yield path, node

    @property
    def size(self) -> int:
        """The sum of the sizes of all files, in bytes, each path counted."""
        return sum(node.size for _, node in self.files)

    # -- encoding --

    def encode(self) -> bytes:
        """The canonical bytes: ``[1, "manifest", [[path, 0] | [path, 1, blob, size, executable] | [path, 2, target]]]``."""
        if self._encoded is None:
            rows: list[codec.Value] = []
            for path, node in self._nodes.items():
                match node:
                    case Directory():
                        rows.append([path, _DIRECTORY])
                    case File(blob, size, executable):
                        rows.append([path, _FILE, blob.raw, size, executable])
                    case Symlink(target):
                        rows.append([path, _SYMLINK, target])
            self._encoded = codec.encode("manifest", [rows])
        return self._encoded

    @property
    def digest(self) -> Digest:
        """The digest of the canonical bytes."""
        if self._digest is None:
            self._digest = Digest.of(self.encode())
        return self._digest

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read canonical bytes. Raises BadRecord, BadEntry or BadDigest; never returns a manifest that encodes otherwise."""
        (rows,) = codec.decode("manifest", data, 1, looked_at=True)
        if type(rows) is not list:
            raise codec.BadRecord("manifest", "its entries are no list")
        manifest = cls(_decode_row(row) for row in rows)
        # The record is canonical, and so is each row: what is left to differ is their order.
        if list(manifest) != [row[0] for row in rows]:
            raise codec.BadRecord("manifest", "its entries are out of order")
        manifest._encoded = data
        return manifest

    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory ``path``, sorted; none when there is no such directory."""
        start = path + b"/"
        return sorted(name[len(start) :] for name in self._nodes if name.startswith(start) and b"/" not in name[len(start) :])

    # -- making others --

    def below(self, path: bytes) -> Manifest:
        """What the directory ``path`` holds, as a tree of its own. Raises KeyError when there is no such directory."""
        if type(self._nodes[path]) is not Directory:
            raise KeyError(path)
        start = path + b"/"
        return Manifest((name[len(start) :], node) for name, node in self._nodes.items() if name.startswith(start))

    def under(self, path: bytes) -> Manifest:
        """The same tree, moved into the directory ``path``, whose parents are made up."""
        check_path(path)
        moved = ((path + b"/" + name, node) for name, node in self._nodes.items())
        return Manifest.with_parents([(path, DIRECTORY), *moved])


def blobs_in(data: bytes) -> set[tuple[bytes, bool]]:
    """The blobs in a manifest's bytes, which have been decoded before: each digest's 32 bytes, and if it may be executed."""
    (rows,) = codec.decode_again("manifest", data)
    return {(row[2], row[4]) for row in rows if row[1] == _FILE}


def _decode_row(row: object) -> tuple[bytes, Node]:
    # Not by matching a pattern, which takes three times as long; and `True == 1`, so types are compared themselves.
    if type(row) is list and len(row) > 1 and type(row[0]) is bytes and type(row[1]) is int:
        path, kind, *rest = row
        try:
            if kind == _FILE and len(rest) == 3:
                return path, File(Digest(rest[0]), rest[1], rest[2])
            if kind == _DIRECTORY and not rest:
                return path, DIRECTORY
            if kind == _SYMLINK and len(rest) == 1:
                return path, Symlink(rest[0])
        except BadEntry as error:
            raise BadEntry(path, error.reason) from None
        except BadDigest:
            raise BadEntry(path, "its digest has the wrong length") from None
    raise codec.BadRecord("manifest", "an entry of an unknown form")


def merge(trees: Iterable[tuple[str, Manifest]], *, wins: Mapping[bytes, str] | None = None) -> Manifest:
    """Lay labelled trees over each other. Their order says nothing.

    The same path with the same node is one entry. With different nodes it is a MergeConflict, unless ``wins`` maps the
    path to the label of a tree that has it: then that tree's node is taken, and where it is no directory, what other trees
    have below the path is left out.
    """
    trees = list(trees)
    chosen = _chosen(trees, wins or {})
    hiding = {path for path, (_, node) in chosen.items() if type(node) is not Directory}
    merged: dict[bytes, Node] = {path: node for path, (_, node) in chosen.items() if not _is_below(path, hiding)}
    origin: dict[bytes, str] = {path: label for path, (label, _) in chosen.items()}
    for label, tree in trees:
        for path, node in tree.entries:
            if path in chosen or (hiding and _is_below(path, hiding)):
                continue
            known = merged.setdefault(path, node)
            if known is node:
                origin.setdefault(path, label)
            elif known != node:
                raise MergeConflict(path, origin[path], label)
    return Manifest(merged.items())


def _chosen(trees: list[tuple[str, Manifest]], wins: Mapping[bytes, str]) -> dict[bytes, tuple[str, Node]]:
    """Of each path in ``wins``, the label and the node that win."""
    chosen: dict[bytes, tuple[str, Node]] = {}
    for path, winner in wins.items():
        for label, tree in trees:
            node = tree.get(path)
            if label != winner or node is None:
                continue
            if chosen.setdefault(path, (label, node))[1] != node:
                raise MergeConflict(path, label, label)
    return chosen


def _is_below(path: bytes, folders: set[bytes]) -> bool:
    while path := path.rpartition(b"/")[0]:
        if path in folders:
            return True
    return False


def follow(manifest: Manifest, path: bytes, *, limit: int = 40) -> bytes | None:
    """The path of the file that ``path`` leads to through symlinks of the same tree, or None when it leads to no file in it."""
    found = way(manifest, path, limit=limit)
    return found[1] if found is not None and type(manifest.get(found[1])) is File else None


def way(manifest: Manifest, path: bytes, *, limit: int = 40) -> tuple[list[bytes], bytes] | None:
    """The symlinks and directories that ``path`` leads through, and the file or directory that it leads to (empty: the top).

    None when it leads to nothing in the tree.
    """
    done: list[bytes] = []
    passed: list[bytes] = []
    left = path.split(b"/")[::-1]
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if not done:
                return None
            done.pop()
            continue
        place = b"/".join([*done, name])
        match manifest.get(place):
            case Symlink(target):
                limit -= 1
                if limit < 0 or target.startswith(b"/"):
                    return None
                passed.append(place)
                left.extend(target.split(b"/")[::-1])
            case Directory():
                passed.append(place)
                done.append(name)
            case File() if not left:
                done.append(name)
            case _:
                return None
    end = b"/".join(done)
    return [place for place in passed if place != end], end
