"""What is already there: results for recipes, found without fetching, reading a tree or importing anything heavy.

A build that has nothing to do goes through this module alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder import lockfile, steps, tools
from builder.imports_key import import_action
from builder.lockfile import Lock
from builder.recipe import HOST, PLATFORMS, BadRecipe, Buildable, Local, Recipe, Source, System, closure
from builder.steps import Part
from launcher import bootstrap
from launcher.needs import Choice
from launcher.settings import Settings
from store import artifacts
from store.action import Action
from store.digest import Digest
from store.manifest import File, Manifest
from store.store import Store

# As typing has it, whose import would take a twentieth of a build that has nothing to do.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class MissingLock(BadRecipe):
    """A system whose lock file is not there, or was made for other packages; ``path`` is where it belongs."""

    def __init__(self, system: System, path: Path, reason: str) -> None:
        command = f"builder lock {os.path.relpath(system.position.file)}"
        super().__init__(f"{path}: {reason}", system.position, hint=f"`{command}` writes it.")
        self.path = path


@dataclass(frozen=True, slots=True)
class Built:
    """What there is of a recipe: its raw output and artifact; of a system, its root and no artifact.

    ``debug`` is the artifact with its debug information, where that was asked for.
    """

    item: Buildable
    tree: Digest
    artifact: Digest | None = None
    debug: Digest | None = None


def lock_path(system: System) -> Path:
    """Where the lock file of ``system`` belongs: beside its recipe."""
    return Path(system.position.file).parent / system.lock


def read_lock(system: System) -> Lock:
    """The lock of ``system``. Raises MissingLock and BadLock."""
    path = lock_path(system)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise MissingLock(system, path, "there is no such lock file") from None
    lock = lockfile.parse(text, str(path))
    if set(lock.names) != set(system.packages) or set(lock.excluded) != set(system.exclude) or lock.suite != system.suite:
        raise MissingLock(system, path, "the lock file was made for other packages than the recipe names")
    if lock.architecture != PLATFORMS[system.platform]:
        raise MissingLock(system, path, f"the lock file is for {lock.architecture}, and the recipe for {system.platform}")
    return lock


class Elsewhere(Protocol):
    """Who may know what this store does not."""

    def result(self, action: Action) -> Digest | None:
        """What came of an action, which this store then knows too, or None."""

    def bring(self, tree: Digest) -> bool:
        """Bring the bytes of a known tree here. False: that cannot be."""


class Known:
    """Looks results up: here, and then ``elsewhere``.

    A result says what the outcome was, not that its bytes are here: a collection may have taken them. Whoever needs the
    bytes asks ``held``.
    """

    def __init__(self, store: Store, elsewhere: Elsewhere | None = None) -> None:
        self.store = store
        self.elsewhere = elsewhere
        # Only what is known is kept: the rest may come to be.
        self._trees: dict[str, Digest] = {}
        self._roots: dict[str, Digest] = {}

    def tree_of(self, action: Action) -> Digest | None:
        """The output of an action that was done before, or None."""
        result = self.store.read_result(action.digest)
        if result is None:
            return None if self.elsewhere is None else self.elsewhere.result(action)
        return result.output

    def held(self, action: Action) -> Digest | None:
        """The same, if the store has all of its bytes."""
        digest = self.tree_of(action)
        return digest if digest is not None and self.has(digest) else None

    def has(self, tree: Digest) -> bool:
        """Whether the bytes of a known tree are here, now that whoever has them was asked."""
        return self.store.holds(self.store.read_manifest(tree)) or (self.elsewhere is not None and self.elsewhere.bring(tree))

    def source(self, source: Source | Local) -> Digest | None:
        """The tree of a source. One that lies beside the recipe is always known."""
        if isinstance(source, Local):
            return local_tree(source)[0].digest
        return self.tree_of(import_action(source))

    def bare_root(self) -> Digest | None:
        """The root that checks run on."""
        root = self.tree(tools.SYSTEM)
        return None if root is None else self.tree_of(tools.bare_action(root))

    def parts(self, recipe: Recipe) -> list[Part] | None:
        """What the input root of ``recipe`` is merged from, or None while something of it is yet to be made."""
        trees: list[Part] = [Part("skeleton", steps.skeleton()[0].digest)]
        for item in inputs(recipe):
            tree = self.tree(item)
            if tree is None:
                return None
            trees.append(Part(steps.heading(item), tree, steps.place(recipe, item)))
        for source in recipe.sources:
            digest = self.source(source)
            if digest is None:
                return None
            trees.append(Part(source.name, digest, steps.source_place(source)))
        return trees

    def tree(self, item: Buildable) -> Digest | None:
        """What others are built from: a system's root, or a recipe's raw output, without what is split off from it."""
        if item.name not in self._trees:
            digest = (
                self._output(item) if isinstance(item, Recipe) else self.tree_of(steps.system_action(item, read_lock(item)))
            )
            if digest is None:
                return None
            self._trees[item.name] = digest
        return self._trees[item.name]

    def _output(self, recipe: Recipe) -> Digest | None:
        if recipe.debug:
            split = self.split_actions(recipe)
            return None if split is None else self.tree_of(split[0])
        action = self.build_action(recipe)
        return None if action is None else self.tree_of(action)

    def split_actions(self, recipe: Recipe) -> tuple[Action, Action] | None:
        """How the debug information of ``recipe`` is split off, or None while it is not built, or what splits is not there."""
        action = self.build_action(recipe)
        output = None if action is None else self.tree_of(action)
        tool = None if output is None else self.tree_of(steps.system_action(tools.DEBUG, read_lock(tools.DEBUG)))
        return None if output is None or tool is None else steps.split_actions(recipe, output, tool)

    def debug(self, recipe: Recipe) -> Digest | None:
        """The artifact with the debug information of ``recipe``."""
        split = self.split_actions(recipe) if recipe.debug else None
        return None if split is None else self.tree_of(split[1])

    def root(self, recipe: Recipe) -> Digest | None:
        """The input root of ``recipe``."""
        if recipe.name not in self._roots:
            parts = self.parts(recipe)
            digest = None if parts is None else self.tree_of(steps.merge_action(parts, wins(recipe)))
            if digest is None:
                return None
            self._roots[recipe.name] = digest
        return self._roots[recipe.name]

    def build_action(self, recipe: Recipe) -> Action | None:
        """How ``recipe`` is built, or None while its input root is yet to be made."""
        root = self.root(recipe)
        return None if root is None else steps.build_action(recipe, root)

    def artifact(self, recipe: Recipe) -> Digest | None:
        """The artifact of ``recipe``, whether its check was passed or not."""
        root, output = self.root(recipe), self.tree(recipe)
        if root is None or output is None:
            return None
        return self.tree_of(
            steps.pack_action(output, root, pack_settings(recipe), bootstrap.load(steps.machine(recipe)).digest)
        )

    def built(self, item: Buildable, *, debug: bool = False) -> Built | None:
        """All that there is of ``item``, or None if any step is yet to be done.

        With ``debug``, what was split off is one of the steps.
        """
        tree = self.tree(item)
        if tree is None or isinstance(item, System):
            return None if tree is None else Built(item, tree)
        artifact = self.artifact(item)
        if artifact is None:
            return None
        if item.check and can_check(item):
            bare = self.bare_root()
            if bare is None or self.tree_of(steps.check_action(item, artifact, bare)) is None:
                return None
        apart = self.debug(item) if debug else None
        return Built(item, tree, artifact, apart) if apart is not None or not debug else None


def can_check(recipe: Recipe) -> bool:
    """Whether the programs of ``recipe`` run on this machine."""
    return recipe.platform == HOST


def artifact_path(store: Store, built: Built) -> Path:
    """Where the artifact of ``built`` is checked out, or will be."""
    assert built.artifact is not None
    return artifacts.path_of(store, built.artifact, name=built.item.name, version=built.item.version)


def debug_path(store: Store, built: Built) -> Path:
    """Where its debug information is checked out, or will be."""
    assert built.debug is not None
    return artifacts.path_of(store, built.debug, name=steps.debug_name(built.item), version=built.item.version)


def is_checked_out(store: Store, built: Built) -> bool:
    """Whether each artifact of ``built`` is there to be used."""
    places = [artifact_path(store, built)] if built.artifact is not None else []
    places += [debug_path(store, built)] if built.debug is not None else []
    return all(map(artifacts.is_there, places))


def inputs(recipe: Recipe) -> Iterable[Buildable]:
    """What is laid into the input root: the recipe's own systems, and the recipes it is built from, transitively."""
    for item in closure(recipe.inputs):
        if isinstance(item, Recipe) or item in recipe.inputs:
            yield item


