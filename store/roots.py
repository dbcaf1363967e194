"""Roots: the names that keep artifacts alive.

A root is a record in ``roots/`` and is one of two things. A *named* root stands until it is removed. A *link* root stands
for a symlink somewhere on the disk, such as ``result``: it counts only while that symlink is there and leads to an
artifact of this store, so to let go of an artifact one deletes or moves the link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from store import artifacts, codec, files
from store.artifacts import Folder
from store.codec import BadRecord
from store.digest import BadDigest, Digest
from store.errors import Error
from store.store import Store

Kind: TypeAlias = Literal["link", "name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.@_-]{0,99}\Z")


class BadRootName(Error):
    """A name that no root can have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no root can be called {name!r}", hint="A name is at most 100 letters, digits and + . @ _ -.")
        self.name = name


class NoRoot(Error):
    """There is no root of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no root {name!r}", hint="Its name is the path of a link, or the name that it was given.")
        self.name = name


class BadRoot(Error):
    """A record of a root that cannot be read, so that nobody knows what it keeps alive."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}", hint="Remove this file, and make the link or the root again.")
        self.path = path


class InTheWay(Error):
    """Something that is no link to an artifact is where a result link should be; it is left as it is."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is {what}, and is not replaced", hint="Move it away, or name another link with -o.")
        self.path = path


@dataclass(frozen=True, slots=True)
class Root:
    """A root as it stands now.

    ``name`` is the path of a link, or the name of a named root. ``artifact`` is what it keeps alive, which for a link is
    what the link points to today. ``alive`` is false for a link that is gone or leads elsewhere: it keeps nothing.
    ``file`` is the record's name in ``roots/``.
    """

    name: str
    kind: Kind
    artifact: Digest
    alive: bool
    file: str

    @property
    def why(self) -> str:
        """Why it counts or not, for a person."""
        if self.kind == "name":
            return "it was named, and not removed"
        return "the link leads to the artifact" if self.alive else "the link was moved or deleted, or leads elsewhere"


def add_link(store: Store, link: Path, artifact: Digest, target: Path) -> None:
    """Make ``link`` a symlink to ``target``, the artifact's folder, and a root.

    A link to another artifact is replaced, in one step. Raises InTheWay for anything else that is there.
    """
    place = _absolute(link)
    known = _read_link(place)
    if known is None and os.path.lexists(place):
        raise InTheWay(place, "a directory" if place.is_dir() else "a file")
    if known is not None and Folder.parse(os.path.basename(known)) is None:
        raise InTheWay(place, "a symlink to something else than an artifact")
    # The record first: a root whose link is missing keeps nothing and goes away, a link without a root would dangle.
    _record(store, "link", os.fsencode(place), artifact)
    if known == str(target):
        return
    try:
        _link(place, str(target), new=known is None)
        if store.durable:
            # A directory that may be written to and not read gives no descriptor to sync: then the kernel does it in time.
            with contextlib.suppress(PermissionError):
                files.sync_directory(place.parent)
    except OSError as error:
        raise files.explain(error, str(place)) from error


def _link(place: Path, target: str, *, new: bool) -> None:
    if new:
        # Not by rename: what somebody else puts there right now must not be overwritten.
        try:
            os.symlink(target, place)
        except FileExistsError:
            raise InTheWay(place, "there since a moment ago") from None
        return
    temporary = place.with_name(f".{place.name[:200]}.{os.urandom(4).hex()}")
    os.symlink(target, temporary)
    try:
        os.rename(temporary, place)
    except BaseException:
        os.unlink(temporary)
        raise


def add_named(store: Store, name: str, artifact: Digest) -> None:
    """Keep ``artifact`` alive under ``name``; a root of that name is replaced. Raises BadRootName."""
    if not _NAME.match(name):
        raise BadRootName(name)
    _record(store, "name", name.encode(), artifact)


def remove(store: Store, name: str) -> None:
    """Remove the root ``name``: the name of a named one, or the path of a link, which is deleted too. Raises NoRoot."""
    place = _absolute(Path(name))
    for kind, key in (("name", os.fsencode(name)), ("link", os.fsencode(place))):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(store.root / "roots" / _file(kind, key))
            target = _read_link(place) if kind == "link" else None
            if target is not None and _in_store(store, place, target):
                os.unlink(place)
            return
    raise NoRoot(name)


def listed(store: Store) -> list[Root]:
    """Every root, living or not, by name. Raises BadRoot."""
    found = []
    for file in os.listdir(store.root / "roots"):
        with contextlib.suppress(FileNotFoundError):
            found.append(read(store, file))
    return sorted(found, key=lambda root: (root.kind, root.name))


def read(store: Store, file: str) -> Root:
    """The root whose record is ``roots/<file>``. Raises BadRoot."""
    place = store.root / "roots" / file
    try:
        kind, key, raw = codec.decode("root", place.read_bytes(), 3)
        if type(key) is not bytes or kind not in ("link", "name") or file != _file(kind, key):
            raise BadRecord("root", "its fields do not belong together")
        if kind == "link" and (not key.startswith(b"/") or b"\0" in key):
            raise BadRecord("root", "its link has a name that nothing has")
        artifact = Digest(raw)
    except (BadRecord, BadDigest) as error:
        raise BadRoot(place, error.message) from None
    name = os.fsdecode(key)
    now = _points_to(store, Path(name), artifact) if kind == "link" else artifact
    return Root(name, kind, now or artifact, now is not None, file)


def _points_to(store: Store, link: Path, recorded: Digest) -> Digest | None:
    try:
        target = os.readlink(link)
    except OSError as error:
        # EINVAL: it is no symlink any more. What cannot be looked at (a home that is not mounted for us, a disk with
        # errors) may well be there: then the record counts.
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL)
        return None if gone else recorded
    folder = Folder.parse(os.path.basename(target))
    if folder is None or not _in_store(store, link, target):
        return None
    return recorded if folder.base32 == recorded.base32 else artifacts.digest_of(store, folder)


def _in_store(store: Store, link: Path, target: str) -> bool:
    try:
        return os.path.samefile(link.parent / os.path.dirname(target), store.root / "artifacts")
    except OSError:
        return False


def _absolute(link: Path) -> Path:
    # The parent's symlinks are followed, the link's own are not: one link has one record.
    return Path(os.path.realpath(link.parent)) / link.name


def _read_link(place: Path) -> str | None:
    try:
        return os.readlink(place)
    except OSError:
        return None


def _file(kind: str, key: bytes) -> str:
    return f"{kind}-{Digest.of(key).base32}"


def _record(store: Store, kind: Kind, key: bytes, artifact: Digest) -> None:
    data = codec.encode("root", [kind, key, artifact.raw])
    place = store.root / "roots" / _file(kind, key)
    # Until its link is there, a collection would take it for one whose link is gone.
    store.use("roots", place.name)
    try:
        with contextlib.suppress(FileNotFoundError):
            # A build that has nothing to do writes nothing.
            if stat.S_ISREG(os.lstat(place).st_mode) and place.read_bytes() == data:
                return
        with store.workspace() as folder:
            fresh = folder / "root"
            fresh.write_bytes(data)
            if store.durable:
                with files.directory(folder) as fd:
                    files.sync_file_system(fd)
            os.rename(fresh, place)
        if store.durable:
            files.sync_directory(place.parent)
    except OSError as error:
        raise files.explain(error, str(place)) from error
