"""What is pushed with an artifact, so that others need not build it: the results that lead to it, signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from builder.recipe import HOST
from launcher import machines
from store import graph, signatures
from store.action import Action
from store.artifacts import Folder
from store.digest import Digest
from store.graph import Graph
from store.manifest import Manifest
from store.push import Load
from store.remote import NO_VERSION
from store.resolve import Named
from store.signing import SecretKey, Signed, Statement
from store.store import Store


@dataclass(frozen=True, slots=True)
class Share:
    """What there is to say of one artifact: about each step that leads to it, about the artifact itself, and its raw output."""

    statements: tuple[Statement, ...]
    pointers: tuple[Statement, ...]
    outputs: tuple[tuple[Folder, Digest], ...]


def platform_of(artifact: Manifest) -> str:
    """The platform of an artifact's programs: its launch directory says it. One without programs is for any: this one."""
    for name in artifact.names(b".launch"):
        machine = machines.named(name.decode("utf-8", "replace").partition("-")[0])
        if machine is not None:
            return f"{machine.name}-linux"
    return HOST


def _platform(store: Store, known: Graph, artifact: Digest) -> str:
    """The same of an artifact whose making may say it: debug information has no launch directory."""
    for step in known.gave(artifact):
        result = store.read_result(step.action) if step.kind == "debug" else None
        if result is not None:
            return str(Action.decode(result.record).settings[1])
    return platform_of(store.read_manifest(artifact))


def share(store: Store, known: Graph, artifact: Named) -> Share:
    """All that another builder has to know to take ``artifact`` for what its recipe gives. Raises MissingManifest.

    ``known`` has the store's steps. Not how a system's root is made of its packages: that the root has this digest is enough.
    """
    platform = _platform(store, known, artifact.digest)
    _, way = known.behind([artifact.digest], through=lambda step: step.kind != "root")
    statements: list[Statement] = []
    pointers: list[Statement] = []
    outputs: list[tuple[Folder, Digest]] = []
    for step in way:
        result = store.read_result(step.action)
        if result is None:
            continue
        tree = store.read_manifest(result.output)
        if step.kind in ("pack", "debug") and step.output == artifact.digest:
            said = Statement(result, artifact.folder.name, artifact.folder.version, platform, tree.size)
            pointers.append(said)
            if step.kind == "pack":
                raw = Action.decode(result.record).inputs[0][1]
                outputs.append((Folder.of(raw, artifact.folder.name, artifact.folder.version), raw))
        else:
            said = Statement(result, step.kind, NO_VERSION, platform, tree.size)
        statements.append(said)
    return Share(tuple(statements), tuple(pointers), tuple(outputs))


def load(store: Store, artifacts: Sequence[Named], *, key: SecretKey | None, with_outputs: bool = True) -> Load:
    """What to push for ``artifacts``: results are signed with ``key``, and without one not.

    Signatures of other keys that the store has of the same results go along.
    """
    known = Graph(graph.steps(store))
    trees: dict[Digest, Folder] = {item.digest: item.folder for item in artifacts}
    signed: dict[tuple[Digest, str], Signed] = {}
    pointers: dict[tuple[Digest, str], Signed] = {}
    for item in artifacts:
        shared = share(store, known, item)
        for statement in shared.statements:
            every = [
                one for one in signatures.of_action(store, statement.result.action) if one.statement.says == statement.says
            ]
            if key is not None:
                every.append(key.sign(statement))  # the last one of a key counts
            by_key = {(statement.result.action, one.signer): one for one in every}
            signed |= by_key
            if statement in shared.pointers:
                pointers |= by_key
        if with_outputs:
            trees |= {tree: folder for folder, tree in shared.outputs if tree not in trees and _held(store, tree)}
    needed = {signature.statement.result.output for signature in signed.values()}
    return Load(
        trees=[(folder, tree) for tree, folder in trees.items()],
        manifests=sorted(needed - trees.keys(), key=lambda tree: tree.raw),
        results=list(signed.values()),
        pointers=list(pointers.values()),
    )


def _held(store: Store, tree: Digest) -> bool:
    store.use("tree", tree.hex)
    return store.manifest_path(tree).exists() and store.holds(store.read_manifest(tree))
