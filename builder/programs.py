"""The programs of an artifact: what they are called, which one is meant when none is named, and what CPU they are for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from launcher import elf
from launcher.machines import MACHINES, Machine
from store.errors import Error
from store.manifest import File, Manifest, follow


class NoMachine(Error):
    """An artifact without a program or library of a known CPU."""

    def __init__(self) -> None:
        super().__init__(
            "nothing in the artifact is machine code, and this format has to say what CPU it is for",
            hint="Export it as an archive instead: --format tar.zst.",
        )


class NoProgram(Error):
    """An artifact with nothing in ``bin`` that could be started."""

    def __init__(self) -> None:
        super().__init__(
            "the artifact has no program in its bin/, and one file is for starting programs",
            hint="Export it as an archive instead: --format tar.zst.",
        )


class NoEntrypoint(Error):
    """Which program is meant is not clear; ``programs`` are those in ``bin``."""

    def __init__(self, asked: str | None, programs: Sequence[str]) -> None:
        what = "has several programs" if asked is None else f"has no program {asked}"
        names = ", ".join(programs) or "none"
        super().__init__(f"the artifact {what}", hint=f"Name one with --entrypoint; in its bin/ there are: {names}.")
        self.programs = programs


def names(artifact: Manifest) -> list[str]:
    """The names in ``bin`` that are programs, or lead to one."""
    found = []
    for entry in artifact.names(b"bin"):
        place = follow(artifact, b"bin/" + entry)
        node = None if place is None else artifact[place]
        if isinstance(node, File) and node.executable:
            found.append(os.fsdecode(entry))
    return found


def main(programs: Sequence[str], name: str, asked: str | None) -> str | None:
    """The program ``asked`` for, else the one that is called like the artifact, else the only one, else None.

    Raises NoEntrypoint if the one that is asked for is not among ``programs``.
    """
    if asked is not None:
        if asked not in programs:
            raise NoEntrypoint(asked, programs)
        return asked
    return name if name in programs else programs[0] if len(programs) == 1 else None


def machine(artifact: Manifest, head: Callable[[File], bytes]) -> Machine:
    """The CPU that the artifact is for. ``head`` gives the first bytes of a file, 20 or more. Raises NoMachine."""
    for _, node in artifact.files:
        start = head(node)
        number = int.from_bytes(start[18:20], "little")
        found = next((known for known in MACHINES if known.number == number), None)
        if found is not None and elf.is_elf(start):
            return found
    raise NoMachine
