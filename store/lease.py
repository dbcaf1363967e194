"""Leases: what running builds use, so that a collection beside them leaves it alone.

A lease is a file ``locks/use-<random>`` of lines ``kind name``, locked for as long as its build runs. A build writes a name
there *before* it looks whether the thing is there. A collection takes things away in short moments, each of which begins
with reading all leases; a write and a moment exclude each other (``locks/gc``). So either the moment comes after the write,
and spares what is named, or before it, and the build sees what is gone. Looking needs no lock.

A build that ends while a collection goes on leaves its lease to that collection, which began before the build had its root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from _thread import allocate_lock  # threading takes long to import
from collections.abc import Iterable, Iterator
from pathlib import Path

from store import files

PREFIX = "use-"
GATE = "gc"  # held for the moments in which leases are written, or things taken away
COLLECTION = "collect"  # held by a collection from its beginning to its end


class Lease:
    """The lease of a running build. Threads may share one."""

    def __init__(self, locks: Path) -> None:
        self._locks = locks
        self._mutex = allocate_lock()
        self._written: set[str] = set()
        self._gate = _open(locks / GATE, os.O_RDWR | os.O_CREAT)
        self.place = locks / f"{PREFIX}{os.urandom(8).hex()}"
        with self._writing():
            self._fd = _open(self.place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._mutex:
            fcntl.flock(self._gate, fcntl.LOCK_SH)
            try:
                yield
            finally:
                fcntl.flock(self._gate, fcntl.LOCK_UN)

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Say that these are used. What is looked at afterwards stays."""
        lines = {f"{kind} {name}\n" for name in names} - self._written
        if lines:
            with self._writing():
                files.write_all(self._fd, "".join(sorted(lines)).encode())
            self._written |= lines

    def end(self) -> None:
        """Let go of everything, or while a collection goes on, leave that to it."""
        collection = _open(self._locks / COLLECTION, os.O_RDWR | os.O_CREAT)
        try:
            if files.try_lock(collection, shared=True):
                os.unlink(self.place)
        finally:
            os.close(collection)
            os.close(self._fd)
            os.close(self._gate)


class Leases:
    """What all leases say, read on and on by one collection."""

    def __init__(self, locks: Path) -> None:
        self._locks = locks
        self._read: dict[str, int] = {}

    def new(self) -> Iterator[tuple[str, str]]:
        """The lines (kind, name) that were not read before. In a moment of the collection, these are all there are."""
        for name in _names(self._locks):
            done = self._read.get(name, 0)
            with open(self._locks / name, "rb") as file:
                file.seek(done)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]  # the rest is what a killed build did not finish
            self._read[name] = done + len(whole)
            for line in whole.decode().splitlines():
                kind, _, used = line.partition(" ")
                yield kind, used

    def forget_ended(self) -> None:
        """Remove the leases of builds that have ended. Only by who holds the locks of a collection and of its moment."""
        for name in _names(self._locks):
            fd = _open(self._locks / name, os.O_RDONLY)
            try:
                if files.try_lock(fd):
                    os.unlink(self._locks / name)
            finally:
                os.close(fd)


def _names(locks: Path) -> list[str]:
    return [name for name in os.listdir(locks) if name.startswith(PREFIX)]


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
