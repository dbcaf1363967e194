"""Makes what is not there yet: fetches, imports, merges, builds, packs and checks, as far in parallel as the graph allows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from builder import steps, tools
from builder.archives import usr_merged
from builder.execute import Executor
from builder.fetch import Fetcher
from builder.imports import Import, import_archives
from builder.known import Built, Elsewhere, Known, can_check, inputs, is_checked_out, local_tree, pack_settings, read_lock, wins
from builder.progress import Progress
from builder.recipe import HOST, BadRecipe, Buildable, Local, Recipe, Source, System, closure
from builder.record import record
from builder.steps import heading
from launcher import bootstrap, debug, pack
from launcher.bootstrap import Bootstrap
from launcher.settings import Settings
from store import artifacts
from store.action import Action
from store.digest import Digest
from store.errors import Error
from store.manifest import Manifest, merge
from store.store import Store


class NotBuilt(Error):
    """A recipe that is to be compared with what was built of it before, of which there is nothing."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(
            f"{recipe.name} was not built yet as its recipe now says: there is nothing to compare with",
            hint=f"`builder build {os.path.relpath(recipe.position.file)}` builds it.",
        )
        self.recipe = recipe


@dataclass(frozen=True, slots=True)
class Options:
    """How to build: how many recipes at once, how many jobs a script may run, which to build again, what to keep.

    ``debug`` are those whose debug information is wanted too.
    """

    parallel: int
    jobs: int
    rebuild: frozenset[str] = frozenset()
    keep_failed: bool = False
    debug: frozenset[str] = frozenset()


