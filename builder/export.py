"""Exports: an artifact as something that a person can hand on. Each format has a row in FORMATS.

An export appears under its name when all of it is on the disk, and never in the place of something else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from builder import oci, onefile, programs, tarball
from store import files, trees
from store.batch import CHUNK
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest, Node
from store.store import Damaged, Store


class InTheWay(Error):
    """There is something at ``path`` already."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is there already", hint="Exports replace nothing: remove it, or choose another name with -o.")
        self.path = path


class NoFormat(Error):
    """A name that says of no format."""

    def __init__(self, path: Path) -> None:
        listed = ", ".join(f"{ending} ({name})" for name, form in FORMATS.items() for ending in form.endings)
        super().__init__(
            f"{path}: the name does not say what format it is to have",
            hint=f"Say it with --format ({', '.join(FORMATS)}), or by the ending: {listed}.",
        )


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported, and how.

    ``entrypoint`` is an image's or one file's, ``labels`` are an image's; ``report`` is told of bytes as they are read.
    """

    store: Store
    artifact: Manifest
    name: str
    version: str
    threads: int
    entrypoint: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    report: Callable[[int], None] = lambda _: None

    def contents(self, file: File) -> Iterator[bytes]:
        """The bytes of a file of the artifact. Raises MissingBlob or Damaged."""
        hasher = blake3()
        with self.store.open_blob(file.blob) as blob:
            while piece := blob.read(CHUNK):
                hasher.update(piece)
                self.report(len(piece))
                yield piece
            if Digest(hasher.digest()) != file.blob:
                raise Damaged(Path(blob.name))

    def head(self, file: File) -> bytes:
        """Its first bytes."""
        with self.store.open_blob(file.blob) as blob:
            return blob.read(64)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: ``size`` in bytes, the sha256 of a file (a folder has none), and the digest of an image."""

    path: Path
    size: int
    sha256: str | None
    image: str | None


@dataclass(frozen=True, slots=True)
class Format:
    """A format, and the endings that say it.

    ``write`` makes it at a path whose name is the final one, and gives an image's digest or None.
    """

    endings: tuple[str, ...]
    write: Callable[[Export, Path], str | None]


def format_of(path: Path) -> str:
    """The format that a name says. Raises NoFormat."""
    for name, form in FORMATS.items():
        if path.name.endswith(form.endings) and form.endings:
            return name
    raise NoFormat(path)


def write(export: Export, kind: str, path: Path) -> Exported:
    """Write the artifact to ``path`` in a format. Raises InTheWay, Damaged, MissingBlob, and what the format does."""
    path = Path(os.path.abspath(path))
    if os.path.lexists(path):
        raise InTheWay(path)
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", dir=path.parent))
        try:
            made = work / path.name
            image = FORMATS[kind].write(export, made)
            size, sha256 = _measure(made)
            with files.directory(work) as fd:
                files.sync_file_system(fd)
            # Looked at again: what we do takes a while, and a rename would replace a file that came meanwhile.
            if os.path.lexists(path):
                raise InTheWay(path)
            made.rename(path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise files.explain(error, str(path)) from error
    return Exported(path, size, sha256, image)


def _measure(place: Path) -> tuple[int, str | None]:
    if place.is_dir():
        return sum(os.lstat(Path(folder, name)).st_size for folder, _, names in os.walk(place) for name in names), None
    with open(place, "rb") as file:
        return place.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


# -- formats --


def _write_dir(export: Export, place: Path) -> None:
    place.mkdir()
    with files.directory(place) as fd:
        trees.check_out(export.store, export.artifact, fd, copy=True)
        # Copied inside the kernel, so that damage is looked for in the copy.
        for path, node in export.artifact.files:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd), "rb") as file:
                if _digest(iter(lambda: file.read(CHUNK), b"")) != node.blob:
                    raise Damaged(export.store.blob_path(node.blob, executable=node.executable))
            export.report(node.size)
        os.utime(fd, (files.EPOCH, files.EPOCH))


def _write_tar_zst(export: Export, place: Path) -> None:
    top = f"{export.name}-{export.version}".encode()
    _fill(place, tarball.zstd(tarball.stream(export.artifact, export.contents, top=top), threads=export.threads))


def _write_oci(export: Export, place: Path) -> str:
    archived = place.name.endswith(".tar")
    layout = place.with_name("layout") if archived else place
    image = write_image(export, layout)
    if archived:
        tree, where = _read_layout(layout)
        _fill(place, tarball.stream(tree, lambda file: _pieces(where[file.blob])))
    return image.manifest.digest


def _write_run(export: Export, place: Path) -> None:
    every = tuple(programs.names(export.artifact))
    if not every:
        raise programs.NoProgram
    about = onefile.About(
        export.artifact,
        export.name,
        export.version,
        programs.machine(export.artifact, export.head),
        every,
        programs.main(every, export.name, export.entrypoint),
    )
    onefile.write(about, export.contents, export.head, place, threads=export.threads)


def write_image(export: Export, layout: Path) -> oci.Image:
    """The image layout of an artifact, in the new folder ``layout``."""
    about = oci.settings(
        export.artifact,
        export.head,
        name=export.name,
        version=export.version,
        entrypoint=export.entrypoint,
        labels=export.labels,
    )
    layout.mkdir()
    return oci.write(export.artifact, about, export.contents, layout)


def _read_layout(layout: Path) -> tuple[Manifest, Mapping[Digest, Path]]:
    """An image layout as a tree, and where the bytes of its files are."""
    nodes: list[tuple[bytes, Node]] = []
    where = {}
    for place in sorted(path for path in layout.rglob("*") if path.is_file()):
        digest = _digest(_pieces(place))
        where[digest] = place
        nodes.append((os.fsencode(place.relative_to(layout)), File(digest, place.stat().st_size, False)))
    return Manifest.with_parents(nodes), where


def _digest(pieces: Iterable[bytes]) -> Digest:
    hasher = blake3()
    for piece in pieces:
        hasher.update(piece)
    return Digest(hasher.digest())


def _pieces(place: Path) -> Iterator[bytes]:
    with open(place, "rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _fill(place: Path, pieces: Iterable[bytes]) -> None:
    with open(place, "xb") as file:
        for piece in pieces:
            file.write(piece)


FORMATS: Mapping[str, Format] = {
    "dir": Format((), _write_dir),
    "tar.zst": Format((".tar.zst",), _write_tar_zst),
    "oci": Format((".oci", ".oci.tar"), _write_oci),
    "run": Format((".run",), _write_run),
}
