"""A model of power loss: what a disk may hold after one, from a record of what was done to it.

The record is made from a real directory: it is looked at before every call that changes something, and at every sync. What was
there when a sync began is on the disk when it has returned. Of everything later, each name in each directory, and the bytes and
mode of each file, may or may not have come to the disk, without any order: that is less than any file system with a journal
promises. A file whose bytes were not synced may be empty, or hold something else.
"""

from __future__ import annotations

import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from store import files

CALLS = ("open", "mkdir", "rename", "link", "symlink", "unlink", "rmdir", "write", "chmod", "fchmod", "utime", "sendfile")


@dataclass(frozen=True)
class Inode:
    """A file, directory or symlink as it is at one moment; ``data`` is its bytes or its target, and of a directory None."""

    kind: int
    mode: int
    data: bytes | None


GARBAGE = b"what an earlier file had here"
Key = tuple[int, str]  # a directory, and a name in it
Tree = dict[str, tuple[int, Inode]]


@dataclass
class Disk:
    """What was written below ``top``, and how much of it a power cut would have to leave."""

    top: Path
    # Every version that a name, or a file, may have after a power cut; the first one is on the disk.
    names: dict[Key, list[int | None]] = field(default_factory=dict)
    inodes: dict[int, list[Inode | None]] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    moments: list[tuple[dict[Key, list[int | None]], dict[int, list[Inode | None]]]] = field(default_factory=list)
    real: dict[str, Callable[..., Any]] = field(default_factory=lambda: {name: getattr(os, name) for name in CALLS})
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = os.lstat(self.top).st_ino

    def look(self) -> None:
        """Take up what has changed since the last look."""
        names, inodes = self._walk()
        for key in self.names.keys() | names.keys():
            versions = self.names.setdefault(key, [None])
            if versions[-1] != names.get(key):
                versions.append(names.get(key))
        for number, inode in inodes.items():
            known = self.inodes.setdefault(number, [None])
            if known[-1] != inode:
                known.append(inode)

    def _walk(self) -> tuple[dict[Key, int], dict[int, Inode]]:
        names: dict[Key, int] = {}
        inodes: dict[int, Inode] = {}
        waiting = [(self.top, self.number)]
        while waiting:
            folder, parent = waiting.pop()
            for name in os.listdir(folder):
                path = folder / name
                try:
                    status = os.lstat(path)
                    if status.st_ino not in self.held:
                        # While it is open, no other file gets its number.
                        self.held[status.st_ino] = self.real["open"](path, os.O_PATH | os.O_NOFOLLOW)
                    data = self._data(path, status)
                except FileNotFoundError:
                    continue  # another thread was faster
                names[parent, name] = status.st_ino
                inodes[status.st_ino] = Inode(stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), data)
                if data is None:
                    waiting.append((path, status.st_ino))
        return names, inodes

    def _data(self, path: Path, status: os.stat_result) -> bytes | None:
        if stat.S_ISDIR(status.st_mode):
            return None
        if stat.S_ISLNK(status.st_mode):
            return os.fsencode(os.readlink(path))
        fd = self.real["open"](path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        finally:
            os.close(fd)

    def changed(self) -> None:
        """Remember that the power may go now."""
        with self.lock:
            self.look()
            pending = (
                {key: list(versions) for key, versions in self.names.items() if versions != [None]},
                {number: list(versions) for number, versions in self.inodes.items()},
            )
            if not self.moments or self.moments[-1] != pending:
                self.moments.append(pending)

    def synced(self, only: int | None = None) -> None:
        """Everything, or the one file or directory ``only``, is on the disk."""
        with self.lock:
            self.changed()
            for (parent, name), versions in self.names.items():
                if only in (None, parent):
                    self.names[parent, name] = versions[-1:]
            for number, states in self.inodes.items():
                if only in (None, number):
                    self.inodes[number] = states[-1:]

    def close(self) -> None:
        for fd in self.held.values():
            os.close(fd)

    # -- what may be left --

    def states(self, seed: int, each: int) -> Iterator[Tree]:
        """Different trees that a power cut may leave, at every moment from the last to the first, ``each`` tries a moment."""
        dice = random.Random(seed)
        seen = set()
        for moment in reversed(self.moments):
            for share in (0.0, 1.0, *(dice.random() for _ in range(each))):
                tree = self._state(moment, dice, share)
                mark = frozenset((path, number, inode) for path, (number, inode) in tree.items())
                if mark not in seen:
                    seen.add(mark)
                    yield tree

    def last(self, seed: int, tries: int) -> Iterator[Tree]:
        """The same, at the last moment alone: when a command has said that it is done."""
        dice = random.Random(seed)
        for _ in range(tries):
            yield self._state(self.moments[-1], dice, dice.random())

    def _state(
        self, moment: tuple[dict[Key, list[int | None]], dict[int, list[Inode | None]]], dice: random.Random, share: float
    ) -> Tree:
        """``share`` is about how much of what is not on the disk for certain came there."""
        names, inodes = moment
        children: dict[int, list[tuple[str, int]]] = {}
        for (parent, name), versions in sorted(names.items()):
            number = dice.choice(versions[1:]) if len(versions) > 1 and dice.random() < share else versions[0]
            if number is not None:
                children.setdefault(parent, []).append((name, number))
        chosen: dict[int, Inode] = {}
        tree: Tree = {}
        waiting: list[tuple[str, int]] = [("", self.number)]
        while waiting:
            prefix, folder = waiting.pop()
            for name, number in children.get(folder, []):
                if number not in chosen:
                    chosen[number] = self._choose(inodes[number], dice, share)
                path = prefix + name
                tree[path] = number, chosen[number]
                # What lies in a workspace is nobody's, and a builder that is killed leaves it too.
                if chosen[number].data is None and not path.endswith("store/tmp") and path.count("/") < 20:
                    waiting.append((path + "/", number))
        return tree

    @staticmethod
    def _choose(versions: list[Inode | None], dice: random.Random, share: float) -> Inode:
        certain, *later = versions
        if not later:
            assert certain is not None
            return certain
        came = [version for version in later if version is not None]
        if certain is not None and dice.random() >= share:
            return certain
        inode = dice.choice(came)
        if stat.S_ISREG(inode.kind) and (certain is None or certain.data != inode.data):
            assert inode.data is not None
            data = inode.data if dice.random() < share else dice.choice([b"", GARBAGE[: len(inode.data)]])
            return Inode(inode.kind, inode.mode, data)
        return inode


def laid(tree: Tree, place: Path) -> Path:
    """Make a tree as a power cut left it."""
    place.mkdir()
    made: dict[int, Path] = {}
    modes: list[tuple[Path, int]] = []
    for path, (number, inode) in sorted(tree.items()):
        target = place / path
        if inode.data is None:
            target.mkdir()
            modes.append((target, inode.mode))
        elif stat.S_ISLNK(inode.kind):
            target.symlink_to(os.fsdecode(inode.data))
        elif number in made:
            os.link(made[number], target)
        else:
            target.write_bytes(inode.data)
            target.chmod(inode.mode)
            made[number] = target
    for target, mode in reversed(modes):
        target.chmod(mode)
    return place


def record(top: Path, patch: pytest.MonkeyPatch) -> Disk:
    """Record from now on, until ``patch`` is undone, what this process does below ``top``. What is there is on the disk."""
    disk = Disk(top)
    disk.synced()
    disk.moments.clear()

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            disk.changed()
            return real(*args, **kwargs)

        return call

    def sync(fd: int) -> None:
        disk.synced(os.fstat(fd).st_ino)

    for name in CALLS:
        patch.setattr(os, name, watched(getattr(os, name)))
    patch.setattr(os, "fsync", sync)
    patch.setattr(files, "sync_file_system", lambda fd: disk.synced())
    return disk
