"""Grafting: a dynamic program becomes a launcher, with two segments appended and nothing in it moved.

    read, execute   configuration and machine code (launcher/stub), a second program header table, the string table
                    with the names that are added
    read, write     the dynamic section; then, zeroed and not in the file, memory for the launcher

The program's own table keeps its size: the two segments take the places of PT_INTERP, so that the kernel sees a static
program, and of PT_PHDR. The second table is what the interpreter is shown: the program's own with both of these, and
with the new segments. Section headers are written anew at the end (launcher/sections.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from launcher import config, sections
from launcher.bootstrap import Bootstrap
from launcher.config import Config, Graft
from launcher.layout import (
    DT_DEBUG,
    DT_NEEDED,
    DT_NULL,
    DT_RPATH,
    DT_RUNPATH,
    DT_STRSZ,
    DT_STRTAB,
    PF_R,
    PF_W,
    PF_X,
    PT_DYNAMIC,
    PT_GNU_EH_FRAME,
    PT_INTERP,
    PT_LOAD,
    PT_NOTE,
    PT_NULL,
    PT_PHDR,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_DYNAMIC,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_STRTAB,
    BadElf,
    Dynamic,
    Header,
    Section,
    Segment,
    offset_of,
    read_dynamic,
    read_segments,
    read_string,
)
from launcher.sections import Sections
from store.errors import Error

# What may leave the kernel's table for the new segments. PT_NOTE and PT_GNU_EH_FRAME are for the program itself, which is
# shown the second table; they go only where a linker made no PT_PHDR.
_SPARE = (PT_INTERP, PT_PHDR, PT_NULL, PT_GNU_EH_FRAME, PT_NOTE)
_ALIGN = 16
# Above all addresses of a process (TASK_SIZE on x86-64 with four-level page tables).
_TOP = 1 << 47


class PayloadBehind(Error):
    """A program with ``size`` bytes behind its ELF part, which it may look for at any place of its file."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes lie behind the program")
        self.size = size


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where a program finds what it starts with, in texts in which ORIGIN is the program's own directory.

    ``needed`` are put before the program's own DT_NEEDED, ``run_path`` becomes its only DT_RPATH. The other fields are
    Config's.
    """

    interpreter: bytes
    needed: tuple[bytes, ...] = ()
    run_path: tuple[bytes, ...] = ()
    defaults: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Program:
    """A program without its launcher. ``data`` may be appended to; it lacks what ``sections`` holds, if that was at the end."""

    data: bytes
    header: Header
    segments: list[Segment]
    sections: Sections


def graft(data: bytes, wiring: Wiring, bootstrap: Bootstrap) -> bytes:
    """The launcher made of the dynamic program ``data``, which may be a launcher already.

    ``bootstrap`` is the machine code for its CPU. Raises BadElf and PayloadBehind.
    """
    program = _open(data)
    if program.header.machine != bootstrap.machine.number:
        raise BadElf(f"a program for the machine {program.header.machine}, and not for {bootstrap.machine.name}")
    page = bootstrap.machine.page
    body = bytearray(program.data)
    body.extend(bytes(-len(body) % _ALIGN))
    loads = [segment for segment in program.segments if segment.type == PT_LOAD]
    top = max(segment.address + segment.memory_size for segment in loads)

    linked = _link(program, wiring)
    made_up = 0 if any(segment.type == PT_PHDR for segment in program.segments) else 1
    headers = len(program.segments) + 2 + made_up
    stub = bootstrap.defaults if wiring.defaults else bootstrap.graft
    settings = Config(wiring.interpreter, wiring.defaults)
    code_size = _up(config.size_of(settings, stub), 8)
    table_size = headers * Segment.FORM.size
    memory_size = settings.memory_size + config.memory_for(linked.names)

    code_at = len(body)
    code = _up(top, page) + code_at % page
    table = code + code_size
    strings = table + table_size
    code_end = strings + len(linked.strings)
    dynamic_at = _up(code_at + code_end - code, _ALIGN)
    dynamic = _up(code_end, page) + dynamic_at % page
    section = b"".join(entry.pack() for entry in _place_strings(linked.entries, strings, len(linked.strings)))
    memory = dynamic + len(section)

    executable = Segment(PT_LOAD, PF_R | PF_X, code_at, code, code, code_end - code, code_end - code, page)
    writable = Segment(PT_LOAD, PF_R | PF_W, dynamic_at, dynamic, dynamic, len(section), len(section) + memory_size, page)
    new = Segment(PT_DYNAMIC, PF_R | PF_W, dynamic_at, dynamic, dynamic, len(section), len(section), 8)
    own = Segment(PT_PHDR, PF_R, code_at + code_size, table, table, table_size, table_size, 8)
    named = Segment(PT_INTERP, PF_R, dynamic_at + len(section), memory, memory, config.PATH, config.PATH, 1)

    wired = Graft(
        entry=program.header.entry,
        table=table,
        headers=headers,
        dynamic=dynamic,
        strings=strings,
        was_headers=len(program.segments),
        was_interp=next(segment.address for segment in program.segments if segment.type == PT_INTERP),
        was_dynamic=next(segment.address for segment in program.segments if segment.type == PT_DYNAMIC),
    )
    settings = dataclasses.replace(settings, graft=wired)
    replaced = {PT_PHDR: own, PT_INTERP: named, PT_DYNAMIC: new}
    shown = [replaced.get(segment.type, segment) for segment in program.segments]
    shown = [own] * made_up + _insert(shown, executable, writable)
    body.extend(config.write(settings, stub, address=code, memory=memory).ljust(code_size, b"\0"))
    body.extend(b"".join(segment.pack() for segment in shown))
    body.extend(linked.strings)
    body.extend(bytes(dynamic_at - len(body)))
    body.extend(section)

    kept = [new if segment.type == PT_DYNAMIC else segment for segment in _make_room(program.segments)]
    kept = _insert(kept, executable, writable)
    start = program.header.phoff
    body[start : start + len(kept) * Segment.FORM.size] = b"".join(segment.pack() for segment in kept)
    added = [
        Section(0, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, code, code_at, strings - code, 0, 0, 16, 0),
        Section(0, SHT_STRTAB, SHF_ALLOC, strings, code_at + strings - code, len(linked.strings), 0, 0, 1, 0),
        Section(0, SHT_DYNAMIC, SHF_ALLOC | SHF_WRITE, dynamic, dynamic_at, len(section), 0, 0, 8, Dynamic.FORM.size),
        Section(0, SHT_NOBITS, SHF_ALLOC | SHF_WRITE, memory, dynamic_at + len(section), memory_size, 0, 0, 1, 0),
    ]
    header = sections.write(body, sections.of_launcher(program.sections, added, program.header.entry), program.header)
    header = dataclasses.replace(header, entry=code + config.SIZE, phnum=len(kept))
    body[: Header.FORM.size] = header.pack()
    return bytes(body)


def _up(value: int, step: int) -> int:
    return (value + step - 1) & -step


def _insert(segments: list[Segment], *new: Segment) -> list[Segment]:
    """Put ``new`` behind the last PT_LOAD: the kernel wants them in ascending order."""
    last = max(n for n, segment in enumerate(segments) if segment.type == PT_LOAD)
    return [*segments[: last + 1], *new, *segments[last + 1 :]]


def _make_room(segments: list[Segment]) -> list[Segment]:
    """The program headers without PT_INTERP and one more."""
    kept = list(segments)
    for kind in _SPARE:
        for segment in segments:
            if segment.type == kind and len(kept) > len(segments) - 2:
                kept.remove(segment)
    if len(kept) > len(segments) - 2:
        raise BadElf("its program headers leave no room for a launcher")
    return kept


@dataclass(frozen=True, slots=True)
class _Linked:
    """A dynamic section: its entries, the string table, and the texts of the entries before DT_DEBUG, with ORIGIN in them."""

    entries: list[Dynamic]
    strings: bytes
    names: list[bytes]


def _link(program: _Program, wiring: Wiring) -> _Linked:
    """What the program's dynamic section becomes."""
    at = next(segment for segment in program.segments if segment.type == PT_DYNAMIC)
    own = read_dynamic(program.data, offset_of(program.segments, at.address))
    first = {entry.tag: entry.value for entry in reversed(own)}
    if DT_STRTAB not in first or DT_STRSZ not in first:
        raise BadElf("it has no string table")
    start = offset_of(program.segments, first[DT_STRTAB])
    strings = program.data[start : start + first[DT_STRSZ]]
    if len(strings) != first[DT_STRSZ]:
        raise BadElf("its string table is cut off")
    wanted = [(DT_NEEDED, name) for name in wiring.needed]
    if wiring.run_path:
        wanted.append((DT_RPATH, b":".join(wiring.run_path)))
    entries: list[Dynamic] = []
    added = bytearray(b"\0")
    for tag, text in wanted:
        entries.append(Dynamic(tag, len(strings) + len(added)))
        added.extend(text + b"\0")
    # It ends what the launcher reads: their number would be wrong once patchelf has removed one.
    entries.append(Dynamic(DT_DEBUG, 0))
    for entry in own:
        if entry.tag in (DT_RPATH, DT_RUNPATH, DT_DEBUG):
            continue
        # A path would be looked up on the host. It was resolved when the artifact was packed.
        if entry.tag == DT_NEEDED and b"/" in read_string(strings, entry.value):
            continue
        entries.append(entry)
    return _Linked(entries, strings + bytes(added), [text for _, text in wanted])


