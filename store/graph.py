"""The graph of what came from what: results, walked from a tree back to what it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from store.action import Action
from store.codec import BadRecord
from store.digest import Digest
from store.result import Result
from store.store import Store


@dataclass(frozen=True, slots=True)
class Step:
    """A result, with its action read."""

    result: Result
    action: Action


def result_files(store: Store) -> Iterator[os.DirEntry[str]]:
    """Every file in ``results/``, in no order."""
    with os.scandir(store.root / "results") as fans:
        for fan in fans:
            if fan.is_dir(follow_symlinks=False):
                with os.scandir(fan.path) as entries:
                    yield from entries


def read_step(path: str) -> Step:
    """The result in the file ``path``. Raises BadRecord, also when it is not the one that its name says."""
    with open(path, "rb") as file:
        result = Result.decode(file.read())
    if result.action.hex != os.path.basename(path):
        raise BadRecord("result", "it is the result of another action than its name says")
    return Step(result, Action.decode(result.record))


def steps(store: Store) -> Iterator[Step]:
    """Every result of the store that can be read."""
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
            self._by_output.setdefault(step.result.output, []).append(step)

    def makers(self, tree: Digest) -> list[Step]:
        """The steps that gave ``tree``, the newest first."""
        return sorted(self._by_output.get(tree, []), key=lambda step: step.result.started, reverse=True)

    def behind(self, trees: Iterable[Digest]) -> tuple[set[Digest], list[Step]]:
        """``trees`` and all trees that they were made of, and the steps on the way."""
        seen: set[Digest] = set()
        way: list[Step] = []
        waiting = list(trees)
        while waiting:
            tree = waiting.pop()
            if tree in seen:
                continue
            seen.add(tree)
            for step in self._by_output.get(tree, []):
                way.append(step)
                waiting.extend(digest for _, digest in step.action.inputs)
        return seen, way
