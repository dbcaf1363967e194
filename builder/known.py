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
from builder.recipe import BadRecipe, Buildable, Local, Recipe, Source, System, closure
from builder.steps import Part
from launcher import bootstrap
from launcher.settings import Settings
from store import artifacts
from store.action import Action
from store.digest import Digest
from store.manifest import File, Manifest
from store.store import Store


class MissingLock(BadRecipe):
    """A system whose lock file is not there, or was made for other packages; ``path`` is where it belongs."""

    def __init__(self, system: System, path: Path, reason: str) -> None:
        command = f"builder lock {os.path.relpath(system.position.file)}"
        super().__init__(f"{path}: {reason}", system.position, hint=f"`{command}` writes it.")
        self.path = path


@dataclass(frozen=True, slots=True)
class Built:
    """What there is of a recipe: its raw output and artifact; of a system, its root and no artifact."""

    item: Buildable
    tree: Digest
    build: Action | None = None
    artifact: Digest | None = None


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
    return lock


class Known:
    """Looks results up.

    A result says what the outcome was, not that its bytes are here: a collection may have taken them. Whoever needs the
    bytes asks ``held``.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._built: dict[str, Built] = {}

    def tree_of(self, action: Action) -> Digest | None:
        """The output of an action that was done before, or None."""
        result = self.store.read_result(action.digest)
        return None if result is None else result.output

    def held(self, action: Action) -> Digest | None:
        """The same, if the store has all of its bytes."""
        digest = self.tree_of(action)
        return digest if digest is not None and self.store.holds(self.store.read_manifest(digest)) else None

    def system(self, system: System) -> Digest | None:
        """The root of a system."""
        return self.tree_of(steps.system_action(system, read_lock(system)))

    def source(self, source: Source | Local) -> Digest | None:
        """The tree of a source. One that lies beside the recipe is always known."""
        if isinstance(source, Local):
            return local_tree(source)[0].digest
        return self.tree_of(import_action(source))

    def bare_root(self) -> Digest | None:
        """The root that checks run on."""
        root = self.system(tools.SYSTEM)
        return None if root is None else self.tree_of(tools.bare_action(root))

    def parts(self, recipe: Recipe) -> list[Part] | None:
        """What the input root of ``recipe`` is merged from, or None while something of it is yet to be made."""
        trees: list[Part] = [Part("skeleton", steps.skeleton()[0].digest)]
        for item in inputs(recipe):
            built = self.built(item)
            if built is None:
                return None
            trees.append(Part(steps.heading(item), built.tree, "" if isinstance(item, System) else steps.PREFIX[1:]))
        for source in recipe.sources:
            digest = self.source(source)
            if digest is None:
                return None
            name = source.name if isinstance(source, Source) else source.path
            trees.append(Part(name, digest, f"{steps.BUILD[1:]}/{source.into}"))
        return trees

    def built(self, item: Buildable) -> Built | None:
        """All that there is of ``item``, or None if any step is yet to be done."""
        built = self._built.get(item.name)
        if built is None:
            built = self._system(item) if isinstance(item, System) else self._recipe(item)
            if built is not None:
                self._built[item.name] = built
        return built

    def _system(self, system: System) -> Built | None:
        tree = self.system(system)
        return None if tree is None else Built(system, tree)

    def packed(self, recipe: Recipe) -> Built | None:
        """The same for a recipe, whether its check was passed or not."""
        parts = self.parts(recipe)
        root = parts and self.tree_of(steps.merge_action(parts, recipe.wins))
        if not root:
            return None
        build = steps.build_action(recipe, root)
        output = self.tree_of(build)
        artifact = output and self.tree_of(steps.pack_action(output, root, pack_settings(recipe), bootstrap.load().digest))
        return Built(recipe, output, build, artifact) if output and artifact else None

    def _recipe(self, recipe: Recipe) -> Built | None:
        built = self.packed(recipe)
        if built is None or not recipe.check:
            return built
        bare = self.bare_root()
        assert built.artifact is not None
        passed = bare is not None and self.tree_of(steps.check_action(recipe, built.artifact, bare)) is not None
        return built if passed else None


def artifact_path(store: Store, built: Built) -> Path:
    """Where the artifact of ``built`` is checked out, or will be."""
    assert built.artifact is not None
    return artifacts.path_of(store, built.artifact, name=built.item.name, version=built.item.version)


def inputs(recipe: Recipe) -> Iterable[Buildable]:
    """What is laid into the input root: the recipe's own systems, and the recipes it is built from, transitively."""
    for item in closure(recipe.inputs):
        if isinstance(item, Recipe) or item in recipe.inputs:
            yield item


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
        host_interpreters=recipe.host_interpreters,
    )
