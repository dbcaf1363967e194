"""What an artifact was built from: every package and source behind it, with the hash of what was fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias
from urllib.parse import quote

from builder import steps
from store.action import Action
from store.digest import Digest
from store.errors import Error
from store.graph import LEAVES_OUT, Graph, Step
from store.manifest import File
from store.origins import Origin
from store.result import Result
from store.store import MissingManifest, Store

# What it is: a Debian package, the archive or file of a source, a file beside the recipe, a machine's files, a tree unknown.
Kind: TypeAlias = Literal["deb", "tar", "file", "local", "machine"]

# jq_1.7.1.orig.tar.gz, libonig-6.9.8.tar.xz: archives' names as their makers write them.
_ARCHIVE = re.compile(r"(.+?)[-_]v?([0-9][0-9A-Za-z.+~]*?)(?:\.orig)?(?:\.tar)?\.(?:gz|bz2|xz|zst|tar|tgz|txz|zip)\Z")


@dataclass(frozen=True, slots=True)
class Material:
    """One thing that came from outside.

    ``label`` is its name in steps, ``tree`` what the store made of it. ``sha256`` is that of the package or source as it was
    fetched, "" if it was never a fetched file; ``architecture`` is a Debian package's, "" if nothing tells.
    """

    kind: Kind
    label: str
    tree: Digest
    sha256: str = ""
    architecture: str = ""

    @property
    def name(self) -> str:
        """Its name without a version."""
        return named(self.label)[0]

    @property
    def version(self) -> str:
        """Its version, "" if its name does not say it."""
        return named(self.label)[1]

    @property
    def purl(self) -> str:
        """Its package URL; "" for what nobody publishes."""
        match self.kind if self.name.strip() else "":
            case "deb":
                where = f"?arch={quote(self.architecture)}" if self.architecture else ""
                return f"pkg:deb/debian/{quote(self.name, safe='')}@{quote(self.version, safe=':')}{where}"
            case "tar" | "file":
                at = f"@{quote(self.version, safe=':')}" if self.version else ""
                return f"pkg:generic/{quote(self.name, safe='')}{at}?checksum=sha256:{self.sha256}"
        return ""


def named(label: str) -> tuple[str, str]:
    """The name and the version in the label of a package, recipe or source; the version is "" if there is none."""
    name, space, version = label.rpartition(" ")
    if space and name:
        return name, version
    match = _ARCHIVE.match(label)
    return (match[1], match[2]) if match else (label, "")


@dataclass(frozen=True, slots=True)
class Build:
    """How an artifact came to be: the steps, the last one first, each with its result; and what went into them."""

    steps: tuple[tuple[Step, Result, Action], ...]
    materials: tuple[Material, ...]

    @property
    def started(self) -> int:
        """When the artifact was made, in seconds since 1970; 0 if nobody knows. To leave things out of it makes nothing."""
        return next((result.started for step, result, _ in self.steps if step.kind != LEAVES_OUT), 0)

    def of(self, *kinds: str) -> tuple[Step, Result, Action] | None:
        """The last step of these kinds."""
        return next((row for row in self.steps if row[0].kind in kinds), None)


class NotKnown(Error):
    """The store has an artifact, and does not know what it was built from."""

    def __init__(self, artifact: Digest) -> None:
        super().__init__(
            f"this store does not know what {artifact.short} was built from",
            hint="It was not built here. `builder build --from REMOTE RECIPE` brings what leads to it; who built it can tell.",
        )


def build_of(store: Store, graph: Graph, artifact: Digest) -> Build:
    """How ``artifact`` was built, by the newest steps that lead to it. Raises NotKnown."""
    rows: list[tuple[Step, Result, Action]] = []
    for step in graph.built_from(artifact):
        result = store.read_result(step.action)
        if result is not None:
            rows.append((step, result, Action.decode(result.record)))
    made = {step.output for step, _, _ in rows}
    architectures = _architectures(store, graph, made)
    leaves = {(label, tree) for step, _, _ in rows for label, tree in step.inputs if not graph.makers(tree)}
    leaves -= {(label, tree) for label, tree in leaves if tree == steps.skeleton()[0].digest}
    pulled = any(step.kind == LEAVES_OUT and step.inputs[0] in leaves for step, _, _ in rows)
    if not rows or pulled or any(not graph.gave(tree) and not store.manifest_path(tree).exists() for _, tree in leaves):
        raise NotKnown(artifact)
    found = [_material(store, graph, label, tree, architectures) for label, tree in leaves]
    return Build(tuple(rows), tuple(sorted(found, key=lambda m: (m.name, m.version, m.label, m.tree.raw))))


def _material(store: Store, graph: Graph, label: str, tree: Digest, architectures: Mapping[str, str]) -> Material:
    """What came in under ``label``. Several archives may be alike inside: the one that a system's lock names is meant."""
    known = []
    for step in graph.gave(tree):
        result = None if step.inputs else store.read_result(step.action)
        if result is not None:
            known.append(_imported(step, Action.decode(result.record), architectures))
    # Sorting keeps the order of equals: the newest first.
    known.sort(key=lambda material: (material.label != label, material.sha256 not in architectures))
    return replace(known[0], label=label) if known else Material("local", label, tree)


def used(build: Build, origins: Iterable[Origin]) -> set[Digest]:
    """The trees of the materials that are in an artifact whose files have these origins.

    That is a package, or source, whose file is in there, be it changed; and each source of a recipe that made a file in there.
    What a compiler took from a package (static libraries, headers) cannot be told.
    """
    labels = {(origin.how == "built", origin.source) for origin in origins}
    found = {material.tree for material in build.materials if (False, material.label) in labels}
    sources = {material.tree for material in build.materials if material.kind != "deb"}
    for step, _, _ in build.steps:
        if step.kind == "merge" and (True, step.label) in labels:
            found.update(tree for _, tree in step.inputs if tree in sources)
    return found


def _imported(step: Step, action: Action, architectures: Mapping[str, str]) -> Material:
    match action.settings:
        case [_, "deb", bytes(sha256)]:
            return Material("deb", step.label, step.output, sha256.hex(), architectures.get(sha256.hex(), ""))
        case [_, "tar", bytes(sha256), _]:
            return Material("tar", step.label, step.output, sha256.hex())
        case [_, "file", bytes(sha256), _]:
            return Material("file", step.label, step.output, sha256.hex())
    return Material("machine" if action.kind == "machine" else "local", step.label, step.output)


def _architectures(store: Store, graph: Graph, trees: set[Digest]) -> dict[str, str]:
    """The packages' architectures by sha256: the records of systems have them."""
    found = {}
    for tree in trees:
        for step in graph.gave(tree):
            result = store.read_result(step.action) if step.kind == "system" else None
            packages = Action.decode(result.record).settings[1] if result is not None else None
            for row in packages if isinstance(packages, list) else ():
                match row:
                    case [str(), str(), str(architecture), bytes(sha256)]:
                        found[sha256.hex()] = architecture
    return found


def licences(store: Store, material: Material) -> list[str]:
    """The short names of licences in a Debian package's machine-readable copyright file, as long as the store holds it."""
    try:
        tree = store.read_manifest(material.tree)
    except MissingManifest:
        return []
    node = tree.get(f"usr/share/doc/{material.name}/copyright".encode())
    if not isinstance(node, File) or not store.has_blob(node) or node.size > 4 << 20:
        return []
    text = store.read_blob(node.blob).decode("utf-8", "replace")
    if not text.lstrip().startswith("Format:"):
        return []
    return sorted({line.removeprefix("License:").strip() for line in text.split("\n") if line.startswith("License:")} - {""})
