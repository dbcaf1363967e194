"""Grafting: a dynamic program becomes a launcher, with two segments appended and nothing in it moved.

    read, execute   configuration and machine code (launcher/stub), a second program header table, the string table
                    with the names that are added
    read, write     the dynamic section; then, zeroed and not in the file, memory for the launcher

The program's own table keeps its size: the two segments take the places of PT_INTERP, so that the kernel sees a static
program, and of PT_PHDR. The second table is what the interpreter is shown: the program's own with both of these, and
with the new segments. Section headers are written anew at the end: strip keeps only what a section covers, and gdb finds
the interpreter's list of libraries through the one of the dynamic section.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from launcher import config
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
    read_sections,
    read_segments,
    read_string,
)
from store.errors import Error

# By ELF machine number: the largest page that a kernel for it may have, in bytes.
PAGE = {62: 0x1000, 183: 0x10000}
# What may leave the kernel's table for the new segments. PT_NOTE and PT_GNU_EH_FRAME are for the program itself, which is
# shown the second table; they go only where a linker made no PT_PHDR.
_SPARE = (PT_INTERP, PT_PHDR, PT_NULL, PT_GNU_EH_FRAME, PT_NOTE)
_ALIGN = 16
# Above all addresses of a process (TASK_SIZE on x86-64 with four-level page tables).
_TOP = 1 << 47
# What the sections of the program are called once others have their names.
_RENAMED = {b".dynamic": b".launcher.was.dynamic", b".dynstr": b".launcher.was.dynstr"}


class PayloadBehind(Error):
    """A program with ``size`` bytes behind its ELF part, which it may look for from its file's end."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"{size} bytes lie behind the program, where it may look for them from the end of its file",
            hint="Such a program cannot be made a launcher yet. List it under `keep` in the recipe to leave it as it is.",
        )
        self.size = size


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where a program finds what it starts with. All paths are seen from the program's own directory.

    ``needed`` are put before the program's own DT_NEEDED, ``run_path`` becomes its only DT_RPATH. The other fields are
    Config's.
    """

    interpreter: bytes
    depth: int
    needed: tuple[bytes, ...] = ()
    run_path: tuple[bytes, ...] = ()
    defaults: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Program:
    """A program without its launcher. ``data`` may be appended to; ``names`` are the section names."""

    data: bytes
    header: Header
    segments: list[Segment]
    sections: list[Section]
    names: bytes


def graft(data: bytes, wiring: Wiring, stub: bytes) -> bytes:
    """The launcher made of the dynamic program ``data``, which may be a launcher already.

    ``stub`` is the machine code for its CPU. Raises BadElf and PayloadBehind.
    """
    program = _open(data)
    page = PAGE.get(program.header.machine)
    if page is None:
        raise BadElf(f"a program for the machine {program.header.machine}")
    body = bytearray(program.data)
    body.extend(bytes(-len(body) % _ALIGN))
    loads = [segment for segment in program.segments if segment.type == PT_LOAD]
    top = max(segment.address + segment.memory_size for segment in loads)

    dynamic, strings, added = _link(program, wiring)
    made_up = 0 if any(segment.type == PT_PHDR for segment in program.segments) else 1
    headers = len(program.segments) + 2 + made_up
    settings = Config(wiring.interpreter, wiring.depth, wiring.defaults)
    code_size = _up(config.size_of(settings, stub), 8)
    table_size = headers * Segment.FORM.size

    code_at = len(body)
    code = _up(top, page) + code_at % page
    table = code + code_size
    names = table + table_size
    code_end = names + len(strings)
    dynamic_at = _up(code_at + code_end - code, _ALIGN)
    memory = _up(code_end, page) + dynamic_at % page
    section = b"".join(entry.pack() for entry in _place_strings(dynamic, names, len(strings)))
    buffer = memory + len(section)

    executable = Segment(PT_LOAD, PF_R | PF_X, code_at, code, code, code_end - code, code_end - code, page)
    writable_size = len(section) + settings.buffer_size
    writable = Segment(PT_LOAD, PF_R | PF_W, dynamic_at, memory, memory, len(section), writable_size, page)
    linked = Segment(PT_DYNAMIC, PF_R | PF_W, dynamic_at, memory, memory, len(section), len(section), 8)
    own = Segment(PT_PHDR, PF_R, code_at + code_size, table, table, table_size, table_size, 8)
    named = Segment(PT_INTERP, PF_R, dynamic_at + len(section), buffer, buffer, config.PATH, config.PATH, 1)

    was_interp = next(segment.address for segment in program.segments if segment.type == PT_INTERP)
    was_dynamic = next(segment.address for segment in program.segments if segment.type == PT_DYNAMIC)
    wired = Graft(
        entry=program.header.entry,
        table=table,
        dynamic=memory,
        names=names + len(strings) - len(added),
        names_size=len(added),
        origins=added.count(b"$ORIGIN"),
        headers=headers,
        was_headers=len(program.segments),
        was_interp=was_interp,
        was_dynamic=was_dynamic,
    )
    settings = dataclasses.replace(settings, graft=wired)
    replaced = {PT_PHDR: own, PT_INTERP: named, PT_DYNAMIC: linked}
    shown = [replaced.get(segment.type, segment) for segment in program.segments]
    shown = [own] * made_up + _insert(shown, executable, writable)
    body.extend(config.write(settings, stub, address=code, buffer=buffer).ljust(code_size, b"\0"))
    body.extend(b"".join(segment.pack() for segment in shown))
    body.extend(strings)
    body.extend(bytes(dynamic_at - len(body)))
    body.extend(section)

    kept = [linked if segment.type == PT_DYNAMIC else segment for segment in _make_room(program.segments)]
    kept = _insert(kept, executable, writable)
    start = program.header.phoff
    body[start : start + len(kept) * Segment.FORM.size] = b"".join(segment.pack() for segment in kept)
    sections = [
        Section(0, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, code, code_at, names - code, 0, 0, 16, 0),
        Section(0, SHT_STRTAB, SHF_ALLOC, names, code_at + names - code, len(strings), 0, 0, 1, 0),
        Section(0, SHT_DYNAMIC, SHF_ALLOC | SHF_WRITE, memory, dynamic_at, len(section), 0, 0, 8, Dynamic.FORM.size),
        Section(0, SHT_NOBITS, SHF_ALLOC | SHF_WRITE, buffer, dynamic_at + len(section), settings.buffer_size, 0, 0, 1, 0),
    ]
    header = _add_sections(body, program, sections)
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


def _link(program: _Program, wiring: Wiring) -> tuple[list[Dynamic], bytes, bytes]:
    """The dynamic section's new entries, the new string table, and the part of it that is new."""
    at = next(segment for segment in program.segments if segment.type == PT_DYNAMIC)
    own = read_dynamic(program.data, offset_of(program.segments, at.address))
    first = {entry.tag: entry.value for entry in reversed(own)}
    if DT_STRTAB not in first or DT_STRSZ not in first:
        raise BadElf("it has no string table")
    start = offset_of(program.segments, first[DT_STRTAB])
    strings = program.data[start : start + first[DT_STRSZ]]
    if len(strings) != first[DT_STRSZ]:
        raise BadElf("its string table is cut off")
    added = bytearray(b"\0")

    def add(text: bytes) -> int:
        place = len(strings) + len(added)
        added.extend(text + b"\0")
        return place

    entries = [Dynamic(DT_NEEDED, add(name)) for name in wiring.needed]
    for entry in own:
        if entry.tag in (DT_RPATH, DT_RUNPATH):
            continue
        # A path would be looked up on the host. It was resolved when the artifact was packed.
        if entry.tag == DT_NEEDED and b"/" in read_string(strings, entry.value):
            continue
        entries.append(entry)
    if wiring.run_path:
        entries.append(Dynamic(DT_RPATH, add(b":".join(wiring.run_path))))
    if DT_DEBUG not in first:
        entries.append(Dynamic(DT_DEBUG, 0))
    return entries, strings + bytes(added), bytes(added)


