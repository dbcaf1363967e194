"""Where each file of an artifact came from, found by its blob: from step to step, back to the tree that first had it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from store.digest import PREFIX, SIZE, BadDigest, Digest
from store.errors import Error
from store.graph import Step
from store.index import Holder, Index
from store.manifest import File, Manifest, follow

How: TypeAlias = Literal["imported", "built", "changed", "unknown"]


# The fewest digits of a digest that are taken for one.
SHORTEST = 4


@dataclass(frozen=True, slots=True)
class Link:
    """A step on the way back: its kind and label, and where the file lay in the tree that the step made."""

    kind: str
    label: str
    path: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file of an artifact came from.

    ``source`` is a label: of the package or source that brought these bytes ("imported"), of the step that made them out of
    other files ("built"), or of the package whose file was rewritten ("changed"). "unknown": the artifact was pulled, and this
    store does not know the trees that it was made of. ``chain`` are the steps, from the one that gave the artifact to the
    one that is the source.
    """

    path: bytes
    file: File
    how: How
    source: str
    chain: tuple[Link, ...]

    @property
    def input(self) -> str:
        """The label of the build's input that brought the file, such as a system or another recipe; "" if the build made it."""
        merged = next((n for n, link in enumerate(self.chain) if link.kind in ("merge", "adopt")), len(self.chain))
        return self.chain[merged + 1].label if merged + 1 < len(self.chain) else ""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that some artifact has: the artifact's digest, and where the bytes came from, as Origin says it.

    ``path`` may be a symlink's, which leads to the file.
    """

    artifact: Digest
    path: bytes
    blob: Digest
    size: int
    how: How
    source: str


class NotHeld(Error):
    """Nothing in an artifact is called ``what``."""

    def __init__(self, artifact: Digest, what: str) -> None:
        super().__init__(
            f"nothing in {artifact.short} is called {what!r}",
            hint="Give a file's name, its path in the artifact, or the digest of its bytes. `builder tree` lists them.",
        )
        self.what = what


def origins(index: Index, artifact: Digest) -> list[Origin]:
    """Where every file of ``artifact`` came from, in the order of its manifest. Raises MissingManifest."""
    return _Search(index).origins(artifact)


def sources(index: Index, artifacts: Iterable[Digest]) -> list[frozenset[str]]:
    """The labels of what the files of each artifact came from. Raises MissingManifest."""
    search = _Search(index)
    return [frozenset(search.labels(artifact)) for artifact in artifacts]


def searched(index: Index, what: str) -> list[Found]:
    """The files of all artifacts that ``what`` means: a name, a path, a library's name, or the digest of a file's bytes.

    Of a digest, ``b3:`` and the first four digits are enough.
    """
    digits = what.removeprefix(PREFIX)
    hexadecimal = bool(digits) and set(digits) <= set("0123456789abcdef")
    if hexadecimal and (len(digits) == 2 * SIZE or (digits != what and SHORTEST <= len(digits) < 2 * SIZE)):
        found = index.with_digits(digits)
    else:
        found = index.with_name(what.encode("utf-8", "surrogateescape").strip(b"/"))
    search = _Search(index)
    return [search.found(holder) for holder in found]


def holders(index: Index, artifact: Digest, what: str) -> list[Origin]:
    """The files in ``artifact`` that ``what`` means, each with its origin. Raises NotHeld.

    ``what`` is the name or the path of a file, or of a symlink that leads to it inside the artifact; or a library's name
    without its ending, as "libssl" of "libssl.so.3"; or the digest of the file's bytes.
    """
    search = _Search(index)
    manifest = search.manifest(artifact)
    meant = set(_meant(manifest, what))
    found = [search.origin(artifact, path, node) for path, node in manifest.files if path in meant]
    if not found:
        raise NotHeld(artifact, what)
    return found


def _meant(manifest: Manifest, what: str) -> Iterator[bytes]:
    try:
        digest = Digest.parse(what)
    except BadDigest:
        digest = None
    wanted = what.encode("utf-8", "surrogateescape").strip(b"/")
    for path, node in manifest.entries:
        name = path.rpartition(b"/")[2]
        if digest is not None:
            if type(node) is File and node.blob == digest:
                yield path
        elif wanted in (path, name) or name.startswith(wanted + b".so"):
            target = follow(manifest, path)
            if target is not None:
                yield target


class _Search:
    """Reads each tree once. Of packages and sources, the index answers; other trees are read from their manifests."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.graph = index.graph()
        self.manifests: dict[Digest, Manifest] = {}
        self.blobs: dict[Digest, Mapping[Digest, list[bytes]]] = {}
        self.indexed: dict[Digest, bool] = {}
        self.holding: dict[Digest, dict[Digest, list[bytes]]] = {}
        self.inputs: dict[Digest, tuple[dict[Digest, list[int]], list[int]]] = {}
        self.made: dict[Digest, list[Step]] = {}
        self.names: dict[Digest, dict[tuple[bytes, int], tuple[bytes, File]]] = {}
        self.later: dict[Digest, set[Digest]] = {}

    def manifest(self, tree: Digest) -> Manifest:
        if tree not in self.manifests:
            self.manifests[tree] = self.index.store.read_manifest(tree)
        return self.manifests[tree]

    def paths(self, tree: Digest, blob: Digest) -> list[bytes]:
        """Where ``tree`` has this blob."""
        if self.is_source(tree):
            return self.sources(blob).get(tree, [])
        if tree not in self.blobs:
            by_blob: dict[Digest, list[bytes]] = {}
            try:
                for path, node in self.manifest(tree).files:
                    by_blob.setdefault(node.blob, []).append(path)
            except Error:
                pass  # a tree that is gone can be asked nothing
            self.blobs[tree] = by_blob
        return self.blobs[tree].get(blob, [])

    def is_source(self, tree: Digest) -> bool:
        if tree not in self.indexed:
            self.indexed[tree] = self.index.is_source(tree)
        return self.indexed[tree]

    def sources(self, blob: Digest) -> dict[Digest, list[bytes]]:
        """The packages and sources that have this blob, and where."""
        if blob not in self.holding:
            self.holding[blob] = {}
            for holder in self.index.sources_with(blob):
                self.holding[blob].setdefault(holder.tree, []).append(holder.path)
        return self.holding[blob]

    def origins(self, artifact: Digest) -> list[Origin]:
        self.look_up(artifact)
        return [self.origin(artifact, path, node) for path, node in self.manifest(artifact).files]

    def labels(self, artifact: Digest) -> Iterator[str]:
        """The sources of its files. Of those that came from outside, no tree between has to be looked into."""
        self.look_up(artifact)
        behind = {tree for step in self.graph.built_from(artifact) for _, tree in step.inputs}
        for path, node in self.manifest(artifact).files:
            yield self.imported(path, node.blob, node.size, behind) or self.origin(artifact, path, node).source

    def look_up(self, artifact: Digest) -> None:
        """All at once what ``sources`` would ask of each file."""
        self.holding.update((node.blob, {}) for _, node in self.manifest(artifact).files)
        for holder in self.index.sources_of(artifact):
            self.holding[holder.blob].setdefault(holder.tree, []).append(holder.path)

    def imported(self, path: bytes, blob: Digest, size: int, behind: Container[Digest]) -> str | None:
        """The label of what brought a file from outside, of the trees ``behind`` its artifact. None: it did not come so."""
        name = path.rpartition(b"/")[2]
        labels = []
        for tree, paths in self.sources(blob).items():
            source = self.graph.source(tree) if tree in behind else None
            alike = any(one.rpartition(b"/")[2] == name for one in paths)
            # All empty files are alike: such a one says nothing.
            if source is not None and (alike or size):
                labels.append((not alike, source.label))
        return min(labels)[1] if labels else None

    def found(self, holder: Holder) -> Found:
        """Where what an artifact has came from."""
        # Many artifacts may have it, and few packages: so it is asked what came of these.
        behind = [tree for tree in self.sources(holder.blob) if holder.tree in self.came_of(tree)]
        label = self.imported(holder.path, holder.blob, holder.size, behind)
        if label is not None:
            return Found(holder.tree, holder.path, holder.blob, holder.size, "imported", label)
        manifest = self.manifest(holder.tree)
        real = follow(manifest, holder.path)
        node = None if real is None else manifest.get(real)
        assert real is not None and isinstance(node, File), holder
        origin = self.origin(holder.tree, real, node)
        return Found(holder.tree, holder.path, holder.blob, holder.size, origin.how, origin.source)

    def makers(self, tree: Digest) -> list[Step]:
        if tree not in self.made:
            self.made[tree] = self.graph.makers(tree)
        return self.made[tree]

    def came_of(self, tree: Digest) -> set[Digest]:
        if tree not in self.later:
            self.later[tree] = self.index.came_of(tree)
        return self.later[tree]

    def origin(self, artifact: Digest, path: bytes, file: File) -> Origin:
        whole = self.graph.whole_of(artifact)
        if whole is not None and path in self.paths(whole, file.blob):
            inner = self.origin(whole, path, file)
            step = self.graph.gave(artifact)[0]
            return replace(inner, chain=(Link(step.kind, step.label, path), *inner.chain))
        chain, leaf, same = self.walk(artifact, path, file)
        how: How = "built" if not leaf else "imported" if same else "changed"
        if len(chain) == 1 and not leaf:
            before = self.before(artifact, path, file)
            if before is not None:
                way, leaf, _ = self.walk(*before)
                chain = [*chain, *way]
                how = "changed" if leaf else "built"
            elif any(not self.index.store.manifest_path(tree).exists() for tree in self.parts(artifact)):
                how = "unknown"
        return Origin(path, file, how, chain[-1].label, tuple(chain))

    def parts(self, tree: Digest) -> list[Digest]:
        """What the steps read that gave ``tree``."""
        return [digest for step in self.makers(tree) for _, digest in step.inputs]

    def before(self, tree: Digest, path: bytes, file: File) -> tuple[Digest, bytes, File] | None:
        """The file that was at ``path`` before the step that gave ``tree`` rewrote it, or of its name and size elsewhere."""
        name = path.rpartition(b"/")[2]
        moved = None
        for step in self.makers(tree):
            for _, digest in step.inputs:
                try:
                    manifest = self.manifest(digest)
                except Error:
                    continue
                node = manifest.get(path)
                if type(node) is File:
                    return digest, path, node
                if file.size and moved is None:
                    found = self.by_name(manifest).get((name, file.size))
                    moved = (digest, *found) if found else None
        return moved

    def by_name(self, manifest: Manifest) -> dict[tuple[bytes, int], tuple[bytes, File]]:
        """The files of a tree by their last name and size, the first of each."""
        if manifest.digest not in self.names:
            names = self.names[manifest.digest] = {}
            for path, node in manifest.files:
                names.setdefault((path.rpartition(b"/")[2], node.size), (path, node))
        return self.names[manifest.digest]

    def walk(self, tree: Digest, path: bytes, file: File, label: str = "unknown") -> tuple[list[Link], bool, bool]:
        """The steps back from ``tree`` as long as some input has the blob, or had it with debug information in it.

        Also whether that ends in a tree from outside, and whether that has the blob.
        """
        chain: list[Link] = []
        seen = set()
        same = True
        while tree not in seen:
            seen.add(tree)
            makers = self.makers(tree)
            if not makers:
                source = self.graph.source(tree, label)
                link = Link(source.kind, source.label, path) if source else Link("source", label, path)
                return [*chain, link], True, same
            step, found = self.best(makers, path, file)
            chain.append(Link(step.kind, step.label, path))
            if found is None:
                before = self.before(tree, path, file) if step.kind == "strip" else None
                if before is None:
                    break
                tree, path, file = before
                same = False
                continue
            label, tree, path = found
        return chain, False, same

    def likely(self, step: Step, blob: Digest) -> list[tuple[str, Digest]]:
        """The inputs of a step that may have this blob, in their order: of hundreds of packages, few do."""
        if step.action not in self.inputs:
            places: dict[Digest, list[int]] = {}
            others = []
            for position, (_, tree) in enumerate(step.inputs):
                if self.is_source(tree):
                    places.setdefault(tree, []).append(position)
                else:
                    others.append(position)
            self.inputs[step.action] = places, others
        places, others = self.inputs[step.action]
        found = [position for tree in self.sources(blob) for position in places.get(tree, ())]
        return [step.inputs[position] for position in sorted([*found, *others])]

    def best(self, makers: list[Step], path: bytes, file: File) -> tuple[Step, tuple[str, Digest, bytes] | None]:
        """Of the steps that gave one tree, one with an input that has the blob: at the same name, if there is such an input."""
        name = path.rpartition(b"/")[2]
        other = None
        for step in makers:
            for label, digest in self.likely(step, file.blob):
                for candidate in self.paths(digest, file.blob):
                    if candidate.rpartition(b"/")[2] == name:
                        return step, (label, digest, candidate)
                    # All empty files are alike: such a one says nothing.
                    if other is None and file.size:
                        other = step, (label, digest, candidate)
        return other or (makers[0], None)
