"""Scripts: what their first line asks for, the program that stands in their place, and where they lie themselves.

A script whose interpreter is in the artifact cannot say so: the kernel takes the name after ``#!`` as it is. So a small
static program takes its place. The script ``bin/foo`` itself lies in ``.launch/script/bin/foo/``, a mirror of the artifact
in which only ``bin/foo`` is the script, and everything else leads back by symlinks. So `basename $0`, `dirname $0`, and
what is beside it or above it are as they were; and a script beside it is that one's launcher, which is why each script has
a mirror of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher import config
from launcher.config import Config
from launcher.layout import PF_R, PF_W, PF_X, PT_LOAD, Header, Segment
from launcher.names import base, parent, up
from store.manifest import DIRECTORY, Directory, File, Node, Symlink

MIRROR = b".launch/script"
# Where a program is started by its name, so that a script has to be a program.
FOLDERS = (b"bin", b"sbin", b"libexec")
# The kernel reads this many bytes of a file to see how to start it (BINPRM_BUF_SIZE).
_FIRST = 256
_MACHINE = 62
_PAGE = 0x1000
_GNU_STACK = 0x6474E551


@dataclass(frozen=True, slots=True)
class Shebang:
    """A script's first line: the interpreter's path, and what follows it."""

    interpreter: bytes
    argument: bytes


def read_shebang(data: bytes) -> Shebang | None:
    """The first line of a script as the kernel reads it (fs/binfmt_script.c), or None."""
    if not data.startswith(b"#!"):
        return None
    line = data[2:_FIRST].split(b"\n", 1)[0].strip(b" \t")
    line = line.split(b"\0", 1)[0]
    interpreter, argument = line, b""
    for place, byte in enumerate(line):
        if byte in b" \t":
            interpreter, argument = line[:place], line[place:].strip(b" \t")
            break
    return Shebang(interpreter, argument) if interpreter else None


def write_launcher(settings: Config, stub: bytes) -> bytes:
    """A static program that runs a script, as ``settings`` say. ``stub`` is the machine code."""
    headers = Header.FORM.size + 3 * Segment.FORM.size
    start = (headers + 15) & -16
    size = config.size_of(settings, stub)
    end = start + size
    memory = (end + _PAGE - 1) & -_PAGE
    code = config.write(settings, stub, address=start, memory=memory)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    entry = start + config.SIZE
    # ET_DYN, so that the kernel chooses where it goes.
    header = Header(ident, 3, _MACHINE, 1, entry, Header.FORM.size, 0, 0, Header.FORM.size, Segment.FORM.size, 3, 64, 0, 0)
    segments = (
        Segment(PT_LOAD, PF_R | PF_X, 0, 0, 0, end, end, _PAGE),
        Segment(PT_LOAD, PF_R | PF_W, 0, memory, memory, 0, settings.memory_size, _PAGE),
        Segment(_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16),
    )
    top = header.pack() + b"".join(segment.pack() for segment in segments)
    return top.ljust(start, b"\0") + code


def place_of(script: bytes) -> bytes:
    """Where the script of this path lies in the artifact."""
    return MIRROR + b"/" + script + b"/" + script


def mirror(nodes: Mapping[bytes, Node], script: bytes, node: File) -> Iterator[tuple[bytes, Node]]:
    """The entries of the mirror of the tree ``nodes`` for its script ``script``, whose own text is ``node``."""
    folders = {b""}
    path = script
    while path := parent(path):
        folders.add(path)
    top = MIRROR + b"/" + script + b"/"
    for path, other in nodes.items():
        if parent(path) not in folders or path == b".launch":
            continue
        match other:
            case Directory() if path in folders:
                yield top + path, DIRECTORY
            case File() if path == script:
                yield top + path, node
            case Symlink(target) if b"/" not in target and parent(path) == parent(script) and target == base(script):
                yield top + path, other
            case _:
                yield top + path, Symlink(up(top + path) + path)
