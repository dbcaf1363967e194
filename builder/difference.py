"""What is different between two trees, path by path. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from store.manifest import Directory, File, Manifest, Node, Symlink, order, show


@dataclass(frozen=True, slots=True)
class Difference:
    """A path at which two trees differ, in which way, and what each has there: None for nothing.

    ``what`` is "added", "missing", "kind", "content", "mode" or "target", seen from the first tree.
    """

    path: bytes
    what: str
    first: Node | None
    second: Node | None


def differences(first: Manifest, second: Manifest) -> Iterator[Difference]:
    """Every difference, in the order of paths."""
    for path in sorted({*first, *second}, key=order):
        one, two = first.get(path), second.get(path)
        if one != two:
            yield Difference(path, _what(one, two), one, two)


def _what(one: Node | None, two: Node | None) -> str:
    match one, two:
        case None, _:
            return "added"
        case _, None:
            return "missing"
        case File(), File():
            return "content" if one.blob != two.blob else "mode"
        case Symlink(), Symlink():
            return "target"
    return "kind"


def described(node: Node | None) -> str:
    """A node in a few words, for a person."""
    match node:
        case None:
            return "nothing"
        case Directory():
            return "a directory"
        case Symlink(target):
            return f"a symlink to {show(target)}"
        case File(blob, size, executable):
            return f"{size} bytes{', executable' if executable else ''} ({blob.short})"
