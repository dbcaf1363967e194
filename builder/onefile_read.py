"""What ``builder.onefile`` writes, read back: the record, and the frames with the contents of its files. Nothing is started."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import zstandard

from builder import onefile
from builder.archives import DEFAULT
from builder.streams import BadStream, Input
from store import codec
from store.batch import Batch, WrongBytes
from store.codec import BadRecord
from store.digest import BadDigest, Digest
from store.manifest import BadEntry, File, Manifest

RECORD = 1 << 28  # bytes
_MOST_HEADERS = 64
_PLACE = struct.Struct("<8xQ")


@dataclass(frozen=True, slots=True)
class Record:
    """What a file says that it holds. ``order`` are its different files, as their bytes follow in the frames."""

    name: str
    version: str
    artifact: Manifest
    frames: Sequence[Frame]
    order: Sequence[File]


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of the contents: its compressed and its plain size, how it was changed, and the digest of what is compressed."""

    packed: int
    size: int
    kind: int
    digest: Digest


def find(file: BinaryIO) -> int | None:
    """Where the header is: where one of the segments of the ELF file begins. None: it is a file of another kind."""
    head = _at(file, 0, 64)
    if len(head) < 64 or head[:6] != b"\x7fELF\2\1":
        return None
    table, width, count = (*struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54))
    for number in range(min(count, _MOST_HEADERS)):
        if (place := table + number * width) < 1 << 20 and len(header := _at(file, place, 16)) == 16:
            (offset,) = _PLACE.unpack(header)
            if offset < 1 << 40 and _at(file, offset, len(onefile.MAGIC)) == onefile.MAGIC:
                return int(offset)
    return None


def _at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def read(file: Input, batch: Batch) -> Record:
    """The record, with every file that it names added to ``batch``. ``file`` begins with the header. Raises BadStream."""
    try:
        record = _record(file)
        plain = _Plain(file, record)
        for node in record.order:
            batch.add_expected(plain.take(node.size), node)
    except (BadRecord, BadDigest, BadEntry, WrongBytes) as error:
        raise BadStream(error.message) from None
    if file.read(1):
        raise BadStream("something else follows its contents")
    return record


def _record(file: Input) -> Record:
    _, *pairs = onefile.HEADER.unpack(_exactly(file, onefile.HEADER.size))
    start, contents = (_verified(file, size, digest) for size, digest in (pairs[:2], pairs[2:]))
    _, name, version, artifact, _, _ = codec.decode("run", start, 6)
    rows, numbers, tree = codec.decode("contents", contents, 3)
    if not (isinstance(name, str) and isinstance(version, str) and isinstance(tree, bytes)):
        raise BadRecord("run", "its name, version or tree is none")
    manifest = Manifest.decode(tree)
    if manifest.digest.raw != artifact:
        raise BadRecord("run", "its tree has another digest than it says")
    frames = [_frame(row) for row in rows] if isinstance(rows, list) else []
    order = _order(manifest, numbers)
    size, packed = sum(frame.size for frame in frames), sum(frame.packed for frame in frames)
    if size != sum(node.size for node in order):
        raise BadRecord("run", "its files are not as large as its frames")
    if size > DEFAULT.total:
        raise BadStream(f"it unpacks to more than {DEFAULT.total} bytes")
    if size > DEFAULT.free and size > DEFAULT.ratio * packed:
        raise BadStream(f"it unpacks to more than {DEFAULT.ratio} times its own size")
    return Record(name, version, manifest, frames, order)


def _verified(file: Input, size: int, digest: bytes) -> bytes:
    if size > RECORD:
        raise BadStream(f"a record of more than {RECORD} bytes")
    data = _exactly(file, size)
    if Digest.of(data).raw != digest:
        raise BadStream("its record is damaged")
    return data


def _frame(row: Any) -> Frame:
    match row:
        case [int(packed), int(size), int(kind), bytes(digest)] if (
            0 < size <= onefile.FRAME and 0 < packed <= 2 * onefile.FRAME and kind in (onefile.NONE, *onefile.FILTERS.values())
        ):
            return Frame(packed, size, kind, Digest(digest))
    raise BadRecord("run", "a frame of an unknown form")


def _order(manifest: Manifest, numbers: Any) -> list[File]:
    nodes = list(manifest.nodes.values())
    found = []
    for number in numbers if isinstance(numbers, list) else []:
        node = nodes[number] if type(number) is int and 0 <= number < len(nodes) else None
        if not isinstance(node, File):
            raise BadRecord("run", "contents of what is no file")
        found.append(node)
    if set(found) != {node for _, node in manifest.files} or len(set(found)) != len(found):
        raise BadRecord("run", "its contents are not those of its files")
    return found


class _Plain:
    """The contents of all files, one after the other, as they were before they were compressed."""

    def __init__(self, file: Input, record: Record) -> None:
        self._file = file
        self._frames = iter(record.frames)
        self._sizes = [node.size for node in record.order]
        self._number = 0  # of the file that the next frame begins in,
        self._behind = 0  # and how much of it was before that frame
        self._data = memoryview(b"")

    def take(self, size: int) -> Iterator[bytes]:
        """The next ``size`` bytes, in pieces."""
        while size:
            if not self._data:
                self._data = memoryview(self._next())
            part = bytes(self._data[:size])
            self._data = self._data[len(part) :]
            size -= len(part)
            yield part

    def _next(self) -> bytearray:
        frame = next(self._frames)
        packed = _exactly(self._file, frame.packed)
        if Digest.of(packed) != frame.digest:
            raise BadStream("its contents are damaged")
        try:
            # The decoder takes as much memory as the frame says that it needs.
            if zstandard.frame_content_size(packed) != frame.size:
                raise BadStream("a part of its contents has another size than it says")
            data = bytearray(
                zstandard.ZstdDecompressor(max_window_size=onefile.FRAME).decompress(packed, frame.size, allow_extra_data=False)
            )
        except zstandard.ZstdError as error:
            raise BadStream(f"its compressed data is damaged ({error})") from None
        at = 0
        while at < len(data):
            part = min(self._sizes[self._number] - self._behind, len(data) - at)
            onefile.change(frame.kind, data, at, part, self._behind, sign=-1)
            at += part
            self._behind += part
            if self._behind == self._sizes[self._number]:
                self._number += 1
                self._behind = 0
        return data


def _exactly(file: Input, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = file.read(min(size - len(data), 1 << 20))
        if not piece:
            raise BadStream("it is cut off")
        data += piece
    return bytes(data)
