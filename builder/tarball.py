"""Tar archives made from manifests, and their compression. The same tree gives the same bytes, on any machine.

The form is GNU tar's ("Basic Tar Format" in its manual), because busybox reads long names in no other. Everything that a
manifest does not say is fixed: owner 0, the store's time, modes 0644 and 0755. The standard library's writer is not used: its
bytes are not promised from one Python to the next, and its names are texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import deflate
import zstandard

from store import files
from store.manifest import Directory, File, Manifest, Node, Symlink

BLOCK = 512
JOIN = 1 << 18  # bytes of small members that are handed on in one piece

# With another version of zstd or libdeflate, the bytes may be others. A window of 8 MiB is what any decoder of zstandard takes
# without being asked to.
ZSTD_LEVEL, ZSTD_WINDOW_LOG, ZSTD_JOB = 19, 23, 32 << 20
GZIP_LEVEL, GZIP_MEMBER = 6, 8 << 20

Read = Callable[[File], Iterable[bytes]]

_LONG_NAME, _LONG_TARGET = b"L", b"K"
_MOST = 8**11  # the first size that eleven octal digits cannot say


def stream(tree: Manifest, read: Read, *, top: bytes = b"", modes: Mapping[bytes, int] | None = None) -> Iterator[bytes]:
    """The archive, in pieces. ``read`` gives the bytes of a file; ``top`` is a folder to put everything in.

    ``modes`` are of paths whose mode is an unusual one.
    """
    waiting: list[bytes] = []
    size = 0
    for piece in _members(tree, read, top, modes or {}):
        waiting.append(piece)
        size += len(piece)
        if size >= JOIN:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    waiting.append(bytes(2 * BLOCK))
    yield b"".join(waiting)


def beginning(top: bytes) -> bytes:
    """What every archive begins with that has all in the folder ``top``."""
    return b"".join(_header(top + b"/", b"5", 0o755))


def _members(tree: Manifest, read: Read, top: bytes, modes: Mapping[bytes, int]) -> Iterator[bytes]:
    if top:
        yield beginning(top)
    for path, node in tree.entries:
        name = top + b"/" + path if top else path
        mode = modes.get(path, _mode(node))
        match node:
            case Directory():
                yield from _header(name + b"/", b"5", mode)
            case Symlink(target):
                yield from _header(name, b"2", mode, target=target)
            case File(size=size):
                yield from _header(name, b"0", mode, size=size)
                yield from read(node)
                yield bytes(-size % BLOCK)


def _mode(node: Node) -> int:
    match node:
        case Directory():
            return 0o755
        case Symlink():
            return 0o777
        case File(executable=executable):
            return 0o755 if executable else 0o644


def _header(name: bytes, kind: bytes, mode: int, *, size: int = 0, target: bytes = b"") -> Iterator[bytes]:
    if len(target) > 100:
        yield from _long(_LONG_TARGET, target)
    if len(name) > 100:
        yield from _long(_LONG_NAME, name)
    yield _block(name[:100], kind, mode, size, target[:100])


def _long(kind: bytes, text: bytes) -> Iterator[bytes]:
    """A member that holds the name or target of the next one, with a NUL behind it."""
    data = text + b"\0"
    yield _block(b"././@LongLink", kind, 0, len(data), b"")
    yield data + bytes(-len(data) % BLOCK)


def _block(name: bytes, kind: bytes, mode: int, size: int, target: bytes) -> bytes:
    number = b"%011o\0" % size if size < _MOST else b"\x80" + size.to_bytes(11, "big")
    start = b"%s%07o\0%07o\0%07o\0%s%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, number, files.EPOCH)
    end = kind + target.ljust(100, b"\0") + b"ustar  \0"
    checksum = sum(start) + sum(end) + 8 * 32
    return (start + b"%06o\0 " % checksum + end).ljust(BLOCK, b"\0")


def zstd(pieces: Iterable[bytes], *, threads: int) -> Iterator[bytes]:
    """The same as one frame of zstandard (RFC 8878), with a checksum. How many ``threads`` there are changes no byte."""
    assert threads > 0, "without threads of its own the encoder gives other bytes"
    parameters = zstandard.ZstdCompressionParameters.from_level(
        ZSTD_LEVEL, window_log=ZSTD_WINDOW_LOG, job_size=ZSTD_JOB, threads=threads, write_checksum=True
    )
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    for piece in pieces:
        if out := encoder.compress(piece):
            yield out
    yield encoder.flush()


def gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same as members of gzip (RFC 1952), each of 8 MiB but the last.

    By libdeflate and not by the standard library: that has the zlib of the machine, and these give different bytes.
    """
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= GZIP_MEMBER:
            yield bytes(deflate.gzip_compress(waiting[:GZIP_MEMBER], GZIP_LEVEL))
            del waiting[:GZIP_MEMBER]
    if waiting:
        yield bytes(deflate.gzip_compress(waiting, GZIP_LEVEL))
