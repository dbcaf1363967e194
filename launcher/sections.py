"""The section headers of a program, and of the launcher that it becomes.

Nothing that runs depends on them. But strip keeps only what a section covers, and gdb finds its way by them: the list of
loaded libraries through ``.dynamic``, and the moment when that list is complete through a symbol, which has to be called
as the function is that interpreters call at that moment. So a launcher has sections for its new parts; the program's own
parts of those names get others; ``.interp``, in which gdb would find the host's interpreter, too; and the program's first
instruction gets that symbol.

patchelf would move ``.dynamic`` away from where the launcher knows it to be. It asks for ``.gnu.version_r`` by name when it
moves something, and not before: so that has another name too, and patchelf gives up with the file unchanged. Programs for
musl have no versions; there it is ``.dynsym``, in which perf, going by names too, finds what stripped programs export.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from launcher.layout import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_DYNAMIC,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    Header,
    Section,
    Symbol,
    read_sections,
)

# The sections of the program that are called otherwise in a launcher: those of which the launcher has its own, with their
# types, which tools go by as well; and those that patchelf asks for, the better one first.
_REPLACED = {b".dynamic": SHT_DYNAMIC, b".dynstr": SHT_STRTAB, b".interp": SHT_PROGBITS}
_GUARDS = (b".gnu.version_r", b".dynsym")
_RENAMED = {name: b".launcher.was" + name for name in (*_REPLACED, *_GUARDS)}
_WAS = {new: old for old, new in _RENAMED.items()}
LABELS = (b".launcher", b".dynstr", b".dynamic", b".launcher.memory")
# What a table may be aligned to: it is written with so many bytes before it.
MAX_ALIGN = 1 << 16
LOADED = b"_dl_debug_state"
_FUNCTION = 0x12  # STB_GLOBAL, STT_FUNC
_NONE = Section(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Sections:
    """Section headers, and by their numbers the contents of those tables that only sections lead to.

    ``names`` is the number of the one with the sections' names. A program that has no section headers has no ``headers``.
    """

    headers: tuple[Section, ...] = ()
    names: int = 0
    tables: Mapping[int, bytes] = dataclasses.field(default_factory=dict)

    def name(self, section: Section) -> bytes:
        """What a section is called."""
        names = self.tables[self.names]
        end = names.find(b"\0", section.name)
        return names[section.name : end] if end >= 0 else b""

    def index(self, name: bytes) -> int:
        """The number of the section of this name that is loaded, or 0."""
        found = (n for n, section in enumerate(self.headers) if section.flags & SHF_ALLOC and self.name(section) == name)
        return next(found, 0)

    def ends(self) -> list[int]:
        """Where the contents of those sections end that are not among the tables."""
        return [
            section.offset + section.size
            for n, section in enumerate(self.headers)
            if n not in self.tables and section.type not in (0, SHT_NOBITS)
        ]

    @property
    def symbols(self) -> int:
        """The number of the table of symbols, or 0."""
        return next((n for n in self.tables if self.headers[n].type == SHT_SYMTAB), 0)


def read(data: bytes, header: Header) -> Sections:
    """The sections of a program; none where they are damaged."""
    headers = read_sections(data, header)
    names = header.shstrndx
    if not 0 < names < len(headers):
        return Sections()
    wanted = [names]
    symbols = [n for n, section in enumerate(headers) if section.type == SHT_SYMTAB]
    if len(symbols) == 1 and 0 < headers[symbols[0]].link < len(headers):
        wanted += [symbols[0], headers[symbols[0]].link]
    tables = {n: data[headers[n].offset : headers[n].offset + headers[n].size] for n in wanted}
    wrong = (len(table) != headers[n].size or headers[n].align > MAX_ALIGN for n, table in tables.items())
    if any(wrong) or not tables[names].endswith(b"\0"):
        return Sections()
    return Sections(tuple(headers), names, tables)


def are_apart(headers: Iterable[Section]) -> bool:
    """Whether a file with these sections is debug information that was split off: it has no bytes of any code."""
    return any(section.flags & SHF_EXECINSTR and section.type == SHT_NOBITS for section in headers)


def of_launcher(sections: Sections, new: Sequence[Section], entry: int) -> Sections:
    """The program's sections with the ``new`` ones, which are called LABELS, and a symbol at ``entry``."""
    if not sections.headers:
        return sections
    tables = {n: bytearray(table) for n, table in sections.tables.items()}

    def name(text: bytes) -> int:
        tables[sections.names].extend(text + b"\0")
        return len(tables[sections.names]) - len(text) - 1

    count = len(sections.headers)
    old_strings = sections.index(b".dynstr")
    guard = next((sections.index(name) for name in _GUARDS if sections.index(name)), 0)
    headers: list[Section] = []
    for section in sections.headers:
        called = sections.name(section)
        link = count + 1 if old_strings and section.link == old_strings else section.link
        if called in _REPLACED and section.flags & SHF_ALLOC:
            section = dataclasses.replace(section, name=name(_RENAMED[called]), type=SHT_PROGBITS)
            link = 0
        elif guard and len(headers) == guard:
            section = dataclasses.replace(section, name=name(_RENAMED[called]))
        headers.append(dataclasses.replace(section, link=link))
    for label, section in zip(LABELS, new, strict=True):
        link = count + 1 if section.type == SHT_DYNAMIC else 0
        headers.append(dataclasses.replace(section, name=name(label), link=link))
    symbols = sections.symbols
    if not symbols:
        symbols = len(headers)
        tables[symbols], tables[symbols + 1] = bytearray(Symbol.FORM.size), bytearray(1)
        size = Symbol.FORM.size
        headers.append(Section(name(b".symtab"), SHT_SYMTAB, 0, 0, 0, 0, symbols + 1, 1, 8, size))
        headers.append(Section(name(b".strtab"), SHT_STRTAB, 0, 0, 0, 0, 0, 0, 1, 0))
    strings = tables[headers[symbols].link]
    home = (n for n, s in enumerate(headers) if s.flags & SHF_ALLOC and s.address <= entry < s.address + s.size)
    # A size of one byte: otherwise gdb takes all of a stripped program for this function.
    tables[symbols].extend(Symbol(len(strings), _FUNCTION, 0, next(home, count), entry, 1).pack())
    strings.extend(LOADED + b"\0")
    return Sections(tuple(headers), sections.names, {n: bytes(table) for n, table in tables.items()})


