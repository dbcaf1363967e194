"""The configuration of a launcher: the first bytes of its machine code, as launcher/stub/config.h describes them."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.layout import BadElf, read_string

MAGIC = b"launcher"
FORMAT = 3
ORIGIN = b"$ORIGIN"
PATH = 4096
# The fixed part, in the order of struct config.
_FORM = struct.Struct("<8s III iii ii iiIii Iii")
SIZE = _FORM.size
MAX_SIZE = 1 << 24
_PLACES = range(-(1 << 31), 1 << 31)


@dataclass(frozen=True, slots=True)
class Graft:
    """What only a grafted program's configuration holds; config.h says what each field is. Places are addresses here."""

    entry: int = 0
    table: int = 0
    headers: int = 0
    dynamic: int = 0
    strings: int = 0
    was_headers: int = 0
    was_interp: int = 0
    was_dynamic: int = 0


_ADDRESSES = ("entry", "table", "dynamic", "strings", "was_interp", "was_dynamic")


@dataclass(frozen=True, slots=True)
class Config:
    """What a launcher knows.

    ``interpreter``, ``script`` and the values of ``defaults`` (``NAME=value``) are texts in which ORIGIN is the launcher's
    own directory. ``graft`` is there in a grafted program only. A launcher with neither that nor a ``script`` starts a
    program that lies apart, which is its ``interpreter``.
    """

    interpreter: bytes
    defaults: tuple[bytes, ...] = ()
    script: bytes = b""
    arguments: tuple[bytes, ...] = ()
    graft: Graft | None = None

    @property
    def room(self) -> int:
        """How many bytes the launcher needs on the stack below what the kernel left there."""
        words = len(self.defaults) + (len(self.arguments) + 1 if self.script else 0)
        return (8 * words + 15) & -16

    @property
    def memory_size(self) -> int:
        """How many bytes of zeroed memory its own strings need."""
        return memory_for((self.interpreter, self.script, *self.defaults))


def memory_for(texts: Sequence[bytes]) -> int:
    """How many bytes the texts can take when ORIGIN is replaced: by less than two paths, for one may stand behind another."""
    return sum(len(text) + 1 + text.count(ORIGIN) * 2 * PATH for text in texts)


def write(config: Config, stub: bytes, *, address: int, memory: int) -> bytes:
    """The machine code ``stub`` with ``config``, to be loaded at ``address``, with its zeroed memory at ``memory``.

    Raises BadElf when a part of the program is too far away from another.
    """
    assert len(stub) >= SIZE and stub[:SIZE] == bytes(SIZE)
    tail = bytearray()

    def place(text: bytes) -> int:
        tail.extend(text + b"\0")
        return len(stub) + len(tail) - len(text) - 1

    texts = place(config.interpreter), place(_list(config.defaults)), place(config.script), place(_list(config.arguments))
    graft = config.graft
    fields = [0] * len(dataclasses.fields(Graft))
    if graft is not None:
        fields = [
            getattr(graft, field.name) - (address if field.name in _ADDRESSES else 0) for field in dataclasses.fields(Graft)
        ]
    if any(value not in _PLACES for value in (memory - address, *fields)):
        raise BadElf("it takes more than 2 GiB of memory, and a launcher reaches no further")
    fixed = _FORM.pack(MAGIC, FORMAT, len(stub) + len(tail), config.room, memory - address, *texts, *fields)
    return fixed + stub[SIZE:] + bytes(tail)


def size_of(config: Config, stub: bytes) -> int:
    """How many bytes write() gives."""
    return len(write(dataclasses.replace(config, graft=None), stub, address=0, memory=0))


def read(data: bytes | bytearray, offset: int, *, address: int) -> Config | None:
    """The configuration at ``offset``, loaded at ``address``, or None when there is none.

    Raises BadElf when it is damaged or of another format.
    """
    if data[offset : offset + len(MAGIC)] != MAGIC:
        return None
    if offset + SIZE > len(data):
        raise BadElf("its launcher's configuration is cut off")
    _, form, size, _, _, interpreter, defaults, script, arguments, *fields = _FORM.unpack_from(data, offset)
    if form != FORMAT or not SIZE <= size <= MAX_SIZE:
        raise BadElf(f"a launcher of the format {form}, and this builder knows format {FORMAT}")
    block = bytes(data[offset : offset + size])
    named = dict(zip((field.name for field in dataclasses.fields(Graft)), fields, strict=True))
    for name in _ADDRESSES:
        named[name] += address
    return Config(
        read_string(block, interpreter),
        _read_list(block, defaults),
        read_string(block, script),
        _read_list(block, arguments),
        Graft(**named) if fields[0] else None,
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
