"""Interpreters: which kinds there are, and copies of them that do not know the host's files."""

from __future__ import annotations

import re

from launcher.elf import Elf
from launcher.machines import Machine
from store.errors import Error

# What a glibc interpreter opens by itself. The first byte becomes NUL: a file without a name is never there.
_FILES = (b"/etc/ld.so.preload\0", b"/etc/ld.so.cache\0", b"/etc/ld.so.nohwcap\0")
# Its default directories, one string after the other, each with a slash at both ends: glibc insists on the first.
_DIRECTORIES = re.compile(rb"(?<=\0)(?:/[A-Za-z0-9_./+-]*lib[A-Za-z0-9_./+-]*/\0){2,}")
# musl's, as one search path.
_SEARCH = b"\0/lib:/usr/local/lib:/usr/lib\0"


class NotForThisMachine(Error):
    """A dynamic program that no launcher can be made of: for another CPU, 32-bit, or with an unknown interpreter."""

    def __init__(self, elf: Elf) -> None:
        interpreter = elf.interpreter.decode(errors="backslashreplace")
        super().__init__(
            f"a {elf.bits}-bit program for {elf.machine.removeprefix('EM_')} with the interpreter {interpreter}",
            hint="An artifact holds 64-bit programs for the CPU of its recipe's platform, with glibc or musl. Remove it at the "
            "end of the script, or list it under `keep` in the recipe to leave it as it is.",
        )
        self.elf = elf


def triplet(elf: Elf, machine: Machine) -> str:
    """The name of the launch directory for a program, such as ``x86_64-linux-gnu``. Raises NotForThisMachine."""
    name = elf.interpreter.rpartition(b"/")[2]
    if elf.machine == machine.elf and elf.bits == 64:
        if name.startswith(b"ld-linux"):
            return f"{machine.name}-linux-gnu"
        if name.startswith(b"ld-musl-"):
            return f"{machine.name}-linux-musl"
    raise NotForThisMachine(elf)


def is_musl(name: str) -> bool:
    """Whether the launch directory ``name`` is for musl's interpreter, which knows no $ORIGIN in DT_NEEDED."""
    return name.endswith("-musl")


def without_host(data: bytes) -> bytes:
    """The interpreter ``data`` with the names of the host's files and directories made void; everything stays in place.

    A default directory becomes one of the same length whose name is control characters, for an empty name would open the
    directory ``/`` as if it were a library.
    """
    changed = bytearray(data)
    for name in _FILES:
        at = -1
        while (at := data.find(name, at + 1)) >= 0:
            changed[at] = 0
    for run in _DIRECTORIES.finditer(data):
        at = run.start()
        for name in run.group().split(b"\0")[:-1]:
            changed[at : at + len(name)] = b"/" + b"\x7f" * (len(name) - 2) + b"/"
            at += len(name) + 1
    at = data.find(_SEARCH)
    if at >= 0:
        changed[at + 1] = 0
    return bytes(changed)