def _place_strings(entries: list[Dynamic], address: int, size: int) -> list[Dynamic]:
    moved = {DT_STRTAB: address, DT_STRSZ: size}
    return [*(Dynamic(entry.tag, moved.get(entry.tag, entry.value)) for entry in entries), Dynamic(DT_NULL, 0)]


def _add_sections(body: bytearray, program: _Program, new: list[Section]) -> Header:
    """Write the section headers, if there were any, behind everything. The new header is returned."""
    if not program.sections:
        return dataclasses.replace(program.header, shoff=0, shnum=0, shstrndx=0)
    names = bytearray(program.names)

    def name(text: bytes) -> int:
        names.extend(text + b"\0")
        return len(names) - len(text) - 1

    count = len(program.sections)
    old_strings = _index(program, b".dynstr")
    sections = []
    for section in program.sections:
        called = _name(program.names, section)
        link = count + 1 if old_strings and section.link == old_strings else section.link
        if called in _RENAMED and section.flags & SHF_ALLOC:
            renamed = name(_RENAMED[called])
            section = dataclasses.replace(section, name=renamed, type=SHT_PROGBITS)
            link = 0
        sections.append(dataclasses.replace(section, link=link))
    labels = (b".launcher", b".dynstr", b".dynamic", b".launcher.memory")
    for label, section in zip(labels, new, strict=True):
        link = count + 1 if section.type == SHT_DYNAMIC else 0
        sections.append(dataclasses.replace(section, name=name(label), link=link))
    at = program.header.shstrndx
    sections[at] = dataclasses.replace(sections[at], offset=len(body), size=len(names))
    body.extend(names)
    body.extend(bytes(-len(body) % 8))
    start = len(body)
    body.extend(b"".join(section.pack() for section in sections))
    return dataclasses.replace(program.header, shoff=start, shnum=len(sections))


