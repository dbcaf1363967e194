"""The kinds of CPU that launchers are made for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of CPU: ``name`` as ``uname -m`` prints it, ``elf`` as pyelftools calls it, and its ``number`` in ELF files.

    ``page`` is the largest page that a kernel for it may have, in bytes.
    """

    name: str
    elf: str
    number: int
    page: int


X86_64 = Machine("x86_64", "EM_X86_64", 62, 0x1000)
AARCH64 = Machine("aarch64", "EM_AARCH64", 183, 0x10000)
MACHINES = (X86_64, AARCH64)


def named(name: str) -> Machine | None:
    """The machine that ``uname -m`` calls so."""
    return next((machine for machine in MACHINES if machine.name == name), None)
