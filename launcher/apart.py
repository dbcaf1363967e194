"""A program with a payload behind its ELF part, such as a self-extracting archive.

It looks for the payload in its own file, from the end or at some offset. So its file keeps its size and all bytes but the
first ones, which become a launcher; and the program, a launcher itself, lies apart, in ``.launch/apart``. It is wired as if
it were at its old place, for that is what /proc/self/exe says.
"""

from __future__ import annotations

import dataclasses

from launcher.config import Config
from launcher.layout import BadElf, Header
from launcher.scripts import write_launcher

FOLDER = b".launch/apart/"


def place_of(program: bytes) -> bytes:
    """Where the ELF part of the program of this path lies in the artifact."""
    return FOLDER + program


def write(data: bytes, size: int, settings: Config, stub: bytes) -> bytes:
    """The file ``data``, whose ELF part has ``size`` bytes, as a launcher. ``stub`` is the machine code. Raises BadElf."""
    launcher = write_launcher(settings, stub)
    if len(launcher) > size:
        raise BadElf(f"its ELF part has {size} bytes, and a launcher takes {len(launcher)}")
    own = Header.read(data, 0)
    # The section headers are where they were: from their end, some programs know where their payload begins.
    kept = {name: getattr(own, name) for name in ("shoff", "shentsize", "shnum", "shstrndx")}
    header = dataclasses.replace(Header.read(launcher, 0), **kept)
    return header.pack() + launcher[Header.FORM.size :] + data[len(launcher) :]
