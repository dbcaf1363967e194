"""Which artifacts run: programs that were started from them, and files of theirs that are open, as ``/proc`` tells it.

Only processes that may be looked at count: the user's own, or for root all. A file is known by its path, and by its inode
too: a hard link to a blob elsewhere, or a mount in another namespace, has another path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from store import artifacts, files
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


def running(store: Store, *, besides: Container[str] = ()) -> list[Running]:
    """Every artifact that a process uses, by folder, each with one of its processes; none whose base32 is in ``besides``."""
    folders = {str(folder): folder for folder in artifacts.folders(store) if folder.base32 not in besides}
    by_name, by_inode = _uses(store, folders)
    found = []
    for name, folder in sorted(folders.items()):
        digest = artifacts.digest_of(store, folder)
        process = by_name.get(name)
        if process is None and digest is not None and by_inode:
            process = _holder(store, digest, name, by_inode)
        if process is not None and digest is not None:
            found.append(Running(digest, folder, process, _program(process)))
    return found


def _uses(store: Store, folders: Container[str]) -> tuple[dict[str, int], dict[Inode, int]]:
    """The folders' names in the paths that processes use, and the inodes that may be a store's, and have other paths."""
    top = os.path.realpath(store.root / "artifacts") + "/"
    disk = os.stat(store.root / "artifacts").st_dev
    by_name: dict[str, int] = {}
    by_inode: dict[Inode, int] = {}
    own = os.getpid()
    for process in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if process == own:
            continue
        for path, status in _files(process):
            name = path.removeprefix(top).partition("/")[0] if path.startswith(top) else ""
            if name in folders:
                by_name.setdefault(name, process)
            # All that is checked out has this time: else every artifact's files would have to be compared.
            elif not name and status is not None and status.st_dev == disk and status.st_mtime == files.EPOCH:
                by_inode.setdefault((disk, status.st_ino), process)
    return by_name, by_inode


def _files(process: int) -> Iterator[tuple[str, os.stat_result | None]]:
    """All that a process runs, stands in, has open or mapped: the path, and what it is, where that can be seen."""
    top = f"/proc/{process}"
    links = [f"{top}/{name}" for name in ("exe", "cwd", "root")]
    # Each may end, or be another user's, at any moment.
    with contextlib.suppress(OSError):
        links += [f"{top}/fd/{name}" for name in os.listdir(f"{top}/fd")]
    for link in links:
        with contextlib.suppress(OSError):
            yield os.readlink(link), os.stat(link)
    mapped: dict[bytes, int] = {}
    with contextlib.suppress(OSError), open(f"{top}/maps", "rb") as maps:
        for line in maps:
            parts = line.rstrip(b"\n").split(None, 5)
            if len(parts) == 6 and parts[5].startswith(b"/"):
                mapped[parts[5]] = int(parts[4])
    for path, inode in mapped.items():
        status = None
        with contextlib.suppress(OSError):
            # In the root that the process has: its paths may mean something else than ours.
            status = os.stat(os.fsencode(f"{top}/root") + path)
        yield os.fsdecode(path), status if status is not None and status.st_ino == inode else None


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