def _place_strings(entries: list[Dynamic], address: int, size: int) -> list[Dynamic]:
    moved = {DT_STRTAB: address, DT_STRSZ: size}
    return [*(Dynamic(entry.tag, moved.get(entry.tag, entry.value)) for entry in entries), Dynamic(DT_NULL, 0)]


def _open(data: bytes) -> _Program:
    """The program in ``data``, without the launcher that it may have already."""
    header = Header.read(data, 0)
    if header.ident[:6] != b"\x7fELF\x02\x01":
        raise BadElf("it is not a 64-bit little-endian file")
    segments = read_segments(data, header)
    own = sections.read(data, header)
    tables = [own.headers[n] for n in own.tables]
    whole = covered(header, segments, own)
    if data[whole:].strip(b"\0"):
        raise PayloadBehind(len(data) - whole)
    # What only sections lead to is written anew, so that it need not stay if it is at the end.
    end = _end(header, segments, own)
    if tables and min(header.shoff, *(table.offset for table in tables)) >= end:
        data = data[:end]
    program = _Program(data, header, segments, own)
    code = next((s for s in segments if s.type == PT_LOAD and s.address <= header.entry < s.address + s.file_size), None)
    if code:
        start = header.entry - config.SIZE
        known = config.read(program.data, start - code.address + code.offset, address=start) if start >= code.address else None
        if known and known.graft:
            program = _undo(program, code, known.graft)
    for kind in (PT_INTERP, PT_DYNAMIC, PT_LOAD):
        if not any(segment.type == kind for segment in program.segments):
            raise BadElf(f"a dynamic program without a program header of the type {kind}")
    _check_loads(program)
    return program


