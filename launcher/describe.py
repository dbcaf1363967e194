"""What every program, library and script of an artifact is, and what each launcher starts with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from launcher import apart
from launcher import elf as elves
from launcher.config import ORIGIN
from launcher.elf import Kind
from launcher.layout import (
    DT_NEEDED,
    DT_RPATH,
    DT_STRTAB,
    PT_DYNAMIC,
    BadElf,
    Header,
    offset_of,
    read_dynamic,
    read_segments,
    read_string,
)
from launcher.names import Namespace, parent
from launcher.scripts import read_shebang
from store.digest import Digest
from store.manifest import File, Manifest

LAUNCHER, SCRIPT_LAUNCHER, INTERPRETER, SCRIPT, DAMAGED = "launcher", "script launcher", "interpreter", "script", "damaged"


@dataclass(frozen=True, slots=True)
class Reference:
    """A file of the artifact that a launcher names: ``what`` it is to it, its path, and its blob if it is there."""

    what: str
    path: bytes
    blob: Digest | None


@dataclass(frozen=True, slots=True)
class Description:
    """One ELF file or script. ``kind`` is a word for people; ``defaults`` are the variables that its launcher sets."""

    path: bytes
    kind: str
    file: File
    references: tuple[Reference, ...] = ()
    defaults: tuple[bytes, ...] = ()


def describe(artifact: Manifest, read: Callable[[Digest], bytes]) -> Iterator[Description]:
    """Every ELF file and every script of the artifact, in order. ``read`` gives the bytes of a blob."""
    names = Namespace(artifact, Manifest([]))
    interpreters = set()
    for path, node in artifact.files:
        if path.startswith(b".launch/") and path.endswith(b"/ld.so"):
            interpreters.add(path)
        data = read(node.blob)
        if elves.is_elf(data):
            yield _elf(names, path, node, data, read, is_interpreter=path in interpreters)
        elif node.executable and read_shebang(data):
            yield Description(path, SCRIPT, node)


def _elf(
    names: Namespace, path: bytes, node: File, data: bytes, read: Callable[[Digest], bytes], *, is_interpreter: bool
) -> Description:
    place = path
    try:
        elf = elves.read(data)
        known = elf.launcher
        if known is None:
            return Description(path, INTERPRETER if is_interpreter else elf.kind.value, node)
        if known.graft is None and not known.script:
            return Description(path, LAUNCHER, node, (_refer(names, path, "program", known.interpreter),))
        # What lies apart is started from its program's place.
        path = path.removeprefix(apart.FOLDER)
        references = [_refer(names, path, "interpreter", known.interpreter)]
        root = ORIGIN + b"/.." * path.count(b"/")
        if elf.kind is Kind.PROGRAM:
            references += _libraries(names, path, data, read)
        else:
            references.append(_refer(names, path, "script", known.script))
        kind = LAUNCHER if elf.kind is Kind.PROGRAM else SCRIPT_LAUNCHER
        defaults = tuple(text.replace(root, b"{root}") for text in known.defaults)
        return Description(place, kind, node, tuple(references), defaults)
    except BadElf:
        return Description(path, DAMAGED, node)


def _refer(names: Namespace, path: bytes, what: str, relative: bytes) -> Reference:
    relative = relative.removeprefix(ORIGIN + b"/")
    found = names.file(parent(path) + b"/" + relative)
    return Reference(what, found[0] if found else relative, found[1].blob if found else None)


def _libraries(names: Namespace, path: bytes, data: bytes, read: Callable[[Digest], bytes]) -> list[Reference]:
    """What the interpreter loads for a launcher: what it names by path, or else what its run path has of the names."""
    linked, run_path = _dynamic(data)
    found = {name: _refer(names, path, "library", name) for name in linked if b"/" in name}
    wanted = [] if found else linked
    for soname in wanted:
        for directory in run_path:
            reference = _refer(names, path, "library", directory + b"/" + soname)
            if reference.blob is not None and soname not in found:
                found[soname] = reference
                wanted += [name for name in elves.read(read(reference.blob)).needed if name not in wanted]
    return list(found.values())


def _dynamic(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """What a launcher's dynamic section needs, and the directories of its run path."""
    segments = read_segments(data, Header.read(data, 0))
    at = next((segment.address for segment in segments if segment.type == PT_DYNAMIC), None)
    if at is None:
        raise BadElf("a launcher without a dynamic section")
    entries = read_dynamic(data, offset_of(segments, at))
    strings = next((entry.value for entry in entries if entry.tag == DT_STRTAB), None)
    if strings is None:
        raise BadElf("a launcher without a string table")
    base = offset_of(segments, strings)
    texts = [(entry.tag, read_string(data, base + entry.value)) for entry in entries if entry.tag in (DT_NEEDED, DT_RPATH)]
    needed = [text for tag, text in texts if tag == DT_NEEDED]
    return needed, [entry for tag, text in texts if tag == DT_RPATH for entry in text.split(b":")]
