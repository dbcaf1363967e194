"""The parts of a 64-bit little-endian ELF file that a graft rewrites (gABI, chapters 4 and 5).

Reading for its own sake is in launcher/elf.py. Here every field is kept, so that what is not understood is written back
as it was.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from store.errors import Error

PT_NULL, PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_PHDR = 0, 1, 2, 3, 4, 6
PT_GNU_EH_FRAME, PT_GNU_STACK, PT_GNU_RELRO = 0x6474E550, 0x6474E551, 0x6474E552
PF_X, PF_W, PF_R = 1, 2, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_DYNAMIC, SHT_NOBITS = 1, 2, 3, 6, 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_DEBUG, DT_RUNPATH = 0, 1, 5, 10, 14, 15, 21, 29

MAX_SEGMENTS = 64
MAX_SECTIONS = 0xFF00
MAX_DYNAMIC = 100_000


class BadElf(Error):
    """A file that begins as an ELF and is not one that can be read; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a damaged ELF file: {reason}")
        self.reason = reason


class _Record:
    """A C structure: the fields of the class in the order of its ``FORM``."""

    __slots__ = ()
    FORM: ClassVar[struct.Struct]

    @classmethod
    def read(cls, data: bytes | bytearray, offset: int) -> Self:
        """The structure at ``offset``. Raises BadElf when it is not all there."""
        if not 0 <= offset <= len(data) - cls.FORM.size:
            raise BadElf(f"its {cls.__name__.lower()} at {offset:#x} is cut off")
        return cls(*cls.FORM.unpack_from(data, offset))

    def pack(self) -> bytes:
        """Its bytes."""
        return self.FORM.pack(*[getattr(self, field.name) for field in fields(self)])  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Header(_Record):
    """Elf64_Ehdr."""

    FORM: ClassVar[struct.Struct] = struct.Struct("<16sHHIQQQIHHHHHH")
    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


@dataclass(frozen=True, slots=True)
class Segment(_Record):
    """Elf64_Phdr."""

    FORM: ClassVar[struct.Struct] = struct.Struct("<IIQQQQQQ")
    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    align: int


@dataclass(frozen=True, slots=True)
class Section(_Record):
    """Elf64_Shdr. ``name`` is an offset in the section names."""

    FORM: ClassVar[struct.Struct] = struct.Struct("<IIQQQQIIQQ")
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


@dataclass(frozen=True, slots=True)
class Symbol(_Record):
    """Elf64_Sym. ``name`` is an offset in the symbols' names."""

    FORM: ClassVar[struct.Struct] = struct.Struct("<IBBHQQ")
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


@dataclass(frozen=True, slots=True)
class Dynamic(_Record):
    """Elf64_Dyn."""

    FORM: ClassVar[struct.Struct] = struct.Struct("<QQ")
    tag: int
    value: int


def read_string(data: bytes | bytearray, offset: int, limit: int = 1 << 20) -> bytes:
    """The NUL-terminated string at ``offset``. Raises BadElf when it has no end within ``limit`` bytes."""
    end = data.find(b"\0", offset, offset + limit) if 0 <= offset < len(data) else -1
    if end < 0:
        raise BadElf(f"its string at {offset:#x} has no end")
    return bytes(data[offset:end])


def read_segments(data: bytes | bytearray, header: Header) -> list[Segment]:
    """The program headers. Raises BadElf."""
    if header.phnum and header.phentsize != Segment.FORM.size:
        raise BadElf(f"program headers of {header.phentsize} bytes")
    if header.phnum > MAX_SEGMENTS:
        raise BadElf(f"{header.phnum} program headers")
    return [Segment.read(data, header.phoff + n * Segment.FORM.size) for n in range(header.phnum)]


def read_sections(data: bytes | bytearray, header: Header) -> list[Section]:
    """The section headers; none when there are none, or not where the header says: nothing that runs depends on them."""
    end = header.shoff + header.shnum * Section.FORM.size
    if not header.shoff or header.shentsize != Section.FORM.size or end > len(data) or header.shnum > MAX_SECTIONS:
        return []
    return [Section.read(data, header.shoff + n * Section.FORM.size) for n in range(header.shnum)]


def offset_of(segments: list[Segment], address: int) -> int:
    """Where in the file the byte is that is loaded at ``address``. Raises BadElf when none is."""
    for segment in segments:
        if segment.type == PT_LOAD and segment.address <= address < segment.address + segment.file_size:
            return address - segment.address + segment.offset
    raise BadElf(f"no segment has the address {address:#x}")


def read_dynamic(data: bytes | bytearray, offset: int) -> list[Dynamic]:
    """The entries of the dynamic section at ``offset``, without the DT_NULL that ends it. Raises BadElf."""
    entries: list[Dynamic] = []
    while len(entries) < MAX_DYNAMIC:
        entry = Dynamic.read(data, offset + len(entries) * Dynamic.FORM.size)
        if entry.tag == DT_NULL:
            return entries
        entries.append(entry)
    raise BadElf("its dynamic section has no end")