def _check_loads(program: _Program) -> None:
    """Refuse what the kernel would refuse, so that the new segments have addresses above all others."""
    end = 0
    for segment in program.segments:
        if segment.type == PT_LOAD:
            if segment.address < end or segment.memory_size >= _TOP or segment.address >= _TOP:
                raise BadElf("its segments do not ascend")
            if segment.offset + segment.file_size > len(program.data) or segment.file_size > segment.memory_size:
                raise BadElf("a segment is cut off")
            end = segment.address + segment.memory_size


def covered(header: Header, segments: list[Segment], own: Sections) -> int:
    """Where the part of the file ends that its headers account for. What is behind it, but zeros, is a payload."""
    tables = [own.headers[n] for n in own.tables]
    table_end = header.shoff + len(own.headers) * Section.FORM.size if own.headers else 0
    return max(_end(header, segments, own), table_end, *(table.offset + table.size for table in tables), 0)


def _end(header: Header, segments: list[Segment], own: Sections) -> int:
    """Where the part of the file ends that the headers account for, but for what only sections lead to."""
    ends = [Header.FORM.size, header.phoff + len(segments) * Segment.FORM.size]
    ends += [segment.offset + segment.file_size for segment in segments]
    return max(ends + own.ends())


def _undo(program: _Program, code: Segment, was: Graft) -> _Program:
    """The program as it was before the graft. Its own parts may have been moved in the file since, by strip."""
    data, current = program.data, program.segments
    added = [s for s in current if s.type == PT_LOAD and (s == code or s.address <= was.dynamic < s.address + s.file_size)]
    inner = [segment for segment in current if segment not in added]
    shown = read_segments(data, dataclasses.replace(program.header, phoff=offset_of(current, was.table), phnum=was.headers))
    loads = {segment.address: segment for segment in inner if segment.type == PT_LOAD}
    first = next((s for s in loads.values() if s.offset <= program.header.phoff < s.offset + s.file_size), None)
    restored = []
    for segment in shown:
        match segment.type:
            case _ if segment.address in {s.address for s in added} and segment.type == PT_LOAD:
                continue
            case _ if segment.type == PT_LOAD:
                restored.append(loads.get(segment.address, segment))
                continue
            case _ if segment.type == PT_PHDR:
                if was.headers - 2 > was.was_headers:
                    continue
                at = program.header.phoff + (first.address - first.offset if first else 0)
                size = was.was_headers * Segment.FORM.size
                segment = Segment(PT_PHDR, PF_R, program.header.phoff, at, at, size, size, 8)
            case _ if segment.type == PT_INTERP:
                offset = offset_of(inner, was.was_interp)
                size = len(read_string(data, offset)) + 1
                segment = Segment(PT_INTERP, PF_R, offset, was.was_interp, was.was_interp, size, size, 1)
            case _ if segment.type == PT_DYNAMIC:
                offset = offset_of(inner, was.was_dynamic)
                size = (len(read_dynamic(data, offset)) + 1) * Dynamic.FORM.size
                flags = PF_R | PF_W
                segment = Segment(PT_DYNAMIC, flags, offset, was.was_dynamic, was.was_dynamic, size, size, 8)
            case _ if segment.file_size:
                segment = dataclasses.replace(segment, offset=offset_of(inner, segment.address))
        restored.append(segment)
    start = min(segment.offset for segment in added)
    own = sections.of_program(
        program.sections, lambda address: any(s.address <= address < s.address + s.memory_size for s in added)
    )
    if _end(program.header, restored, own) <= start:
        data = data[:start]
    header = dataclasses.replace(program.header, entry=was.entry, phnum=len(restored))
    return _Program(data, header, restored, own)