class Realiser:
    """One run of the builder."""

    def __init__(
        self, store: Store, fetcher: Fetcher, progress: Progress, options: Options, elsewhere: Elsewhere | None = None
    ) -> None:
        self.store = store
        self.progress = progress
        self.options = options
        self.fetcher = fetcher
        self.cancel = threading.Event()
        self.elsewhere = elsewhere
        self.known = Known(store, elsewhere)

    def run(self, targets: Sequence[Buildable]) -> list[Built]:
        """Make every target, and give what came of each, in their order. The first failure stops all."""
        wanted = self._wanted(targets)
        if wanted:
            self._import_for(wanted)
            bwrap = self._bubblewrap()
            executor = Executor(self.store, bwrap, self.options.jobs, self.cancel)
            self._in_order(wanted, lambda item: self._realise(item, executor))
        known = Known(self.store, self.elsewhere)
        results = []
        for item in targets:
            built = known.built(item, debug=item.name in self.options.debug)
            assert built is not None, item
            if built.artifact is not None:
                self._check_out(built.artifact, item.name, item.version)
            if built.debug is not None:
                self._check_out(built.debug, steps.debug_name(item), item.version)
            results.append(built)
        return results

    def prepare(self, recipe: Recipe) -> tuple[Executor, Action, Manifest]:
        """Everything that building ``recipe`` needs, without building it: who runs it, its action and its input root."""
        needed = self._wanted(list(inputs(recipe)), inner=True)
        self._import_for([recipe, *needed])
        executor = Executor(self.store, self._bubblewrap(), self.options.jobs, self.cancel)
        self._in_order(needed, lambda item: self._realise(item, executor))
        root = self._merge(recipe)
        return executor, steps.build_action(recipe, root), self.store.read_manifest(root)

    def again(self, recipe: Recipe) -> tuple[Digest, Digest]:
        """Build ``recipe`` again, whatever there is of it. Gives the stored output and the new one, which replaces nothing.

        Raises NotBuilt when there is nothing to compare with.
        """
        executor, action, root = self.prepare(recipe)
        before = self.known.tree_of(action)
        if before is None:
            raise NotBuilt(recipe)
        label = heading(recipe)
        with self.progress.task("build", label) as task:
            hint = self._way_in(recipe)
            now = executor.build(action, label, root, limits=recipe.limits, say=task.say, hint=hint, again=True)
        return before, now

    def _wanted(self, targets: Sequence[Buildable], *, inner: bool = False) -> list[Buildable]:
        """What has to be made, inputs first: targets that are not there, and whatever of their inputs is not held.

        With ``inner``, the targets are themselves only wanted for what is built from them.
        """
        names: set[str] = set()

        def want(item: Buildable, *, target: bool) -> None:
            if item.name in names or (item.name not in self.options.rebuild and self._is_there(item, target=target)):
                return
            names.add(item.name)
            for needed in inputs(item) if isinstance(item, Recipe) else ():
                want(needed, target=False)

        for item in targets:
            want(item, target=not inner)
        return [item for item in closure(tuple(targets)) if item.name in names]

    def _is_there(self, item: Buildable, *, target: bool) -> bool:
        """Whether nothing is to be done: a target's artifact has to be there, and of an input what builds read."""
        built = self.known.built(item, debug=target and item.name in self.options.debug)
        if built is None:
            return False
        if not target or built.artifact is None:
            return self.known.has(built.tree)
        if is_checked_out(self.store, built):
            return True
        return all(self.known.has(tree) for tree in (built.artifact, built.debug) if tree is not None)

    def explain(self, targets: Sequence[Buildable]) -> list[tuple[Buildable, str, int]]:
        """What ``run`` would do to each recipe, and how many bytes it would fetch for it, as far as is known before."""
        wanted = self._wanted(targets)
        rows: list[tuple[Buildable, str, int]] = []
        for item in closure(tuple(targets)):
            if item not in wanted:
                if self.known.built(item) is not None:
                    rows.append((item, "up to date", 0))
                continue
            state = "make the root" if isinstance(item, System) else "build"
            if isinstance(item, Recipe) and any(inner in wanted for inner in inputs(item)):
                state = "build, unless its inputs turn out to be the same"
            missing = [need for need in self._archives([item]) if not self._is_downloaded(need)]
            rows.append((item, state, sum(need.size or 0 for need in missing)))
        return rows

    def _is_downloaded(self, need: Import) -> bool:
        return self.known.held(need.action) is not None or (self.store.root / "downloads" / need.sha256).exists()

    def _in_order(self, items: Sequence[Buildable], work: Callable[[Buildable], None]) -> None:
        """Call ``work`` for every item, after what it is built from, ``parallel`` at a time."""
        waiting = {item.name: {inner.name for inner in closure((item,))} - {item.name} for item in items}
        by_name = {item.name: item for item in items}
        running: dict[Future[None], str] = {}
        with ThreadPoolExecutor(self.options.parallel) as pool:
            try:
                while waiting or running:
                    unfinished = waiting.keys() | set(running.values())
                    for name in [name for name, needs in waiting.items() if not needs & unfinished]:
                        del waiting[name]
                        running[pool.submit(work, by_name[name])] = name
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        del running[future]
                        future.result()
            except BaseException:
                # Ctrl-C, or a failure: the others are told, and the pool waits until they have stopped.
                self.cancel.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    # -- archives --

    def _archives(self, items: Sequence[Buildable]) -> list[Import]:
        """Every archive that making ``items`` reads."""
        archives: dict[str, Import] = {}
        for item in items:
            if isinstance(item, Recipe):
                archives |= {s.sha256: Import.of_source(s) for s in item.sources if isinstance(s, Source)}
            elif self.known.held(steps.system_action(item, read_lock(item))) is None:
                archives |= {p.sha256: Import.of_package(p) for p in read_lock(item).packages}
        return list(archives.values())

    def _import(self, items: Sequence[Buildable]) -> None:
        """Bring every archive that making ``items`` reads into the store."""
        import_archives(self.store, self.fetcher, self._archives(items), self.progress)

    def _import_for(self, items: Sequence[Buildable]) -> None:
        """The same, with what the builder itself runs for it."""
        splits = any(isinstance(item, Recipe) and item.debug for item in items)
        self._import([tools.SYSTEM, *([tools.DEBUG] if splits else []), *items])

    def _make_system(self, system: System) -> Built:
        """A system root from the trees of its packages."""
        lock = read_lock(system)
        started = time.time()
        with self.progress.task("merge", heading(system)):
            parts: list[tuple[str, Digest]] = []
            trees: list[tuple[str, Manifest]] = []
            for package in lock.packages:
                digest = self._need(Import.of_package(package).action)
                label = f"{package.name} {package.version}"
                parts.append((label, digest))
                trees.append((label, usr_merged(self.store.read_manifest(digest))))
            trees.append((heading(system), steps.system_links(system)))
            labels = dict(zip((package.name for package in lock.packages), (label for label, _ in parts), strict=True))
            winners = {path.encode(): labels.get(name, name) for path, name in system.wins.items()}
            root = merge(trees, wins=winners)
            with self.store.batch() as batch:
                batch.add_manifest(root)
                for action in (steps.root_action(system, parts), steps.system_action(system, lock)):
                    batch.add_result(record(action, heading(system), root.digest, started))
        return Built(system, root.digest)

    def _need(self, action: Action) -> Digest:
        digest = self.known.tree_of(action)
        assert digest is not None, action
        return digest

    # -- the builder's own tools --

    def _system(self, system: System) -> Digest:
        """The root of a system, made of its archives if it is not held."""
        root = self.known.held(steps.system_action(system, read_lock(system)))
        return root or self._make_system(system).tree

    def _bubblewrap(self) -> Path:
        """Where bubblewrap is, packed like any other program."""
        root = self._system(tools.SYSTEM)
        tree = self.store.read_manifest(root)
        bare, select = tools.bare_action(root), tools.select_action(root)
        if self.known.held(bare) is None:
            with self.store.batch() as batch:
                for data in steps.skeleton()[1].values():
                    batch.add_bytes(data)
                batch.add_result(record(bare, "bare root", batch.add_manifest(tools.bare_root(tree)), time.time()))
        if self.known.held(select) is None:
            with self.store.batch() as batch:
                batch.add_result(record(select, "bubblewrap", batch.add_manifest(tools.bwrap_output(tree)), time.time()))
        artifact = self._pack("bubblewrap", self._need(select), root, Settings(), code=bootstrap.load())
        return self._check_out(artifact, "bubblewrap", tools.SYSTEM.version) / "bin" / "bwrap"

    # -- recipes --

    def _realise(self, item: Buildable, executor: Executor) -> None:
        if isinstance(item, System):
            self._make_system(item)
        else:
            self._make_recipe(item, executor)

    def _make_recipe(self, recipe: Recipe, executor: Executor) -> None:
        label = heading(recipe)
        if steps.runs_on(recipe) != HOST:
            raise BadRecipe(
                f"{recipe.name} has to be built on {steps.runs_on(recipe)}",
                recipe.position,
                hint=f"Give it a System for {HOST} as well, whose programs its script runs.",
            )
        root = self._merge(recipe)
        output = self._output(recipe, root, executor)
        code = bootstrap.load(steps.machine(recipe))
        artifact = self._pack(
            label, output, root, pack_settings(recipe), code=code, view=lambda tree: steps.target_root(recipe, tree)
        )
        if recipe.check and can_check(recipe):
            self._check(recipe, artifact, executor)
        elif recipe.check:
            self.progress.warn(f"{label} is not checked: it is for {recipe.platform}")

    def _merge(self, recipe: Recipe) -> Digest:
        # Not what this run knew before: an input that was built again may have given something else.
        parts = Known(self.store, self.elsewhere).parts(recipe)
        assert parts is not None, recipe
        action = steps.merge_action(parts, wins(recipe))
        digest = self.known.held(action)
        if digest is not None:
            return digest
        started = time.time()
        skeleton, blobs = steps.skeleton()
        with self.progress.task("merge", heading(recipe)), self.store.batch() as batch:
            for data in blobs.values():
                batch.add_bytes(data)
            batch.add_manifest(skeleton)
            for source in recipe.sources:
                if isinstance(source, Local):
                    tree, data = local_tree(source)
                    (node,) = (node for _, node in tree.files)
                    batch.add_bytes(data, executable=node.executable)
                    batch.add_manifest(tree)
            batch.commit()
            trees = []
            for part in parts:
                tree = self.store.read_manifest(part.digest)
                trees.append((part.label, tree.under(part.at.encode()) if part.at else tree))
            winners = {path.encode(): label for path, label in wins(recipe).items()}
            root = batch.add_manifest(merge(trees, wins=winners))
            batch.add_result(record(action, heading(recipe), root, started))
        return root

    def _output(self, recipe: Recipe, root: Digest, executor: Executor) -> Digest:
        """What is packed, and what others are built from."""
        action = steps.build_action(recipe, root)
        if not recipe.debug:
            return self._build(recipe, action, root, executor)
        tool = self._system(tools.DEBUG)
        before = self.known.tree_of(action)
        if before is not None and recipe.name not in self.options.rebuild:
            stripped = self._split_before(recipe, steps.split_actions(recipe, before, tool))
            if stripped is not None:
                return stripped
        output = self._build(recipe, action, root, executor)
        actions = steps.split_actions(recipe, output, tool)
        return self._split_before(recipe, actions) or self._split(recipe, actions, output, tool, executor)

    def _split_before(self, recipe: Recipe, actions: tuple[Action, Action]) -> Digest | None:
        """The output without its debug information, if that was split off before, and all that is wanted of it is here."""
        wanted = actions if recipe.name in self.options.debug else actions[:1]
        trees = [self.known.held(action) for action in wanted]
        return trees[0] if None not in trees else None

    def _split(
        self, recipe: Recipe, actions: tuple[Action, Action], output: Digest, tool: Digest, executor: Executor
    ) -> Digest:
        label = heading(recipe)
        tree = self.store.read_manifest(output)
        files = debug.described(tree, keep=recipe.keep, read=self.store.read_blob)
        if not files:
            raise debug.NoDebugInformation(label)
        with self.progress.task("split", label) as task:
            return executor.split(
                actions, label, self.store.read_manifest(tool), tree, files, limits=recipe.limits, say=task.say
            )

    def _build(self, recipe: Recipe, action: Action, root: Digest, executor: Executor) -> Digest:
        label = heading(recipe)
        again = recipe.name in self.options.rebuild
        before = self.known.tree_of(action)
        output = None if again else self.known.held(action)
        if output is not None:
            return output
        lock = f"action-{action.digest.short}"
        with (
            self.progress.task("build", label) as task,
            self.store.lock(lock, waiting=lambda: task.say("another builder is at it")),
        ):
            # It may have been built while this one waited.
            output = None if again else self.known.held(action)
            if output is None:
                output = executor.build(
                    action,
                    label,
                    self.store.read_manifest(root),
                    limits=recipe.limits,
                    say=task.say,
                    keep_as=f"kept-{recipe.name}" if self.options.keep_failed else "",
                    hint=self._way_in(recipe),
                )
        if before is not None and before != output:
            self.progress.warn(f"{label} is not reproducible: it gave {before.short} before, and {output.short} now")
        return output

    def _way_in(self, recipe: Recipe) -> str:
        file = os.path.relpath(recipe.position.file)
        if self.options.keep_failed:
            return f"`builder shell --failed {file}` enters its sandbox, as the failure left it."
        return f"`builder log {file}` shows all of its output; build with --keep-failed to enter its sandbox."

    def _pack(
        self,
        label: str,
        output: Digest,
        root: Digest,
        settings: Settings,
        *,
        code: Bootstrap,
        view: Callable[[Manifest], Manifest] = lambda tree: tree,
    ) -> Digest:
        action = steps.pack_action(output, root, settings, code.digest)
        known = self.known.held(action)
        if known is not None:
            return known
        started = time.time()
        with self.progress.task("pack", label), self.store.batch() as batch:
            artifact = pack.pack(
                self.store.read_manifest(output),
                view(self.store.read_manifest(root)),
                settings,
                bootstrap=code,
                read=self.store.read_blob,
                add=lambda data, executable: batch.add_bytes(data, executable=executable),
            )
            digest = batch.add_manifest(artifact)
            batch.add_result(record(action, label, digest, started))
        return digest

    def _check(self, recipe: Recipe, artifact: Digest, executor: Executor) -> None:
        root = self.known.bare_root()
        assert root is not None
        action = steps.check_action(recipe, artifact, root)
        if self.known.tree_of(action) is not None and recipe.name not in self.options.rebuild:
            return
        label = heading(recipe)
        with self.progress.task("check", label) as task:
            place = self._check_out(artifact, recipe.name, recipe.version)
            hint = f"The artifact is {place}."
            bare = self.store.read_manifest(root)
            executor.check(action, label, bare, (artifact, place), limits=recipe.limits, say=task.say, hint=hint)

    def _check_out(self, artifact: Digest, name: str, version: str) -> Path:
        return artifacts.check_out(self.store, self.store.read_manifest(artifact), name=name, version=version)
