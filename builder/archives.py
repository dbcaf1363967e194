"""Archives into trees: names through the manifest's constructor, bytes into blobs. Nothing is ever written under its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from builder.deb822 import BadParagraph, paragraphs
from builder.streams import BadStream, Bounds, Input, Reader
from builder.tars import BadMember, Kind, Member, members
from store.errors import Error
from store.manifest import DIRECTORY, BadEntry, Directory, File, Manifest, Node, Symlink, check_path, show

DEFAULT = Bounds()
SMALL = 1 << 20  # bytes: files up to this are added from memory
CONTROL = 1 << 20  # bytes that the control file of a package may have

_MERGED = (b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32")


class BadArchive(Error):
    """An archive that cannot be taken. ``archive`` is its label, ``entry`` the name at fault, or empty."""

    def __init__(self, archive: str, entry: bytes, reason: str, *, hint: str = "") -> None:
        where = f"{archive}: {show(entry)}" if entry else archive
        super().__init__(f"{where}: {reason}", hint=hint)
        self.archive = archive
        self.entry = entry
        self.reason = reason


class Sink(Protocol):
    """What takes blobs: a store's batch."""

    def add_bytes(self, data: bytes, *, executable: bool = False) -> File:
        """Add a blob from memory."""

    def add_stream(self, chunks: Iterable[bytes], *, executable: bool = False, limit: int = 1 << 40) -> File:
        """Add a blob from its bytes in pieces."""


@dataclass(frozen=True, slots=True)
class Deb:
    """What a Debian package (deb(5)) says of itself, and the tree that it holds."""

    package: str
    version: str
    architecture: str
    tree: Manifest


def read_tar(file: Input, sink: Sink, label: str, *, strip: int = 0, inside: bytes = b"", bounds: Bounds = DEFAULT) -> Manifest:
    """The tree of a tar archive, compressed or not, without the first ``strip`` components of each name.

    With ``inside``, only of what its folder of that name holds. Blobs go to ``sink``. Owners, times and all modes but
    "executable" are forgotten. ``label`` names the archive in messages. Raises BadArchive.
    """
    try:
        return _tree(Reader(file, bounds), label, _Building(sink, strip, bounds, inside and inside + b"/"))
    except BadMember as error:
        raise BadArchive(label, error.name, error.reason) from None
    except BadStream as error:
        raise BadArchive(label, b"", error.message) from None


def read_deb(file: Input, sink: Sink, label: str, *, bounds: Bounds = DEFAULT) -> Deb:
    """A Debian package: ``debian-binary``, ``control.tar*`` and ``data.tar*`` in an ar archive (deb(5)). Raises BadArchive."""
    try:
        fields: dict[str, str] | None = None
        tree: Manifest | None = None
        for number, (name, part) in enumerate(_ar_members(file)):
            if number == 0:
                if name != b"debian-binary" or not part.read(16).startswith(b"2."):
                    raise BadStream("not a Debian package of format 2")
            elif name.startswith(b"control.tar") and fields is None and tree is None:
                fields = _control(Reader(part, bounds), bounds)
            elif name.startswith(b"data.tar") and fields is not None and tree is None:
                tree = _tree(Reader(part, bounds), label, _Building(sink, 0, bounds))
            elif tree is None and not name.startswith(b"_"):
                raise BadStream(f"its part {show(name)} is not one that a Debian package has here")
        if fields is None or tree is None:
            raise BadStream("it has no control.tar or no data.tar")
        return Deb(fields["Package"], fields["Version"], fields["Architecture"], tree)
    except BadMember as error:
        raise BadArchive(label, error.name, error.reason) from None
    except BadStream as error:
        raise BadArchive(label, b"", error.message) from None


def control_fields(file: Input, label: str) -> dict[str, str]:
    """Every field of a Debian package's control file. Raises BadArchive."""
    try:
        for name, part in _ar_members(file):
            if name.startswith(b"control.tar"):
                return _control(Reader(part, DEFAULT), DEFAULT)
        raise BadStream("it has no control.tar")
    except BadStream as error:
        raise BadArchive(label, b"", error.message) from None


def usr_merged(tree: Manifest) -> Manifest:
    """The same tree with what lies in bin, sbin, lib, lib32, lib64 and libx32 moved into usr.

    Then a root can have the symlinks ``bin -> usr/bin`` and so on that Debian's have (https://wiki.debian.org/UsrMerge). The
    moved directories, and symlinks to what they are moved into, are left out. Raises BadEntry when a name is in both places
    with different contents.
    """
    if not any(name in tree for name in _MERGED):
        return tree
    nodes: dict[bytes, Node] = {}
    for path, node in tree.entries:
        top, slash, _ = path.partition(b"/")
        if top in _MERGED:
            if not slash and type(node) is not Directory:
                if node == Symlink(b"usr/" + top):
                    continue
                raise BadEntry(path, "it is no directory, and cannot be merged into usr")
            nodes.setdefault(b"usr", DIRECTORY)
            path = b"usr/" + path
        known = nodes.setdefault(path, node)
        if known != node:
            raise BadEntry(path, "it is in usr and beside it, with different contents")
    return Manifest(nodes.items())


