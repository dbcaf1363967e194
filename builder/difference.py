"""What is different between two trees at one path, in words. Pure."""

from __future__ import annotations

from store.difference import Change
from store.manifest import File, Node, Symlink, show


def what(change: Change) -> str:
    """In which way: "added", "missing", "kind", "content", "mode" or "target", seen from the first tree."""
    match change.before, change.after:
        case None, _:
            return "added"
        case _, None:
            return "missing"
        case File() as one, File() as two:
            return "content" if one.blob != two.blob else "mode"
        case Symlink(), Symlink():
            return "target"
    return "kind"


def described(node: Node | None) -> str:
    """A node in a few words, for a person."""
    match node:
        case None:
            return "nothing"
        case File(blob, size, executable):
            return f"{size} bytes{', executable' if executable else ''} ({blob.short})"
        case Symlink(target):
            return f"a symlink to {show(target)}"
    return "a directory"