def of_debug_information(sections: Sections) -> Sections:
    """The sections of the debug information that was split off a program, with those that only its launcher has.

    gdb warns of each section of a program that the file with its debug information has not.
    """
    if not sections.headers:
        return sections
    headers = list(sections.headers)
    names = bytearray(sections.tables[sections.names])

    def add(text: bytes, section: Section) -> None:
        headers.append(dataclasses.replace(section, name=len(names), type=SHT_NOBITS, flags=SHF_ALLOC, link=0, info=0))
        names.extend(text + b"\0")

    loaded = [section for section in sections.headers if section.flags & SHF_ALLOC]
    for section in loaded:
        if sections.name(section) in _RENAMED:
            add(_RENAMED[sections.name(section)], section)
    end = max((section.address + section.size for section in loaded), default=0)
    for label in LABELS:
        if not sections.index(label):
            add(label, dataclasses.replace(_NONE, address=end, align=1))
    return Sections(tuple(headers), sections.names, {**sections.tables, sections.names: bytes(names)})


def of_program(sections: Sections, is_added: Callable[[int], bool]) -> Sections:
    """What of_launcher was given. ``is_added`` tells whether an address is in a segment of the launcher."""
    if not sections.headers:
        return sections
    tables = dict(sections.tables)
    headers = list(sections.headers)
    old_strings = sections.index(_RENAMED[b".dynstr"])
    new_strings = {n for n, s in enumerate(headers) if s.flags & SHF_ALLOC and is_added(s.address) and s.type == SHT_STRTAB}
    names = tables[sections.names]
    for n, section in enumerate(sections.headers):
        called = sections.name(section)
        link = old_strings if section.link in new_strings else section.link
        if section.flags & SHF_ALLOC and is_added(section.address):
            headers[n] = _NONE
        elif called in _WAS:
            # strip and the linker share endings between names, so that one of them may have no name to itself.
            old = _WAS[called]
            kind = _REPLACED.get(old, section.type)
            link = old_strings if kind == SHT_DYNAMIC else link
            headers[n] = dataclasses.replace(section, name=names.find(b"\0" + old + b"\0") + 1, type=kind, link=link)
        else:
            headers[n] = dataclasses.replace(section, link=link)
    symbols = sections.symbols
    if symbols:
        _drop_symbol(headers, tables, symbols)
    while headers and headers[-1] == _NONE and len(headers) > sections.names + 1:
        headers.pop()
    marks = [names.find(b"\0" + mark + b"\0") + 1 for mark in _WAS]
    end = min((mark for mark in marks if mark), default=len(names))
    if all(section.name < end for section in headers):
        tables[sections.names] = names[:end]
    return Sections(tuple(headers), sections.names, {n: table for n, table in tables.items() if n < len(headers)})


def _drop_symbol(headers: list[Section], tables: dict[int, bytes], symbols: int) -> None:
    """Take the launcher's symbol away, and the tables if nothing else is in them."""
    link = headers[symbols].link
    size = Symbol.FORM.size
    rows = [tables[symbols][at : at + size] for at in range(0, len(tables[symbols]), size)]
    kept = [row for row in rows if not _is_ours(row, tables[link])]
    tables[symbols] = b"".join(kept)
    tables[link] = tables[link].removesuffix(LOADED + b"\0")
    if tables[symbols] == bytes(size):
        headers[symbols] = headers[link] = _NONE
        del tables[symbols], tables[link]


def _is_ours(row: bytes, strings: bytes) -> bool:
    if len(row) < Symbol.FORM.size:
        return False
    symbol = Symbol.read(row, 0)
    return symbol.info == _FUNCTION and strings[symbol.name :].startswith(LOADED + b"\0")


def write(body: bytearray, sections: Sections, header: Header) -> Header:
    """Write the tables and section headers behind ``body``. The header that leads to them is returned."""
    if not sections.headers:
        return dataclasses.replace(header, shoff=0, shnum=0, shstrndx=0)
    headers = list(sections.headers)
    for n, table in sorted(sections.tables.items()):
        body.extend(bytes(-len(body) % max(headers[n].align, 1)))
        headers[n] = dataclasses.replace(headers[n], offset=len(body), size=len(table))
        body.extend(table)
    body.extend(bytes(-len(body) % 8))
    start = len(body)
    body.extend(b"".join(section.pack() for section in headers))
    return dataclasses.replace(header, shoff=start, shnum=len(headers), shstrndx=sections.names)
