"""Artifacts on disk: ``artifacts/<base32>-<name>-<version>/``, each complete from the moment that its name is there."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from store import files
from store.digest import Digest
from store.errors import Error
from store.manifest import Manifest
from store.store import Store

# Upper case, "~" and "_" come in versions only; the version has no "-", so that the last one is where it begins.
_FOLDER = re.compile(r"([a-z2-7]{32})-([a-z0-9][a-z0-9+._-]{0,99})-([A-Za-z0-9][A-Za-z0-9+.~_]{0,99})\Z")
MODE = 0o555


class BadName(Error):
    """A name and version that no folder can have."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__(
            f"no artifact can be called {name!r}, version {version!r}",
            hint="A name is lower-case letters, digits and + . _ -; a version also has upper case and ~; each has at most 100.",
        )
        self.name = name
        self.version = version


class Foreign(Error):
    """Something that is no artifact, in the place of one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is in the way: it is not a directory", hint="Remove it. `builder check` looks for more.")
        self.path = path


@dataclass(frozen=True, slots=True)
class Folder:
    """The name of an artifact's folder, in its parts. ``base32`` stands for the first 160 bits of the digest."""

    base32: str
    name: str
    version: str

    @classmethod
    def of(cls, digest: Digest, name: str, version: str) -> Folder:
        """The folder of an artifact. A ``-`` in the version is written ``_``. Raises BadName."""
        folder = cls(digest.base32, name, version.replace("-", "_"))
        if cls.parse(str(folder)) != folder:
            raise BadName(name, version)
        return folder

    @classmethod
    def parse(cls, text: str) -> Folder | None:
        """Read the name of a folder. None: no artifact has this name."""
        match = _FOLDER.match(text)
        return cls(*match.groups()) if match else None

    def __str__(self) -> str:
        return f"{self.base32}-{self.name}-{self.version}"


def path_of(store: Store, digest: Digest, *, name: str, version: str) -> Path:
    """Where the artifact is, or would be. Raises BadName."""
    return store.root / "artifacts" / str(Folder.of(digest, name, version))


def is_there(path: Path) -> bool:
    """Whether an artifact has been checked out at ``path``. Costs one system call: its name is given to whole trees only."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def check_out(store: Store, artifact: Manifest, *, name: str, version: str) -> Path:
    """The folder of the artifact, made if it is not there: read-only directories, files that are hard links to blobs.

    Any number of processes may ask for the same one. Raises MissingBlob, BadName, Foreign, and Error when the disk refuses.
    """
    from store import trees  # not needed to see that an artifact is there

    place = path_of(store, artifact.digest, name=name, version=version)
    store.use("tree", artifact.digest.hex)
    if is_there(place):
        return place
    try:
        with store.workspace() as folder, files.directory(folder) as workspace:
            os.mkdir("tree", 0o700, dir_fd=workspace)
            with files.directory("tree", at=workspace) as tree:
                trees.check_out(store, artifact, tree, directory_mode=MODE)
                # Nobody looks into a folder that has its name: after a power cut too, all of it has to be there.
                if store.durable:
                    files.sync_file_system(tree)
                # Only who may write to a directory may move it to another parent, because its ".." changes. If we are
                # killed between the move and the last line, the top is left writable for its owner: no harm.
                os.fchmod(tree, 0o755)
                _move(workspace, place)
                os.fchmod(tree, MODE)
                os.utime(tree, (files.EPOCH, files.EPOCH))
    except OSError as error:
        raise files.explain(error, str(place)) from error
    return place


def _move(workspace: int, place: Path) -> None:
    try:
        os.rename("tree", place, src_dir_fd=workspace)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise Foreign(place) from None
        # Somebody else was faster, with the same tree.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def remove(store: Store, folder: Folder) -> None:
    """Remove an artifact's folder. It is gone all at once."""
    with store.workspace() as workspace:
        move_away(store, folder, workspace / "tree")


def move_away(store: Store, folder: Folder, target: Path) -> None:
    """The first half of it: move the folder to ``target`` in a workspace, which is then removed."""
    place = store.root / "artifacts" / str(folder)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), files.directory(place) as fd:
        os.fchmod(fd, 0o755)
    with contextlib.suppress(FileNotFoundError):
        os.rename(place, target)


def folders(store: Store) -> list[Folder]:
    """Every artifact that is checked out, in no order."""
    return [folder for folder in map(Folder.parse, os.listdir(store.root / "artifacts")) if folder]


def digest_of(store: Store, folder: Folder) -> Digest | None:
    """The whole digest that a folder's name stands for, or None when the store has no such manifest."""
    prefix = base64.b32decode(folder.base32.upper()).hex()
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(store.root / "manifests" / prefix[:2]):
            if name.startswith(prefix):
                return Digest.parse(name)
    return None
