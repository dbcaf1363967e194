"""Compressed bytes in, plain bytes out, within bounds.

The form is told by its first bytes, not by a file's name: gzip (RFC 1952), bzip2, xz
(https://tukaani.org/xz/xz-file-format.txt), zstandard (RFC 8878), or none of these, which is passed through. Several streams
one after the other are one, as gzip(1), bzip2(1) and xz(1) have it. Anything else after the end is an error, and so is an
end that comes too soon.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import zstandard

from store.errors import Error

READ = 1 << 18  # bytes of compressed input taken at a time
PIECE = 1 << 20  # bytes of plain output made at a time, at most

# What xz -9 needs is 65 MiB, and what zstd --long=27 needs is 128 MiB; an archive that asks for more is not a usual one.
MEMORY = 160 << 20
WINDOW = 1 << 27


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one archive may hold at most.

    ``entries`` counts its members. ``total`` and ``file`` are the bytes of all of it, and of one file, unpacked. ``ratio`` is
    how many times its own size an archive may unpack to; it counts from ``free`` unpacked bytes on, because small archives of
    zeros are harmless. ``depth`` is the number of components of a path. ``header`` is the bytes of names and attributes that
    may come between two members.
    """

    entries: int = 2_000_000
    total: int = 64 << 30
    file: int = 32 << 30
    ratio: int = 1000
    free: int = 256 << 20
    depth: int = 128
    header: int = 1 << 20


class BadStream(Error):
    """Compressed bytes that are damaged, cut off, followed by something else, or that grow beyond bounds."""


class Input(Protocol):
    """Where compressed bytes come from: a file opened for reading, or a part of one."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decoder in the shape of lzma's and bz2's."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail and not self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


GZIP = b"\x1f\x8b"
BZIP2 = b"BZh"
XZ = b"\xfd7zXZ\0"
ZSTD = b"\x28\xb5\x2f\xfd"
ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte 0x50 to 0x5f


def _decoder(start: bytes) -> _Decoder | None:
    if start.startswith(GZIP):
        return _Gzip()
    if start.startswith(BZIP2):
        return bz2.BZ2Decompressor()
    if start.startswith(XZ):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    return None


class Counted:
    """A source that counts the bytes taken from it."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        data = self._source.read(size)
        self.count += len(data)
        return data


def pieces(source: Input, bounds: Bounds) -> Iterator[bytes]:
    """The plain bytes of ``source``, in pieces of at most PIECE bytes, none of them empty. Raises BadStream."""
    counted = Counted(source)
    produced = 0
    try:
        for piece in _plain(counted):
            produced += len(piece)
            if produced > bounds.total:
                raise BadStream(f"it unpacks to more than {bounds.total} bytes")
            if produced > bounds.free and produced > bounds.ratio * counted.count:
                raise BadStream(f"it unpacks to more than {bounds.ratio} times its own size")
            yield piece
    except EOFError:
        raise BadStream("it is cut off in the middle of its compressed data") from None
    except (lzma.LZMAError, zlib.error, zstandard.ZstdError, OSError) as error:
        # bz2 raises a bare OSError for bad data; one with a number is the disk's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadStream(f"its compressed data is damaged ({error})") from None


def _plain(source: Counted) -> Iterator[bytes]:
    data = _at_least(source, b"", 6)
    if data.startswith(ZSTD):
        yield from _zstandard(source, data)
        return
    decoder = _decoder(data)
    if decoder is None:
        while data:
            yield data
            data = source.read(PIECE)
        return
    magic = data[:2]
    while True:
        if piece := decoder.decompress(data, PIECE):
            yield piece
        if decoder.eof:
            data = _next_stream(source, decoder.unused_data, magic)
            if not data:
                return
            following = _decoder(data)
            assert following is not None
            decoder = following
        elif decoder.needs_input:
            data = source.read(READ)
            if not data:
                raise EOFError
        else:
            data = b""


