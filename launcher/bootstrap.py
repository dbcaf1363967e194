"""The launchers' machine code, as it was compiled when this package was built (setup.py, launcher/stub)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from store.digest import Digest
from store.errors import Error

KINDS = ("graft", "defaults", "script", "apart")


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The machine code for one kind of CPU, in kinds.

    ``graft`` goes into programs, ``defaults`` into those that have variables to be set, ``script`` stands in a script's place,
    ``apart`` in that of a program with a payload behind its end.
    """

    graft: bytes
    defaults: bytes
    script: bytes
    apart: bytes

    @property
    def digest(self) -> Digest:
        """What tells this machine code from another's: for the key of a packing action."""
        return Digest.of(b"".join(Digest.of(getattr(self, kind)).raw for kind in KINDS))


def load(machine: str = "x86_64") -> Bootstrap:
    """The machine code for ``machine``, a name as ``uname -m`` prints it. Raises Error when there is none."""
    folder = os.path.join(os.path.dirname(__file__), "stubs")
    parts = {}
    for kind in KINDS:
        try:
            with open(os.path.join(folder, f"{kind}-{machine}.bin"), "rb") as file:
                parts[kind] = file.read()
        except FileNotFoundError:
            raise Error(
                f"this installation has no launcher for {machine}", hint="Install builder again: the build compiles it."
            ) from None
    return Bootstrap(**parts)
