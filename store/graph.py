"""The graph of what came from what: steps, walked from a tree back to what it was made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from store.action import Action
from store.codec import BadRecord
from store.digest import Digest
from store.result import Result
from store.store import Store

# The kind of the steps that make nothing, and only leave out what running does not need.
LEAVES_OUT = "runtime"


@dataclass(frozen=True, slots=True)
class Step:
    """What the graph has to know of a result and its action: see Result and Action for the fields."""

    action: Digest
    kind: str
    label: str
    output: Digest
    started: int
    inputs: tuple[tuple[str, Digest], ...]

    @property
    def made_something(self) -> bool:
        """False for a step that gives one of its inputs back, as a check does, which says that it was found good."""
        return all(digest != self.output for _, digest in self.inputs)


def result_files(store: Store) -> Iterator[os.DirEntry[str]]:
    """Every file in ``results/``, in no order."""
    with os.scandir(store.root / "results") as fans:
        for fan in fans:
            if fan.is_dir(follow_symlinks=False):
                with os.scandir(fan.path) as entries:
                    yield from entries


def read_step(path: str) -> Step:
    """The step whose result is the file ``path``. Raises BadRecord, also when its name is another action's."""
    with open(path, "rb") as file:
        result = Result.unseal(file.read())
    if result.action.hex != os.path.basename(path):
        raise BadRecord("result", "it is the result of another action than its name says")
    return step_of(result)


def step_of(result: Result) -> Step:
    """The step of a result. Raises BadRecord when its action cannot be read."""
    action = Action.decode(result.record)
    return Step(result.action, action.kind, result.label, result.output, result.started, action.inputs)


def steps(store: Store) -> Iterator[Step]:
    """Every step of the store whose result can be read."""
    for entry in result_files(store):
        try:
            yield read_step(entry.path)
        except (BadRecord, FileNotFoundError):
            continue


class Graph:
    """Steps by what they gave."""

    def __init__(self, known: Iterable[Step]) -> None:
        self._by_output: dict[Digest, list[Step]] = {}
        for step in known:
            self._by_output.setdefault(step.output, []).append(step)
        for made in self._by_output.values():
            made.sort(key=newest_first)

    def gave(self, tree: Digest) -> list[Step]:
        """The steps that gave ``tree``, the newest first."""
        return self._by_output.get(tree, [])

    def makers(self, tree: Digest) -> list[Step]:
        """The steps that made ``tree`` out of something, the newest first. None: it came from outside."""
        return [step for step in self.gave(tree) if step.inputs and step.made_something]

    def source(self, tree: Digest, label: str = "") -> Step | None:
        """The newest step that brought ``tree`` in from outside: under this label, if any did. Two packages may be alike."""
        found = [step for step in self.gave(tree) if not step.inputs]
        return next((step for step in found if step.label == label), found[0] if found else None)

    def whole_of(self, tree: Digest) -> Digest | None:
        """The artifact of which ``tree`` is what running needs; None: it came to be in another way too, or is none."""
        gave = self.gave(tree)
        return gave[0].inputs[0][1] if gave and all(step.kind == LEAVES_OUT for step in gave) else None

    def behind(
        self, trees: Iterable[Digest], *, through: Callable[[Step], bool] = lambda _: True
    ) -> tuple[set[Digest], list[Step]]:
        """``trees`` and all trees that they were made of or checked with, and the steps on the way that ``through`` takes."""
        seen: set[Digest] = set()
        way: list[Step] = []
        waiting = list(trees)
        while waiting:
            tree = waiting.pop()
            if tree in seen:
                continue
            seen.add(tree)
            for step in filter(through, self.gave(tree)):
                way.append(step)
                waiting.extend(digest for _, digest in step.inputs)
        return seen, way

    def built_from(self, tree: Digest) -> list[Step]:
        """The newest step that made ``tree``, those that made its inputs, and so on, each before what it was made of.

        The leaves' own steps are among them, those that brought a tree in from outside. Checks are not: they made nothing.
        """
        way: dict[Digest, Step] = {}
        waiting = [tree]
        while waiting:
            known = waiting.pop()
            if known in way:
                continue
            makers = self.makers(known)
            step = makers[0] if makers else self.source(known)
            if step is not None:
                way[known] = step
                waiting.extend(digest for _, digest in reversed(step.inputs))
        return list(way.values())


def newest_first(step: Step) -> tuple[int, bytes]:
    """The order of the steps that gave one tree."""
    return -step.started, step.action.raw
