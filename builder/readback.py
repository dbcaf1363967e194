"""Exports, read back into a store as the artifacts that they were made of.

What a file is, its bytes say, and not its name; each format has a row in FORMATS. Nothing is unpacked under a name: archives
become manifests and blobs (``builder.archives``), in one batch, so that nothing stays of a file that is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from builder import onefile_read, tarball
from builder.archives import DEFAULT, BadArchive, Part, read_tar
from builder.steps import PREFIX
from builder.streams import ZSTD, BadStream, Input, Reader
from builder.tars import BadMember, Kind, members
from store import artifacts
from store.artifacts import Folder
from store.batch import Batch
from store.errors import Error
from store.manifest import BadEntry, Manifest, Node, show
from store.resolve import Named
from store.store import Store

DOCUMENT = 4 << 20  # bytes that a document of an image may have
LAYERS = 500

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_INSIDE = PREFIX[1:].encode()
_DAMAGED = "The file is damaged, or not all of it is there: fetch it again, and compare its sha256 with what was published."


class NotAnExport(Error):
    """Something that no export of an artifact is; ``what`` it is instead."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} is {what}, and nothing that builder export wrote",
            hint="Its .run, .tar.zst and .oci.tar files and .oci folders can be read, as they were written. "
            "Of other software, a recipe makes an artifact, or `builder adopt`.",
        )
        self.path = path


class OtherArtifact(Error):
    """An image that holds another artifact than the one that it names."""

    def __init__(self, path: Path, told: str, found: str) -> None:
        super().__init__(
            f"{path} holds the artifact {found}, and says that it is {told}",
            hint="Files were changed or added after it was exported. Fetch the image that was published.",
        )


@dataclass(frozen=True, slots=True)
class Source:
    """What is read, and where it goes. ``report`` is told of bytes as they are read."""

    path: Path
    sink: Batch
    report: Callable[[int], None]

    def watched(self, file: Input) -> Input:
        """The same bytes, reported."""
        return _Watched(file, self.report)


@dataclass(frozen=True, slots=True)
class Found:
    """An artifact that an export holds."""

    name: str
    version: str
    tree: Manifest


@dataclass(frozen=True, slots=True)
class Format:
    """A format. ``fits`` says whether an open file may have it; ``read`` raises BadStream for damage, and NotAnExport."""

    fits: Callable[[BinaryIO], bool]
    read: Callable[[Source], Found]


def format_of(path: Path) -> Format | None:
    """The format that what lies at ``path`` may have. None: there is nothing, or something else."""
    # Not by pathlib: a name that is no path, or that we may not look at, is simply none.
    if os.path.isfile(path / "oci-layout"):
        return _FOLDER
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return next((form for form in FORMATS if form.fits(file)), None)


def bring(store: Store, path: Path, report: Callable[[int], None] = lambda _: None) -> Named:
    """The artifact of an export, in the store and checked out. For who is in the store's ``in_use``.

    Raises NotAnExport, BadArchive, OtherArtifact, BadName, OSError and what the store does; then nothing of it is in there.
    """
    form = format_of(path)
    if form is None:
        os.stat(path)  # that there is nothing is other news
        raise NotAnExport(path, "a folder" if path.is_dir() else "a file of another kind")
    try:
        with store.batch() as batch:
            found = form.read(Source(path, batch, report))
            # What is too long is refused all the same, and what is said of it should have an end.
            folder = Folder.of(found.tree.digest, found.name[:101], found.version[:101])
            batch.add_manifest(found.tree)
    except BadArchive as error:
        raise BadArchive(error.archive, error.entry, error.reason, hint=_DAMAGED) from None
    except BadMember as error:
        raise BadArchive(str(path), error.name, error.reason, hint=_DAMAGED) from None
    except BadStream as error:
        raise BadArchive(str(path), b"", error.message, hint=_DAMAGED) from None
    except BadEntry as error:
        raise BadArchive(str(path), error.path, error.reason, hint=_DAMAGED) from None
    return Named(folder, found.tree.digest, artifacts.check_out(store, found.tree, name=found.name, version=found.version))


class _Watched:
    """Bytes, with their number told."""

    def __init__(self, file: Input, report: Callable[[int], None]) -> None:
        self._file = file
        self._report = report

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._report(len(data))
        return data


# -- archives --


def _read_archive(source: Source) -> Found:
    with open(source.path, "rb") as file:
        top = _top(source.path, file)
        # The version has no "-" in it: this is the end of the name of a folder in the store.
        folder = Folder.parse(f"{'a' * 32}-{os.fsdecode(top)}")
        if folder is None:
            raise NotAnExport(source.path, f"an archive of {show(top)}")
        file.seek(0)
        tree = read_tar(source.watched(file), source.sink, str(source.path))
    if other := next((path for path in tree if path.partition(b"/")[0] != top), None):
        raise BadMember(other, f"it is not in {show(top)}, as all of an export is")
    return Found(folder.name, folder.version, tree.below(top))


def _top(path: Path, file: BinaryIO) -> bytes:
    """The folder that an archive has everything in. Raises NotAnExport if it does not begin as exports do."""
    try:
        top = next(members(Reader(file, DEFAULT), DEFAULT)).name.rstrip(b"/")
        expected = tarball.beginning(top)
        file.seek(0)
        if Reader(file, DEFAULT).upto(len(expected)) == expected:
            return top
    except (BadStream, StopIteration):
        pass
    raise NotAnExport(path, "a compressed file")


# -- one file --


