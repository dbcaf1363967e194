"""Debug information: which files of an output have some, and where gdb looks for it when it lies apart. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from launcher import sections
from launcher.elf import is_elf
from launcher.graft import covered
from launcher.layout import (
    PT_INTERP,
    PT_NOTE,
    SHF_ALLOC,
    BadElf,
    Header,
    Segment,
    read_segments,
)
from launcher.sections import Sections
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest, Node, Symlink, show

# gdb and all others look there below each of their folders of debug information, by default /usr/lib/debug.
FOLDER = b"lib/debug/.build-id"
# What a debuginfod is asked for: so the tree is one, served over HTTP or as file://.
ASKED = b"buildid"
_NAMES = (b".debug_", b".zdebug_")
_ET_EXEC, _ET_DYN = 2, 3
_NOTE = struct.Struct("<III")
_BUILD_ID = (b"GNU\0", 3)
_MAX_NOTES = 1024
# Linkers make 8, 16 or 20 bytes of it; the first one names a directory.
_LENGTHS = range(2, 65)


class NoDebugInformation(Error):
    """An output from which debug information is to be split off, and that has none."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"{label} has no debug information that could be split off",
            hint="Compile with -g, and let no `strip` or `install -s` take it away; or leave `debug` out of the recipe.",
        )


class NoBuildId(Error):
    """Files whose debug information gdb could not find by a build id, because they have none."""

    def __init__(self, paths: tuple[bytes, ...]) -> None:
        listed = "\n".join(f"  {show(path)}" for path in paths)
        super().__init__(
            f"files with debug information and without a build id:\n{listed}",
            hint="Link them with -Wl,--build-id, as Debian's gcc does, or list them under `keep`: then they stay whole.",
        )
        self.paths = paths


@dataclass(frozen=True, slots=True)
class Described:
    """A file with debug information: its build id, and the paths that it has in the output."""

    file: File
    build_id: bytes
    paths: tuple[bytes, ...]


def described(output: Manifest, *, keep: Iterable[str], read: Callable[[Digest], bytes]) -> list[Described]:
    """Every program and library of ``output`` with debug information. Raises NoBuildId.

    Left out, and so left whole: what ``keep`` lists, objects and archives of them, programs with a payload behind them,
    which would be lost, files that hold nothing but debug information, and what is no 64-bit little-endian ELF file.
    """
    kept = tuple(path.encode().strip(b"/") for path in keep)
    paths: dict[File, list[bytes]] = {}
    for path, node in output.files:
        if not any(path == one or path.startswith(one + b"/") for one in kept):
            paths.setdefault(node, []).append(path)
    found = [(node, _identity(read(node.blob)), tuple(names)) for node, names in paths.items()]
    without = [path for _, identity, names in found if identity is not None and len(identity) not in _LENGTHS for path in names]
    if without:
        raise NoBuildId(tuple(sorted(without)))
    return [Described(node, identity, names) for node, identity, names in found if identity is not None]


def laid_out(apart: Iterable[tuple[bytes, File]]) -> Manifest:
    """The tree in which debug information is found by build id. Of several files with one build id, the first is."""
    nodes: dict[bytes, Node] = {}
    for build_id, file in apart:
        digits = build_id.hex().encode()
        place = b"%s/%s/%s.debug" % (FOLDER, digits[:2], digits[2:])
        nodes.setdefault(place, file)
        nodes[b"%s/%s/debuginfo" % (ASKED, digits)] = Symlink(b"../../" + place)
    return Manifest.with_parents(nodes.items())


def for_launcher(data: bytes) -> bytes:
    """Debug information that was split off a dynamic program, so that gdb takes it for that of its launcher, too."""
    try:
        header = Header.read(data, 0)
        segments = read_segments(data, header)
    except BadElf:
        return data
    own = sections.read(data, header)
    if not own.headers or not any(segment.type == PT_INTERP for segment in segments):
        return data
    body = bytearray(data)
    header = sections.write(body, sections.of_debug_information(own), header)
    return header.pack() + bytes(body[Header.FORM.size :])


def _identity(data: bytes) -> bytes | None:
    """The build id of a file whose debug information can be split off, b"" if it has none; None for all other files."""
    if not is_elf(data) or data[4:6] != b"\x02\x01":
        return None
    try:
        header = Header.read(data, 0)
        if header.type not in (_ET_EXEC, _ET_DYN):
            return None
        segments = read_segments(data, header)
        own = sections.read(data, header)
    except BadElf:
        return None  # nothing that could be started: packing says so where it matters
    if not _has_debug(own) or data[covered(header, segments, own) :].strip(b"\0"):
        return None
    return next(_build_ids(data, segments), b"")


def _has_debug(own: Sections) -> bool:
    apart = [section for section in own.headers if not section.flags & SHF_ALLOC and section.size]
    return not sections.are_apart(own.headers) and any(own.name(section).startswith(_NAMES) for section in apart)


def _build_ids(data: bytes, segments: list[Segment]) -> Iterator[bytes]:
    for segment in segments:
        at, end = segment.offset, min(segment.offset + segment.file_size, len(data))
        step = 8 if segment.align == 8 else 4
        if segment.type != PT_NOTE:
            continue
        for _ in range(_MAX_NOTES):
            if at + _NOTE.size > end:
                break
            name_size, size, kind = _NOTE.unpack_from(data, at)
            name = at + _NOTE.size
            start = _up(name + name_size, step)
            at = _up(start + size, step)
            if (data[name : name + name_size], kind) == _BUILD_ID and start + size <= end:
                yield data[start : start + size]


def _up(value: int, step: int) -> int:
    return (value + step - 1) & -step