def _at_least(source: Counted, data: bytes, size: int) -> bytes:
    while len(data) < size and (more := source.read(READ)):
        data += more
    return data


def _next_stream(source: Counted, data: bytes, magic: bytes) -> bytes:
    """What comes after the end of a stream: the start of another one of its kind, or nothing. Padding of zeros is skipped."""
    while True:
        data = data.lstrip(b"\0")
        if data:
            break
        data = source.read(READ)
        if not data:
            return b""
    data = _at_least(source, data, 6)
    if data[:2] != magic or _decoder(data) is None:
        raise BadStream("something else follows its compressed data")
    return data


def _zstandard(source: Counted, data: bytes) -> Iterator[bytes]:
    """Frames, taken block by block (RFC 8878, section 3.1.1): so memory is bounded, and a cut-off frame is seen."""
    while data:
        if data[:4] != ZSTD:
            data = _skip_frame(source, data)
            continue
        frame = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj(write_size=1 << 17)
        data = _filled(source, data, 5)
        flags = data[4]
        single = flags >> 5 & 1
        taken = 6 - single + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        last = False
        while not last:
            data = _filled(source, data, taken + 3)
            header = int.from_bytes(data[taken : taken + 3], "little")
            last = bool(header & 1)
            # A block of the kind 1 is one byte that is repeated.
            taken += 3 + (1 if header >> 1 & 3 == 1 else header >> 3) + (4 if last and flags & 4 else 0)
            data = _filled(source, data, taken)
            if piece := frame.decompress(data[:taken]):
                yield piece
            data, taken = data[taken:], 0
        if not frame.eof:
            raise EOFError
        data = _at_least(source, data, 4)


def _skip_frame(source: Counted, data: bytes) -> bytes:
    if data[1:4] != ZSTD_SKIPPABLE or data[0] >> 4 != 5:
        raise BadStream("something else follows its compressed data")
    data = _filled(source, data, 8)
    size = 8 + int.from_bytes(data[4:8], "little")
    while len(data) < size:
        size -= len(data)
        data = source.read(READ)
        if not data:
            raise EOFError
    return _at_least(source, data[size:], 4)


def _filled(source: Counted, data: bytes, size: int) -> bytes:
    data = _at_least(source, data, size)
    if len(data) < size:
        raise EOFError
    return data


class Reader:
    """Plain bytes, taken by the number. Raises BadStream."""

    def __init__(self, source: Input, bounds: Bounds) -> None:
        self._pieces = pieces(source, bounds)
        self._piece = b""
        self._at = 0
        self._before = 0

    @property
    def taken(self) -> int:
        """How many bytes were taken so far."""
        return self._before + self._at

    def _more(self) -> bool:
        self._before += len(self._piece)
        self._piece = next(self._pieces, b"")
        self._at = 0
        return bool(self._piece)

    def upto(self, size: int) -> bytes:
        """``size`` bytes, and fewer only at the end."""
        at = self._at
        if at + size <= len(self._piece):
            self._at = at + size
            return self._piece[at : at + size]
        return b"".join(self._parts(size))

    def exactly(self, size: int) -> bytes:
        """``size`` bytes. Raises BadStream when there are not that many."""
        data = self.upto(size)
        if len(data) != size:
            raise BadStream("it is cut off")
        return data

    def parts(self, size: int) -> Iterator[bytes]:
        """``size`` bytes in pieces. Raises BadStream when there are not that many."""
        for part in self._parts(size):
            size -= len(part)
            yield part
        if size:
            raise BadStream("it is cut off")

    def _parts(self, size: int) -> Iterator[bytes]:
        while size and (self._at < len(self._piece) or self._more()):
            part = self._piece[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            yield part

    def rest(self) -> Iterator[bytes]:
        """All that is left, in pieces."""
        while self._at < len(self._piece) or self._more():
            part = self._piece[self._at :]
            self._at = len(self._piece)
            yield part
