"""The launchers' machine code, as it was compiled when this package was built (setup.py, launcher/stub)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from launcher.machines import X86_64, Machine
from store.digest import Digest
from store.errors import Error

KINDS = ("graft", "defaults", "script", "apart")


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The machine code for one kind of CPU, in kinds.

    ``graft`` goes into programs, ``defaults`` into those that have variables to be set, ``script`` stands in a script's place,
    ``apart`` in that of a program with a payload behind its end.
    """

    machine: Machine
    graft: bytes
    defaults: bytes
    script: bytes
    apart: bytes

    @property
    def digest(self) -> Digest:
        """What tells this machine code from another's: for the key of a packing action."""
        return Digest.of(b"".join(Digest.of(getattr(self, kind)).raw for kind in KINDS))


def load(machine: Machine = X86_64) -> Bootstrap:
    """The machine code for ``machine``. Raises Error when there is none."""
    return Bootstrap(machine, **{kind: _read(kind, machine) for kind in KINDS})


def load_run(machine: Machine) -> bytes:
    """The program that one-file exports begin with, an ELF file (launcher/run). Raises Error when there is none."""
    return _read("run", machine)


def _read(kind: str, machine: Machine) -> bytes:
    try:
        with open(os.path.join(os.path.dirname(__file__), "stubs", f"{kind}-{machine.name}.bin"), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise Error(
            f"this installation has no launcher for {machine.name}", hint="Install builder again: the build compiles it."
        ) from None