def _read_run(source: Source) -> Found:
    with open(source.path, "rb") as file:
        file.seek(onefile_read.find(file) or 0)
        record = onefile_read.read(source.watched(file), source.sink)
    return Found(record.name, record.version, record.artifact)


# -- images --

# Opens a file of an image by its name. Raises BadStream when it is not there.
_Open = Callable[[str], AbstractContextManager[Input]]


def _read_image_file(source: Source) -> Found:
    with open(source.path, "rb") as file:
        places = _places(file)

        @contextlib.contextmanager
        def opened(name: str) -> Iterator[Input]:
            if name not in places:
                raise BadStream(f"it has no {name}")
            offset, size = places[name]
            file.seek(offset)
            yield Part(file, size)

        if "oci-layout" not in places:
            raise NotAnExport(source.path, "an archive")
        return _image(source, opened)


def _places(file: BinaryIO) -> dict[str, tuple[int, int]]:
    """Of each file in an archive that is not compressed: the offset and size of its bytes."""
    found: dict[str, tuple[int, int]] = {}
    reader = Reader(file, DEFAULT)
    for count, member in enumerate(members(reader, DEFAULT)):
        if count >= DEFAULT.entries:
            raise BadStream(f"it has more than {DEFAULT.entries} entries")
        if member.kind is Kind.FILE:
            name, place = os.fsdecode(member.name).removeprefix("./"), (reader.taken, member.size)
            if found.setdefault(name, place) != place:
                raise BadMember(member.name, "it is there twice")
            for _ in reader.parts(member.size):
                pass
    return found


def _read_image_folder(source: Source) -> Found:
    @contextlib.contextmanager
    def opened(name: str) -> Iterator[Input]:
        try:
            fd = os.open(source.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BadStream(f"it has no {name}") from None
        with open(fd, "rb") as file:
            yield file

    return _image(source, opened)


def _image(source: Source, opened: _Open) -> Found:
    with opened("index.json") as file:
        rows = _list(_parsed(_limited(file)).get("manifests"))
    if len(rows) != 1:
        raise NotAnExport(source.path, f"a store of {len(rows)} images")
    manifest = _document(opened, rows[0])
    settings = _table(_document(opened, manifest.get("config")).get("config"))
    labels = _table(settings.get("Labels") or {})
    told = labels.get("builder.artifact")
    if not isinstance(told, str):
        raise NotAnExport(source.path, "an image of other software")
    name, version = (_text(labels.get(f"org.opencontainers.image.{key}")) for key in ("title", "version"))
    tree = _artifact(source, opened, [_digest(layer) for layer in _list(manifest.get("layers"))])
    if str(tree.digest) != told:
        raise OtherArtifact(source.path, show(told[:80].encode("utf-8", "replace")), str(tree.digest))
    return Found(name, version, tree)


def _artifact(source: Source, opened: _Open, layers: list[str]) -> Manifest:
    """What all layers together hold where artifacts lie."""
    if len(layers) > LAYERS:
        raise BadStream(f"it has more than {LAYERS} layers")
    entries: list[tuple[bytes, Node]] = []
    bounds = DEFAULT
    for layer in layers:
        with _blob(opened, layer) as blob:
            label = f"{source.path}: {layer[:19]}"
            tree = read_tar(source.watched(blob), source.sink, label, inside=_INSIDE, bounds=bounds)
        entries += tree.entries
        bounds = replace(bounds, total=bounds.total - tree.size, entries=bounds.entries - len(tree))
    whole = Manifest.with_parents(entries)
    return whole.below(_INSIDE) if entries else whole


class _Hashed:
    """Bytes, and the sha256 of those that were read."""

    def __init__(self, file: Input) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


@contextlib.contextmanager
def _blob(opened: _Open, digest: str) -> Iterator[Input]:
    """A blob, to be read to its end. Raises BadStream when it has not the digest that is its name."""
    with opened(f"blobs/sha256/{digest.removeprefix('sha256:')}") as file:
        hashed = _Hashed(file)
        yield hashed
        if hashed.read(1) or f"sha256:{hashed.hash.hexdigest()}" != digest:
            raise BadStream(f"its part {digest} has other bytes than its name says")


def _document(opened: _Open, descriptor: object) -> dict[str, object]:
    with _blob(opened, _digest(descriptor)) as blob:
        return _parsed(_limited(blob))


def _limited(file: Input) -> bytes:
    data = bytearray()
    while piece := file.read(DOCUMENT):
        data += piece
        if len(data) > DOCUMENT:
            raise BadStream(f"a document of more than {DOCUMENT} bytes")
    return bytes(data)


# -- JSON, of which nothing is sure --


def _parsed(data: bytes) -> dict[str, object]:
    try:
        return _table(json.loads(data))
    except (ValueError, RecursionError):
        raise BadStream("a document of the image is no JSON") from None


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadStream("a document of the image is damaged")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise BadStream("a document of the image is damaged")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadStream("the image does not say its name and version")
    return value


def _digest(descriptor: object) -> str:
    digest = _table(descriptor).get("digest")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise BadStream("a document of the image has a damaged digest")
    return digest


def _begins(magic: bytes, at: int = 0) -> Callable[[BinaryIO], bool]:
    def fits(file: BinaryIO) -> bool:
        file.seek(at)
        return file.read(len(magic)) == magic

    return fits


FORMATS = (
    Format(_begins(ZSTD), _read_archive),
    Format(_begins(b"ustar", 257), _read_image_file),
    Format(lambda file: onefile_read.find(file) is not None, _read_run),
)
_FOLDER = Format(lambda _: False, _read_image_folder)