def _name(names: bytes, section: Section) -> bytes:
    end = names.find(b"\0", section.name)
    return names[section.name : end] if end >= 0 else b""


def _index(program: _Program, name: bytes) -> int:
    for n, section in enumerate(program.sections):
        if _name(program.names, section) == name and section.flags & SHF_ALLOC:
            return n
    return 0


def _open(data: bytes) -> _Program:
    """The program in ``data``, without the launcher that it may have already."""
    header = Header.read(data, 0)
    if header.ident[:6] != b"\x7fELF\x02\x01":
        raise BadElf("it is not a 64-bit little-endian file")
    segments = read_segments(data, header)
    sections = read_sections(data, header)
    names = b""
    if sections and 0 < header.shstrndx < len(sections):
        table = sections[header.shstrndx]
        names = data[table.offset : table.offset + table.size]
    if not names.endswith(b"\0"):
        sections = []
    end = header.shoff + len(sections) * Section.FORM.size if sections else 0
    covered = _end(header, segments, sections, end)
    if data[covered:].strip(b"\0"):
        raise PayloadBehind(len(data) - covered)
    # The section headers are written anew, so those at the end need not stay.
    if sections and end == len(data) and _end(header, segments, sections, 0) <= header.shoff:
        data = data[: header.shoff]
    program = _Program(data, header, segments, sections, names)
    code = next((s for s in segments if s.type == PT_LOAD and s.address <= header.entry < s.address + s.file_size), None)
    known = config.read(data, code.offset) if code else None
    if code and known:
        program = _undo(program, code, known)
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


def _end(header: Header, segments: list[Segment], sections: list[Section], table: int) -> int:
    """Where the part of the file ends that the headers account for."""
    ends = [Header.FORM.size, header.phoff + len(segments) * Segment.FORM.size, table]
    ends += [segment.offset + segment.file_size for segment in segments]
    ends += [section.offset + section.size for section in sections if section.type not in (0, SHT_NOBITS)]
    return max(ends)


def _undo(program: _Program, code: Segment, known: Config) -> _Program:
    """The program as it was before the graft. Its own parts may have been moved in the file since, by strip."""
    was = known.graft
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
    sections = _undo_sections(program, added)
    start = min(segment.offset for segment in added)
    names = _undo_names(program, sections)
    others = [s for n, s in enumerate(sections) if s.type not in (0, SHT_NOBITS) and n != program.header.shstrndx]
    if _end(program.header, restored, others, 0) <= start:
        data = data[:start]
    header = dataclasses.replace(program.header, entry=was.entry, phnum=len(restored))
    return _Program(data, header, restored, sections, names)


def _undo_names(program: _Program, sections: list[Section]) -> bytes:
    """The section names without those that the graft added behind them, unless strip has mixed them since."""
    marks = [program.names.find(b"\0" + mark + b"\0") + 1 for mark in _RENAMED.values()]
    end = min((mark for mark in marks if mark), default=len(program.names))
    return program.names[:end] if all(section.name < end for section in sections) else program.names


def _undo_sections(program: _Program, added: list[Segment]) -> list[Section]:
    def is_added(section: Section) -> bool:
        return bool(section.flags & SHF_ALLOC) and any(
            segment.address <= section.address < segment.address + segment.memory_size for segment in added
        )

    was = {new: old for old, new in _RENAMED.items()}
    new_strings = next((n for n, s in enumerate(program.sections) if is_added(s) and s.type == SHT_STRTAB), 0)
    old_strings = _index(program, _RENAMED[b".dynstr"])
    sections = []
    for section in program.sections:
        called = was.get(_name(program.names, section))
        link = old_strings if new_strings and section.link == new_strings else section.link
        if is_added(section):
            section, link = Section(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0
        elif called is not None:
            # strip and the linker share endings between names, so that one of them may have no name to itself.
            place = program.names.find(b"\0" + called + b"\0") + 1
            if called == b".dynamic":
                section, link = dataclasses.replace(section, name=place, type=SHT_DYNAMIC), old_strings
            else:
                section, link = dataclasses.replace(section, name=place, type=SHT_STRTAB), 0
        sections.append(dataclasses.replace(section, link=link))
    while sections and sections[-1].type == 0 and len(sections) > program.header.shstrndx + 1:
        sections.pop()
    return sections
