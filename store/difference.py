"""What two artifacts share and how they differ: by path, and by where their files came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from store.digest import Digest
from store.index import Index
from store.manifest import Directory, Manifest, Node, order
from store.origins import sources


@dataclass(frozen=True, slots=True)
class Change:
    """A path that is not the same in two trees: what is there in each, None where nothing is."""

    path: bytes
    before: Node | None
    after: Node | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How the tree ``after`` differs from ``before``.

    ``changes`` are by path; a directory that only one of them has is none. ``shared``
    is how many bytes are in blobs that both have, ``only_before`` and ``only_after`` in those that one of them has, each blob
    counted once. ``sources_before`` and ``sources_after`` are the labels of what their files came from.
    """

    before: Manifest
    after: Manifest
    changes: tuple[Change, ...]
    shared: int
    only_before: int
    only_after: int
    sources_before: frozenset[str]
    sources_after: frozenset[str]

    @property
    def added(self) -> list[Change]:
        """The paths that only the second tree has."""
        return [change for change in self.changes if change.before is None]

    @property
    def removed(self) -> list[Change]:
        """The paths that only the first tree has."""
        return [change for change in self.changes if change.after is None]

    @property
    def changed(self) -> list[Change]:
        """The paths that both have, with something else there."""
        return [change for change in self.changes if change.before is not None and change.after is not None]


def difference(index: Index, before: Digest, after: Digest) -> Difference:
    """How the artifact ``after`` differs from ``before``. Raises MissingManifest."""
    one, two = index.store.read_manifest(before), index.store.read_manifest(after)
    blobs = [{(node.blob, node.executable): node.size for _, node in tree.files} for tree in (one, two)]
    return Difference(
        one,
        two,
        tuple(changes(one, two)),
        sum(size for blob, size in blobs[0].items() if blob in blobs[1]),
        sum(size for blob, size in blobs[0].items() if blob not in blobs[1]),
        sum(size for blob, size in blobs[1].items() if blob not in blobs[0]),
        *sources(index, (before, after)),
    )


def changes(before: Manifest, after: Manifest, *, directories: bool = False) -> Iterator[Change]:
    """The paths that are not the same in both, in the order of manifests; directories that one does not have, if wanted."""
    for path in sorted(before.nodes.keys() | after.nodes.keys(), key=order):
        one, two = before.get(path), after.get(path)
        if one != two and (directories or not (type(one or two) is Directory and None in (one, two))):
            yield Change(path, one, two)
