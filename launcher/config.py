"""The configuration of a launcher: the first bytes of its machine code, as launcher/stub/config.h describes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.layout import BadElf, read_string

MAGIC = b"launcher"
FORMAT = 1
ROOT = b"\1"
PATH = 4096
# The fixed part, in the order of struct config.
_FORM = struct.Struct("<8s IIIIII QQ QQQQ IIII QQ II")
SIZE = _FORM.size
MAX_SIZE = 1 << 24


@dataclass(frozen=True, slots=True)
class Graft:
    """What only a grafted program's configuration holds; config.h says what each field is."""

    entry: int = 0
    table: int = 0
    dynamic: int = 0
    names: int = 0
    names_size: int = 0
    origins: int = 0
    headers: int = 0
    was_headers: int = 0
    was_interp: int = 0
    was_dynamic: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """What a launcher knows.

    ``interpreter`` and ``script`` are paths from the launcher's own directory, which is ``depth`` directories below the
    artifact's. ``defaults`` are ``NAME=value``, where the byte ROOT stands for the artifact's directory. ``script`` is
    empty in a grafted program.
    """

    interpreter: bytes
    depth: int
    defaults: tuple[bytes, ...] = ()
    script: bytes = b""
    arguments: tuple[bytes, ...] = ()
    graft: Graft = Graft()

    @property
    def buffer_size(self) -> int:
        """How many bytes of zeroed memory the launcher needs: for a path, and for every default's string."""
        return PATH + sum(len(text) + 1 + text.count(ROOT) * PATH for text in self.defaults)

    @property
    def room(self) -> int:
        """How many bytes the launcher needs on the stack below what the kernel left there."""
        words = len(self.defaults) + (len(self.arguments) + 1 if self.script else 0)
        return (8 * words + 15) & -16


def write(config: Config, stub: bytes, *, address: int, buffer: int) -> bytes:
    """The machine code ``stub`` with ``config``, to be loaded at ``address``, with its zeroed memory at ``buffer``."""
    assert len(stub) >= SIZE and stub[:SIZE] == bytes(SIZE)
    tail = bytearray()

    def place(text: bytes) -> int:
        tail.extend(text + b"\0")
        return len(stub) + len(tail) - len(text) - 1

    places = place(config.interpreter), place(_list(config.defaults)), place(config.script), place(_list(config.arguments))
    interpreter, defaults, script, arguments = places
    g = config.graft
    size = len(stub) + len(tail)
    fixed = _FORM.pack(
        MAGIC, FORMAT, size, interpreter, defaults, config.room, config.depth, address, buffer,
        g.entry, g.table, g.dynamic, g.names, g.names_size, g.origins, g.headers, g.was_headers, g.was_interp, g.was_dynamic,
        script, arguments,
    )  # fmt: skip
    return fixed + stub[SIZE:] + bytes(tail)


def size_of(config: Config, stub: bytes) -> int:
    """How many bytes write() gives."""
    return len(write(config, stub, address=0, buffer=0))


def read(data: bytes | bytearray, offset: int) -> Config | None:
    """The configuration at ``offset``, or None when there is none. Raises BadElf when it is damaged or of another format."""
    if data[offset : offset + len(MAGIC)] != MAGIC:
        return None
    if offset + SIZE > len(data):
        raise BadElf("its launcher's configuration is cut off")
    fields = _FORM.unpack_from(data, offset)
    _, form, size, interpreter, defaults, _, depth, _, _, *graft, script, arguments = fields
    if form != FORMAT or not SIZE <= size <= MAX_SIZE:
        raise BadElf(f"a launcher of the format {form}, and this builder knows format {FORMAT}")
    block = bytes(data[offset : offset + size])
    return Config(
        read_string(block, interpreter),
        depth,
        _read_list(block, defaults),
        read_string(block, script),
        _read_list(block, arguments),
        Graft(*graft),
    )


def _list(texts: Sequence[bytes]) -> bytes:
    assert all(text and b"\0" not in text for text in texts)
    return b"".join(text + b"\0" for text in texts)


def _read_list(block: bytes, place: int) -> tuple[bytes, ...]:
    texts = []
    while text := read_string(block, place):
        texts.append(text)
        place += len(text) + 1
    return tuple(texts)
