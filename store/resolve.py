"""Which artifact a person means: by a link, a folder, a digest or a name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from store import artifacts, graph
from store.artifacts import Folder
from store.digest import PREFIX, Digest
from store.errors import Error
from store.graph import Graph
from store.store import Store

SHORTEST = 4


class NoArtifact(Error):
    """No artifact of the store is meant by ``spec``."""

    def __init__(self, spec: str) -> None:
        super().__init__(
            f"no artifact is called {spec!r}",
            hint="Give a result link, an artifact's folder, the start of its digest (b3:…), or the name of one that was built.",
        )
        self.spec = spec


class Ambiguous(Error):
    """More than one artifact is meant by ``spec``."""

    def __init__(self, spec: str, found: list[Named]) -> None:
        shown = ", ".join(f"{item.folder.name} ({PREFIX}{item.digest.short})" for item in found)
        super().__init__(f"{spec!r} may be any of {shown}", hint="Give more digits of the digest.")
        self.spec = spec


@dataclass(frozen=True, slots=True)
class Named:
    """An artifact that is checked out: its folder's name, its digest, and where it is."""

    folder: Folder
    digest: Digest
    path: Path


def resolve(store: Store, spec: str) -> Named:
    """The artifact that ``spec`` means. Raises NoArtifact or Ambiguous.

    In this order: a path to an artifact's folder, or to a symlink that leads to one; a folder's name; ``b3:`` and the first
    digits of a digest, four or more; a name, with or without ``-version``, of which the newest is taken, and rather the whole
    artifact than what running needs of it. It counts as used then: see ``Store.in_use``.
    """
    named = _find(store, spec)
    store.use("tree", named.digest.hex)
    # A collection may have taken it before that was said.
    if not artifacts.is_there(named.path) or not store.manifest_path(named.digest).exists():
        raise NoArtifact(spec)
    return named


def _find(store: Store, spec: str) -> Named:
    folder = _by_path(store, spec) or Folder.parse(spec)
    if folder is not None:
        named = _named(store, folder)
        if named is None or not artifacts.is_there(named.path):
            raise NoArtifact(spec)
        return named
    there = [named for folder in artifacts.folders(store) if (named := _named(store, folder))]
    if spec.startswith(PREFIX):
        return _only(spec, _by_digest(there, spec.removeprefix(PREFIX)))
    found = [item for item in there if spec in (item.folder.name, f"{item.folder.name}-{item.folder.version}")]
    return _newest(store, spec, found)


def _named(store: Store, folder: Folder) -> Named | None:
    digest = artifacts.digest_of(store, folder)
    return None if digest is None else Named(folder, digest, store.root / "artifacts" / str(folder))


def _by_path(store: Store, spec: str) -> Folder | None:
    try:
        real = os.path.realpath(spec, strict=True)
        inside = os.path.samefile(os.path.dirname(real), store.root / "artifacts")
    except (OSError, ValueError):  # not there; a NUL
        return None
    return Folder.parse(os.path.basename(real)) if inside else None


def _by_digest(there: list[Named], digits: str) -> list[Named]:
    # The same tree may have been given two names; any of its folders will do.
    found = {item.digest: item for item in there if len(digits) >= SHORTEST and item.digest.hex.startswith(digits)}
    return list(found.values())


def _only(spec: str, found: list[Named]) -> Named:
    if not found:
        raise NoArtifact(spec)
    if len(found) > 1:
        raise Ambiguous(spec, found)
    return found[0]


def _newest(store: Store, spec: str, found: list[Named]) -> Named:
    if len(found) < 2:
        return _only(spec, found)
    known = Graph(graph.steps(store))

    def order(item: Named) -> tuple[int, bool, str]:
        whole = known.whole_of(item.digest)
        # What running needs of an artifact is as old as that.
        started = (step.started for step in known.gave(whole or item.digest))
        return max(started, default=0), whole is None, str(item.folder)

    return max(found, key=order)
