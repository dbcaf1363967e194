"""Which artifacts run: programs that were started from them, and files of theirs that are open, as ``/proc`` tells it.

Only processes that may be looked at count: the user's own, or for root all. A file is known by its path, and by its inode
too: a hard link to a blob elsewhere, or a mount in another namespace, has another path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from store import artifacts
from store.artifacts import Folder
from store.digest import Digest
from store.errors import Error
from store.manifest import Manifest
from store.store import Store

Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Running:
    """An artifact that a process uses: the process's id and its program's name."""

    artifact: Digest
    folder: Folder
    process: int
    program: str


def running(store: Store) -> list[Running]:
    """Every artifact that a process uses, by folder, each with one of its processes."""
    folders = {str(folder): folder for folder in artifacts.folders(store)}
    by_name, by_inode = _uses(store, folders)
    digests = {name: artifacts.digest_of(store, folder) for name, folder in folders.items()}
    found = []
    for name, folder in sorted(folders.items()):
        digest = digests[name]
        process = by_name.get(name)
        if process is None and digest is not None and by_inode:
            process = _holder(store, digest, name, by_inode)
        if process is not None and digest is not None:
            found.append(Running(digest, folder, process, _program(process)))
    return found


def _uses(store: Store, folders: dict[str, Folder]) -> tuple[dict[str, int], dict[Inode, int]]:
    """The folders' names in the paths that processes use, and the inodes on the store's disk that have other paths."""
    top = os.path.realpath(store.root / "artifacts") + "/"
    disk = os.stat(store.root / "artifacts").st_dev
    by_name: dict[str, int] = {}
    by_inode: dict[Inode, int] = {}
    own = os.getpid()
    for process in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if process == own:
            continue
        for path, inode in _files(process):
            name = path.removeprefix(top).partition("/")[0] if path.startswith(top) else ""
            if name in folders:
                by_name.setdefault(name, process)
            elif inode is not None and inode[0] == disk:
                by_inode.setdefault(inode, process)
    return by_name, by_inode


def _files(process: int) -> Iterator[tuple[str, Inode | None]]:
    """All that a process runs, stands in, has open or mapped: the path, and the inode where it can be seen."""
    top = f"/proc/{process}"
    links = [f"{top}/{name}" for name in ("exe", "cwd", "root")]
    # Each may end, or be another user's, at any moment.
    with contextlib.suppress(OSError):
        links += [f"{top}/fd/{name}" for name in os.listdir(f"{top}/fd")]
    for link in links:
        with contextlib.suppress(OSError):
            path = os.readlink(link)
            status = os.stat(link)
            yield path, (status.st_dev, status.st_ino)
    with contextlib.suppress(OSError), open(f"{top}/maps", "rb") as maps:
        for line in maps:
            parts = line.rstrip(b"\n").split(None, 5)
            if len(parts) == 6 and parts[5].startswith(b"/"):
                major, _, minor = parts[3].partition(b":")
                yield os.fsdecode(parts[5]), (os.makedev(int(major, 16), int(minor, 16)), int(parts[4]))


def _holder(store: Store, digest: Digest, name: str, by_inode: dict[Inode, int]) -> int | None:
    for inode in _inodes(store, digest, name):
        if inode in by_inode:
            return by_inode[inode]
    return None


def _inodes(store: Store, digest: Digest, name: str) -> Iterator[Inode]:
    try:
        manifest: Manifest = store.read_manifest(digest)
    except Error:
        return  # `check` says so
    places = [Path(name), *(Path(name, os.fsdecode(path)) for path in manifest.nodes)]
    blobs = (store.blob_path(node.blob, executable=node.executable) for _, node in manifest.files)
    for place in [*(store.root / "artifacts" / place for place in places), *blobs]:
        with contextlib.suppress(OSError):
            status = os.lstat(place)
            yield status.st_dev, status.st_ino


def _program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "?"