# -- tar --


def _tree(reader: Reader, label: str, building: _Building) -> Manifest:
    for member in members(reader, building.bounds):
        building.add(member, reader)
    try:
        return Manifest.with_parents(building.nodes.items())
    except BadEntry as error:
        raise BadArchive(label, error.path, error.reason) from None


@dataclass(slots=True)
class _Building:
    sink: Sink
    strip: int
    bounds: Bounds
    start: bytes = b""
    nodes: dict[bytes, Node] = field(default_factory=dict)
    count: int = 0

    def add(self, member: Member, reader: Reader) -> None:
        self.count += 1
        if self.count > self.bounds.entries:
            raise BadStream(f"it has more than {self.bounds.entries} entries")
        path = self.path(member.name, member.name)
        if not path.startswith(self.start):
            for _ in reader.parts(member.size):
                pass
            return
        if not path:
            if member.kind is not Kind.DIRECTORY:
                raise BadMember(member.name, f"nothing is left of its name without {self.strip} leading components")
            return
        known = self.nodes.get(path)
        if known is not None:
            if member.kind is Kind.DIRECTORY and type(known) is Directory:
                return
            raise BadMember(member.name, "it is there twice")
        self.nodes[path] = self.node(member, reader)

    def node(self, member: Member, reader: Reader) -> Node:
        match member.kind:
            case Kind.DIRECTORY:
                return DIRECTORY
            case Kind.SYMLINK:
                try:
                    return Symlink(member.target)
                except BadEntry as error:
                    raise BadMember(member.name, error.reason) from None
            case Kind.LINK:
                first = self.nodes.get(self.path(member.target, member.name))
                if first is None or type(first) is Directory:
                    raise BadMember(member.name, f"a hard link to {show(member.target)}, which is no file before it")
                return first
            case Kind.FILE if member.size <= SMALL:
                return self.sink.add_bytes(reader.exactly(member.size), executable=member.executable)
            case Kind.FILE:
                return self.sink.add_stream(reader.parts(member.size), executable=member.executable)

    def path(self, name: bytes, member: bytes) -> bytes:
        """The path that ``name`` stands for in the tree: nothing when it is the top, or above."""
        if name.startswith(b"/"):
            raise BadMember(member, "an absolute name")
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise BadMember(member, "a name that leads out of its directory")
        if len(parts) > self.bounds.depth:
            raise BadMember(member, f"a name of more than {self.bounds.depth} components")
        path = b"/".join(parts[self.strip :])
        if not path:
            return b""
        try:
            return check_path(path)
        except BadEntry as error:
            raise BadMember(member, error.reason) from None


# -- deb --


class Part:
    """``size`` bytes of a file, from where it is. Raises BadStream when there are not that many."""

    def __init__(self, file: Input, size: int) -> None:
        self._file = file
        self.left = size

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        data = self._file.read(min(size, self.left))
        if self.left and not data:
            raise BadStream("it is cut off")
        self.left -= len(data)
        return data


def _ar_members(file: Input) -> Iterator[tuple[bytes, Part]]:
    """The members of an ar archive, in the common format (ar(5)). What was not read of one is passed over."""
    if file.read(8) != b"!<arch>\n":
        raise BadStream("no ar archive, and so no Debian package")
    while header := file.read(60):
        name, digits = header[:16].rstrip(b" ").removesuffix(b"/"), header[48:58].rstrip(b" ")
        if len(header) != 60 or header[58:] != b"`\n" or not digits.isdigit():
            raise BadStream("the header of a part is damaged")
        part = Part(file, int(digits))
        padding = part.left % 2
        yield name, part
        while part.left:
            part.read(1 << 20)
        # dpkg-deb leaves out the padding of the last one.
        if padding and file.read(1) not in (b"\n", b""):
            raise BadStream("the padding of a part is damaged")


def _control(reader: Reader, bounds: Bounds) -> dict[str, str]:
    fields: dict[str, str] = {}
    for member in members(reader, bounds):
        if member.kind is not Kind.FILE:
            continue
        if member.name.removeprefix(b"./") != b"control":
            for _ in reader.parts(member.size):
                pass
            continue
        if member.size > CONTROL:
            raise BadMember(member.name, f"a control file of more than {CONTROL} bytes")
        try:
            fields = next(paragraphs([reader.exactly(member.size)]), {})
        except BadParagraph as error:
            raise BadMember(member.name, error.reason) from None
    for key in ("Package", "Version", "Architecture"):
        if not fields.get(key):
            raise BadStream(f"its control file has no field {key}")
    return fields
