"""Looking names up in manifests as the kernel does in directories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from store.manifest import DIRECTORY, Directory, File, Manifest, Node, Symlink

PREFIX = b"pkg"
MAX_LINKS = 40


class Tree(Protocol):
    """What packing asks of an input root: a manifest, or what looks at a disk only where it is asked."""

    def get(self, path: bytes) -> Node | None:
        """The node at ``path``, or None."""

    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory ``path``, sorted; none when there is no such directory."""

    def below(self, path: bytes) -> Manifest:
        """What the directory ``path`` holds, as a tree of its own. Raises KeyError when there is no such directory."""


class Namespace:
    """What a build saw: the input root at ``/``, and the build's own output over it at ``/pkg``.

    Paths are absolute, without the slash in front. ``came`` has paths of the output that were copied from the root, with
    where they lay there: they see what is around them there, and are found under both names.
    """

    def __init__(self, root: Tree, output: Manifest, came: Mapping[bytes, bytes] | None = None) -> None:
        self.root = root
        self.output = output
        self.came = came or {}
        # Of two copies, the first is the one that is found.
        self._copies = {real: path for path, real in reversed(list(self.came.items()))}

    def get(self, path: bytes) -> Node | None:
        """The node of exactly this name."""
        if path in (b"", PREFIX):
            return DIRECTORY
        own = self.own(path)
        return self.output[own] if own is not None else self.root.get(path)

    def own(self, path: bytes) -> bytes | None:
        """The same name in the output, when it is there."""
        inner = path.removeprefix(PREFIX + b"/")
        return inner if inner != path and inner in self.output else self._copies.get(path)

    def opened(self, path: bytes) -> bytes:
        """The name under which the build saw what is at ``path`` of the output."""
        return self.came.get(path, PREFIX + b"/" + path)

    def resolve(self, path: bytes) -> tuple[bytes, File | Directory] | None:
        """What ``path`` leads to and its name without symlinks, or None where the kernel would find nothing."""
        todo = path.split(b"/")[::-1]
        done: list[bytes] = []
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del done[-1:]
                continue
            node = self.get(b"/".join([*done, name]))
            match node:
                case Symlink(target):
                    links += 1
                    if links > MAX_LINKS:
                        return None
                    if target.startswith(b"/"):
                        done.clear()
                    todo.extend(target.split(b"/")[::-1])
                case Directory():
                    done.append(name)
                case File() if not any(rest != b"" for rest in todo):
                    return b"/".join([*done, name]), node
                case _:
                    return None
        return b"/".join(done), DIRECTORY

    def file(self, path: bytes) -> tuple[bytes, File] | None:
        """As resolve, for files only."""
        match self.resolve(path):
            case (real, File() as node):
                return real, node
        return None


def up(path: bytes) -> bytes:
    """The way from the directory of ``path`` to the top of its tree: ``../`` once for every directory."""
    return b"../" * path.count(b"/")


def parent(path: bytes) -> bytes:
    """The directory of ``path``."""
    return path.rpartition(b"/")[0]


def base(path: bytes) -> bytes:
    """The last name of ``path``."""
    return path.rpartition(b"/")[2]
