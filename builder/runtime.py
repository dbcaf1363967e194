"""What running needs of an artifact, as an artifact of its own: its files are the same blobs, and its result says what of."""

from __future__ import annotations

import time

from builder import steps
from builder.record import record
from launcher import needs
from store import artifacts
from store.artifacts import Folder
from store.digest import Digest
from store.errors import Error
from store.graph import Graph
from store.manifest import Manifest
from store.resolve import Named
from store.store import Store


class NothingToRun(Error):
    """An artifact that is for building only; ``label`` is its name and version."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"{label} has nothing that running needs: only what others are built against",
            hint="--all takes all of it. What running needs after all, its recipe lists as `runtime`.",
        )
        self.label = label


class NotWhole(Error):
    """All of an artifact is asked for, and the one that was named is only what running needs of it; ``whole`` is the other."""

    def __init__(self, label: str, whole: Digest) -> None:
        super().__init__(
            f"this is only what running needs of {label}, and not all of it",
            hint=f"Name the whole artifact, {whole}. If the store has it no longer, build or pull it again.",
        )
        self.whole = whole


def tree_of(store: Store, artifact: Manifest) -> Manifest:
    """What running needs of ``artifact``. Raises needs.BadChoice."""
    return needs.needed(artifact, needs.choice_of(artifact, store.read_blob))


def needed(store: Store, artifact: Named) -> Named:
    """What running needs of ``artifact``, checked out: the artifact itself, if that is all of it.

    For who is in the store's ``in_use``. Raises NothingToRun, needs.BadChoice, and what the store does.
    """
    whole = store.read_manifest(artifact.digest)
    started = time.time()
    tree = tree_of(store, whole)
    if tree.digest == artifact.digest:
        return artifact
    folder = artifact.folder
    label = f"{folder.name} {folder.version}"
    if needs.is_idle(tree):
        raise NothingToRun(label)
    action = steps.runtime_action(artifact.digest)
    store.use("tree", tree.digest.hex)
    if store.read_result(action.digest) is None or not store.manifest_path(tree.digest).exists():
        with store.batch() as batch:
            batch.add_manifest(tree)
            batch.add_result(record(action, label, tree.digest, started))
    path = artifacts.check_out(store, tree, name=folder.name, version=folder.version)
    return Named(Folder.of(tree.digest, folder.name, folder.version), tree.digest, path)


def made_before(store: Store, artifact: Digest, name: str, version: str) -> Named | None:
    """The same, if it is checked out already: of the artifact itself nothing has to be there but its digest."""
    result = store.read_result(steps.runtime_action(artifact).digest)
    if result is None:
        return None
    path = artifacts.path_of(store, result.output, name=name, version=version)
    store.use("tree", result.output.hex)
    return Named(Folder.of(result.output, name, version), result.output, path) if artifacts.is_there(path) else None


def whole(known: Graph, artifact: Named) -> Named:
    """``artifact`` itself. Raises NotWhole where it is only what running needs of another one."""
    of = known.whole_of(artifact.digest)
    if of is not None:
        raise NotWhole(f"{artifact.folder.name} {artifact.folder.version}", of)
    return artifact
