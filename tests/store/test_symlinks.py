"""Symlinks that somebody planted in the store's folder: what is written, removed or changed stays inside.

The store belongs to its user: who can plant one there can do worse. Still, no build, pull, query or collection writes behind
one that has the name of a file. The store's own directories, down to those of two digits, are taken for directories.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.remotes.directory import DirectoryRemote
from store import collect, index
from store.check import check
from store.errors import Error
from store.store import FOLDERS, Store
from tests.sharing.helpers import fill, get, send
from tests.store.test_crashes import build


def facts(top: Path) -> list[tuple[object, ...]]:
    """All that there is below a folder, with modes and times."""
    found: list[tuple[object, ...]] = []
    for folder, folders, names in os.walk(top):
        for path in [folder, *(os.path.join(folder, name) for name in (*folders, *names))]:
            status = os.lstat(path)
            data = Path(path).read_bytes() if os.path.isfile(path) else b""
            found.append((path, status.st_mode, status.st_nlink, status.st_mtime_ns, data))
    return sorted(found)


class Outside:
    """What is not the store's, and has to stay as it is."""

    def __init__(self, top: Path) -> None:
        self.folder = top / "outside"
        (self.folder / "inner").mkdir(parents=True)
        self.file = self.folder / "file"
        self.file.write_bytes(b"precious")
        self.file.chmod(0o644)
        (self.folder / "inner/file").write_bytes(b"precious too")
        self.before = facts(self.folder)

    def is_as_it_was(self) -> bool:
        return facts(self.folder) == self.before


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path)


def everything(top: Path, shelf: DirectoryRemote, base32: str, manifest: object) -> None:
    """A build, a pull, queries, a check and collections. Any of them may say that something is in its way."""
    steps: list[Callable[[], object]] = [
        lambda: build(top),
        lambda: get(Store(top / "store", durable=False), shelf, manifest),  # type: ignore[arg-type]
        lambda: check(Store(top / "store")),
        lambda: _ask(Store(top / "store")),
        lambda: Store(top / "store").sweep(),
        lambda: (top / "result").unlink(missing_ok=True),
        lambda: collect.collect(Store(top / "store")),
    ]
    for step in steps:
        with contextlib.suppress(Error, OSError):
            step()


def _ask(store: Store) -> None:
    with index.opened(store) as opened:
        opened.rebuild()


PLACES = (
    "tmp", "tmp/x", "tmp/0123456789abcdef", "tmp/kept-x", "locks/gc", "locks/index", "index.sqlite", "index.sqlite-wal",
    "index.damaged", "logs/x", "downloads/x", "roots/x", "artifacts/x", "blobs/x", "manifests/x",
)  # fmt: skip


@pytest.mark.parametrize("to", ["file", "folder", "nothing"])
@pytest.mark.parametrize("name", PLACES)
def test_a_symlink_in_the_store(tmp_path: Path, outside: Outside, name: str, to: str) -> None:
    here = Store(tmp_path / "here", durable=False)
    manifest = fill(here, {"bin/pulled": b"1", "share/x": b"2"})
    shelf = DirectoryRemote("shelf", tmp_path / "shelf")
    send(here, shelf, manifest)
    store = Store(tmp_path / "store")
    place = store.root / name
    if place.is_dir():
        place.rmdir()
    place.symlink_to({"file": outside.file, "folder": outside.folder, "nothing": outside.folder / "new"}[to])
    everything(tmp_path, shelf, manifest.digest.base32, manifest)
    assert outside.is_as_it_was()


@pytest.mark.parametrize("to", ["file", "folder", "nothing"])
@pytest.mark.parametrize(
    "names", ["blobs/*/*", "manifests/*/*", "results/*/*", "artifacts/*", "artifacts/*/*", "roots/*", "locks/*"]
)
def test_symlinks_under_the_very_names(tmp_path: Path, outside: Outside, names: str, to: str) -> None:
    """As above, where the files of this very build are going to be."""
    here = Store(tmp_path / "here", durable=False)
    manifest = fill(here, {"bin/pulled": b"1", "share/x": b"2"})
    shelf = DirectoryRemote("shelf", tmp_path / "shelf")
    send(here, shelf, manifest)
    build(tmp_path)
    get(Store(tmp_path / "store", durable=False), shelf, manifest)
    target = {"file": outside.file, "folder": outside.folder, "nothing": outside.folder / "new"}[to]
    paths = list((tmp_path / "store").glob(names))
    assert paths or names == "locks/*"
    for path in paths:
        path.parent.chmod(0o755)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        path.symlink_to(target)
    everything(tmp_path, shelf, manifest.digest.base32, manifest)
    assert outside.is_as_it_was()


def test_temporary_folders_are_private(tmp_path: Path) -> None:
    """Whatever the umask, and from the first moment."""
    before = os.umask(0)
    try:
        store = Store(tmp_path / "store", durable=False)
        with store.workspace() as folder, store.batch() as batch:
            batch.add_bytes(b"secret")
            assert {stat.S_IMODE(os.lstat(path).st_mode) for path in (store.root / "tmp", folder)} == {0o700}
            assert {stat.S_IMODE(path.stat().st_mode) for path in (store.root / "tmp").iterdir()} == {0o700}
        assert stat.S_IMODE(store.root.stat().st_mode) & 0o022 == 0
        assert all(stat.S_IMODE((store.root / name).stat().st_mode) & 0o022 == 0 for name in FOLDERS)
    finally:
        os.umask(before)
