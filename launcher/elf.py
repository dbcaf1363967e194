"""Reading ELF files: what a program or library is, and what it asks of the loader. Every read is bounded."""

from __future__ import annotations

import enum
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

from launcher import config, sections
from launcher.config import Config
from launcher.layout import MAX_SEGMENTS, BadElf, Header, read_sections, read_string

MAGIC = b"\x7fELF"
MAX_DYNAMIC = 4096
MAX_NOTES = 1024
MAX_PATH = 4096
# https://systemd.io/ELF_DLOPEN_METADATA/: the note's owner and type.
_DLOPEN = (b"FDO\0", 0x407C0C0A)
_DF_1_PIE = 0x08000000


class Kind(enum.Enum):
    """What an ELF file is to the kernel and the loader."""

    PROGRAM = "program"
    STATIC = "static program"
    LIBRARY = "library"
    DEBUG = "debug information"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Dlopen:
    """One feature's dlopen note: the sonames that will do, best first, and whether the program fails without any."""

    sonames: tuple[bytes, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class Elf:
    """What an ELF file says of itself.

    ``bits`` is 32 or 64, ``machine`` pyelftools' name of its CPU. ``rpath`` and ``runpath`` are split at colons.
    ``launcher`` is set when a launcher was put into it; the other fields are then those that it had before.
    """

    kind: Kind
    bits: int
    machine: str
    interpreter: bytes = b""
    needed: tuple[bytes, ...] = ()
    soname: bytes = b""
    rpath: tuple[bytes, ...] = ()
    runpath: tuple[bytes, ...] = ()
    dlopen: tuple[Dlopen, ...] = ()
    launcher: Config | None = None


def is_elf(data: bytes) -> bool:
    """Whether the bytes begin as an ELF file does."""
    return data.startswith(MAGIC)


def read(data: bytes) -> Elf:
    """What the ELF file ``data`` says of itself. Raises BadElf when it is damaged."""
    try:
        return _Reader(data).read()
    except ELFError as error:
        raise BadElf(str(error).split("\n", 1)[0] or "unreadable") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        # pyelftools looks up sections while it opens a file, and trusts their numbers.
        raise BadElf(f"unreadable ({type(error).__name__})") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        # With more sections than 16 bits can count, the number is in section 0, where a hostile file may say anything.
        self.elf = ELFFile(io.BytesIO(data))
        self.structs = self.elf.structs
        count, size = self.elf["e_phnum"], self.structs.Elf_Phdr.sizeof()
        if count > MAX_SEGMENTS:
            raise BadElf(f"{count} program headers")
        if count and self.elf["e_phentsize"] != size:
            raise BadElf(f"program headers of {self.elf['e_phentsize']} bytes")
        self.segments = [self.record(self.structs.Elf_Phdr, self.elf["e_phoff"] + n * size, size) for n in range(count)]

    def record(self, form: Any, offset: int, size: int) -> Any:
        if not 0 <= offset <= len(self.data) - size:
            raise BadElf(f"a header at {offset:#x} is cut off")
        return struct_parse(form, self.elf.stream, offset)

    def offset_of(self, address: int) -> int:
        for s in self.segments:
            if s.p_type == "PT_LOAD" and s.p_vaddr <= address < s.p_vaddr + s.p_filesz:
                return int(address - s.p_vaddr + s.p_offset)
        raise BadElf(f"no segment has the address {address:#x}")

    def first(self, kind: str) -> Any | None:
        return next((s for s in self.segments if s.p_type == kind), None)

    def dynamic(self, offset: int) -> Iterator[tuple[str, int]]:
        form = self.structs.Elf_Dyn
        size = form.sizeof()
        for n in range(MAX_DYNAMIC):
            entry = self.record(form, offset + n * size, size)
            if entry.d_tag == "DT_NULL":
                return
            yield entry.d_tag, entry.d_val
        raise BadElf("its dynamic section has no end")

    def launcher(self) -> Config | None:
        entry = self.elf["e_entry"]
        for s in self.segments:
            if s.p_type == "PT_LOAD" and s.p_vaddr <= entry < s.p_vaddr + s.p_filesz:
                # A script launcher's headers are in the same segment, before its configuration.
                start = entry - config.SIZE
                return config.read(self.data, start - s.p_vaddr + s.p_offset, address=start) if start >= 0 else None
        return None

    def read(self) -> Elf:
        bits, machine, kind = self.elf.elfclass, str(self.elf["e_machine"]), self.elf["e_type"]
        if kind not in ("ET_EXEC", "ET_DYN"):
            return Elf(Kind.OTHER, bits, machine)
        if bits == 64 and self.elf.little_endian and sections.are_apart(read_sections(self.data, Header.read(self.data, 0))):
            return Elf(Kind.DEBUG, bits, machine)
        known = self.launcher() if bits == 64 and self.elf.little_endian else None
        if known and not known.graft:
            return Elf(Kind.STATIC, bits, machine, launcher=known)
        interpreter, dynamic = b"", None
        if known and known.graft:
            interpreter = read_string(self.data, self.offset_of(known.graft.was_interp), MAX_PATH)
            dynamic = self.offset_of(known.graft.was_dynamic)
        else:
            if named := self.first("PT_INTERP"):
                interpreter = read_string(self.data, named.p_offset, MAX_PATH)
            if linked := self.first("PT_DYNAMIC"):
                dynamic = linked.p_offset
        entries = list(self.dynamic(dynamic)) if dynamic is not None else []
        tags = dict(reversed(entries))
        strings = self.offset_of(tags["DT_STRTAB"]) if "DT_STRTAB" in tags else -1

        def texts(tag: str) -> list[bytes]:
            return [
                read_string(self.data, strings + value, MAX_PATH) for known, value in entries if known == tag and strings >= 0
            ]

        def paths(tag: str) -> tuple[bytes, ...]:
            return tuple(path for text in texts(tag)[:1] for path in text.split(b":") if path)

        soname = next(iter(texts("DT_SONAME")), b"")
        pie = bool(tags.get("DT_FLAGS_1", 0) & _DF_1_PIE)
        return Elf(
            _kind(kind == "ET_EXEC", pie, interpreter, soname),
            bits,
            machine,
            interpreter,
            tuple(texts("DT_NEEDED")),
            soname,
            paths("DT_RPATH"),
            paths("DT_RUNPATH"),
            tuple(self.dlopen()),
            known,
        )

    def dlopen(self) -> Iterator[Dlopen]:
        form, size = self.structs.Elf_Nhdr, 12
        for s in self.segments:
            at, end = s.p_offset, min(s.p_offset + s.p_filesz, len(self.data))
            if s.p_type != "PT_NOTE":
                continue
            step = 8 if s.p_align == 8 else 4
            for _ in range(MAX_NOTES):
                if at + size > end:
                    break
                note = self.record(form, at, size)
                start = _up(at + size + note.n_namesz, step)
                name, text = self.data[at + size : at + size + note.n_namesz], self.data[start : start + note.n_descsz]
                at = _up(start + note.n_descsz, step)
                if name == _DLOPEN[0] and note.n_type == _DLOPEN[1] and at <= _up(end, step):
                    yield from _read_note(text)


def _up(value: int, step: int) -> int:
    return (value + step - 1) & -step


def _kind(fixed: bool, pie: bool, interpreter: bytes, soname: bytes) -> Kind:
    # libc.so.6 can be started too, and names an interpreter; but it has a soname, and no linker marked it as a program.
    if fixed or pie or (interpreter and not soname):
        return Kind.PROGRAM if interpreter else Kind.STATIC
    return Kind.LIBRARY


def _read_note(text: bytes) -> Iterator[Dlopen]:
    try:
        rows = json.loads(text.rstrip(b"\0"))
    except (ValueError, RecursionError):
        raise BadElf("its dlopen note is not JSON") from None
    for row in rows if isinstance(rows, list) else [rows]:
        match row:
            case {"soname": [*names]} if names and all(isinstance(name, str) and name for name in names):
                yield Dlopen(tuple(name.encode() for name in names), row.get("priority") == "required")
            case _:
                raise BadElf("its dlopen note names no library")