def wins(recipe: Recipe) -> dict[str, str]:
    """The recipe's ``wins`` by the labels that inputs have in a merge. Raises BadRecipe for a name that no input has."""
    labels = {item.name: steps.heading(item) for item in inputs(recipe)}
    labels |= {source.name: source.name for source in recipe.sources}
    for path, name in recipe.wins.items():
        if name not in labels:
            known = f"The inputs: {', '.join(labels)}."
            raise BadRecipe(f"wins of {recipe.name}: {name} is to win at {path}, and is no input", recipe.position, hint=known)
    return {path.lstrip("/"): labels[name] for path, name in recipe.wins.items()}


def local_tree(source: Local) -> tuple[Manifest, bytes]:
    """The one-file tree of a file that lies beside its recipe, and the file's bytes. Raises BadRecipe."""
    path = Path(source.position.file).parent / source.path
    try:
        data = path.read_bytes()
        executable = os.access(path, os.X_OK)
    except OSError as error:
        raise BadRecipe(f"cannot read {path}: {os.strerror(error.errno or 0)}", source.position) from None
    name = os.fsencode(path.name)
    return Manifest([(name, File(Digest.of(data), len(data), executable))]), data


def pack_settings(recipe: Recipe) -> Settings:
    """What packing has to know of a recipe."""
    return Settings(
        environment=tuple((program, tuple(variables.items())) for program, variables in recipe.environment.items()),
        dlopen=recipe.dlopen,
        missing=recipe.missing,
        keep=recipe.keep,
        host_interpreters=recipe.host_interpreters,
        data=recipe.data,
        host_libraries=recipe.host_libraries,
        needs=Choice(recipe.development, recipe.runtime),
    )
