"""A program in one file: an extractor (launcher/run), what the artifact is, and the contents of its files, compressed.

docs/run-format.md describes the format. The same artifact gives the same bytes on any machine, as long as zstandard is the
same. Machine code is made more alike before compression, which takes 7 % off.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zstandard

from launcher import bootstrap, elf
from launcher.machines import AARCH64, X86_64, Machine
from store import codec
from store.artifacts import Folder
from store.digest import Digest
from store.manifest import File, Manifest

MAGIC = b"builder run 1\n\0\0"
# The magic, and size and digest of each of the two records.
HEADER = struct.Struct("<16sQ32sQ32s")

# What one core unpacks at a time, in memory, at most. Below SMALL it is not worth more cores than one.
FRAME, SMALL = 1 << 24, 1 << 21
ZSTD_LEVEL, ZSTD_WINDOW_LOG = 19, 24
NONE, X86, ARM64 = range(3)
FILTERS = {X86_64: X86, AARCH64: ARM64}

# Where the kernel maps what is behind the extractor: beyond all of it.
_ADDRESS = 1 << 30
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_HEADERS_AT, _SECTIONS_AT, _COUNTS_AT = 32, 40, 56
_PT_LOAD, _PT_PHDR, _PF_R = 1, 6, 4

# Instructions with a place that is counted from their own end: call and jump (E8, E9), and lea and mov of 64 bits (8D, 8B).
# With a group if it is less than 32 MiB away. Others are passed over as a whole too, or the change of one that begins inside
# would be seen as a change of theirs.
_X86 = re.compile(
    rb"(?:[\xe8\xe9]|[\x48-\x4f][\x8b\x8d][\x05\x0d\x15\x1d\x25\x2d\x35\x3d])(?:...([\x00\x01\xfe\xff])|....)", re.DOTALL
)
# The last byte of BL.
_ARM64_CALL = re.compile(rb"[\x94-\x97]")

Read = Callable[[File], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class About:
    """What is in a file: an artifact, the names of its programs in ``bin``, and which of them is started if none is named."""

    artifact: Manifest
    name: str
    version: str
    machine: Machine
    programs: tuple[str, ...]
    main: str | None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a file in a frame: it stands at ``start`` of the frame, and at ``behind`` of the file."""

    start: int
    size: int
    behind: int


def write(about: About, read: Read, head: Callable[[File], bytes], place: Path, *, threads: int) -> None:
    """Write the file, which can be started. ``read`` gives the bytes of a file of the artifact, ``head`` the first of them."""
    order, code = _order(about.artifact, head)
    rows: list[codec.Value] = []
    packed = place.with_name(place.name + ".frames")
    with open(packed, "w+b") as frames:
        for size, kind, data in _compressed(about, read, order, code, threads):
            frames.write(data)
            rows.append([len(data), size, kind, Digest.of(data).raw])
        numbers = {path: number for number, (path, _) in enumerate(about.artifact.entries)}
        start = codec.encode(
            "run",
            [
                str(Folder.of(about.artifact.digest, about.name, about.version)),
                about.name,
                about.version,
                about.artifact.digest.raw,
                [[os.fsencode(program), b"bin/" + os.fsencode(program)] for program in about.programs],
                None if about.main is None else about.programs.index(about.main),
            ],
        )
        contents = codec.encode("contents", [rows, [numbers[path] for path, _ in order], about.artifact.encode()])
        header = HEADER.pack(MAGIC, len(start), Digest.of(start).raw, len(contents), Digest.of(contents).raw)
        front = header + start + contents
        frames.seek(0)
        with open(place, "xb") as file:
            file.write(_extractor(about.machine, len(front) + os.fstat(frames.fileno()).st_size))
            file.write(front)
            shutil.copyfileobj(frames, file, FRAME)
            os.fchmod(file.fileno(), 0o755)
    packed.unlink()


def _order(artifact: Manifest, head: Callable[[File], bytes]) -> tuple[list[tuple[bytes, File]], int]:
    """One file for each content, what is alike together, machine code first; and how many files of machine code there are."""
    seen: set[File] = set()
    first: list[tuple[bytes, File]] = []
    for path, node in artifact.files:
        if node not in seen:
            seen.add(node)
            first.append((path, node))
    is_code = {path: elf.is_elf(head(node)) for path, node in first}
    first.sort(key=lambda item: (not is_code[item[0]], _ending(item[0]), item[0]))
    return first, sum(is_code.values())


def _ending(path: bytes) -> bytes:
    return os.path.splitext(path.rpartition(b"/")[2])[1]


# -- frames --


def _compressed(
    about: About, read: Read, order: list[tuple[bytes, File]], code: int, threads: int
) -> Iterator[tuple[int, int, bytes]]:
    """Size, filter and compressed bytes of each frame. How many ``threads`` there are changes no byte."""
    groups = ((order[:code], FILTERS[about.machine]), (order[code:], NONE))
    waiting: deque[tuple[int, int, Future[bytes]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for group, kind in groups:
            for data, pieces in _frames([node for _, node in group], read):
                waiting.append((len(data), kind, pool.submit(_compress, data, pieces, kind)))
                if len(waiting) > threads:
                    size, done, future = waiting.popleft()
                    yield size, done, future.result()
        for size, done, future in waiting:
            yield size, done, future.result()


def _frames(files: list[File], read: Read) -> Iterator[tuple[bytearray, list[_Piece]]]:
    total = sum(file.size for file in files)
    # An even number of equal parts: most machines have an even number of cores.
    count = 2 * -(-total // (2 * FRAME)) if total > SMALL else 1
    most = -(-total // count)
    data = bytearray()
    pieces: list[_Piece] = []
    for file in files:
        behind = 0
        for chunk in read(file):
            rest = memoryview(chunk)
            while rest:
                part = rest[: most - len(data)]
                if pieces and behind:
                    last = pieces.pop()
                    pieces.append(_Piece(last.start, last.size + len(part), last.behind))
                else:
                    pieces.append(_Piece(len(data), len(part), behind))
                data += part
                behind += len(part)
                rest = rest[len(part) :]
                if len(data) == most:
                    yield data, pieces
                    data, pieces = bytearray(), []
    if data:
        yield data, pieces


def _compress(data: bytearray, pieces: list[_Piece], kind: int) -> bytes:
    for piece in pieces:
        change(kind, data, piece.start, piece.size, piece.behind, sign=1)
    parameters = zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, window_log=ZSTD_WINDOW_LOG)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def change(kind: int, data: bytearray, start: int, size: int, behind: int, *, sign: int) -> None:
    """Make instructions of one piece of a frame more alike (``sign`` 1), or as they were (-1).

    The place that they name is counted from the frame's start, not from the instruction. The sum stays in 26 bits, so that what
    looks like such an instruction afterwards is what looked like one before.
    """
    if kind == X86:
        for match in _X86.finditer(bytes(data[start : start + size])):
            if match.lastindex is not None:
                at = start + match.end() - 4
                to = (struct.unpack_from("<I", data, at)[0] + sign * (at + 4)) & 0x3FFFFFF
                struct.pack_into("<I", data, at, to | 0xFC000000 if to & 0x2000000 else to)
    elif kind == ARM64:
        for match in _ARM64_CALL.finditer(bytes(data[start : start + size])):
            at = match.start() - 3
            if at >= 0 and (behind + at) % 4 == 0:
                word = struct.unpack_from("<I", data, start + at)[0]
                to = (word + sign * ((start + at) >> 2)) & 0x3FFFFFF
                struct.pack_into("<I", data, start + at, 0x94000000 | to)


# -- the extractor --


def _extractor(machine: Machine, size: int) -> bytes:
    """The extractor, told to map the ``size`` bytes that follow it.

    Its program header table has no room for one more entry. The one that tells where the table is may go: it is of use to
    programs that can be at any address.
    """
    program = bytearray(bootstrap.load_run(machine))
    (table,) = struct.unpack_from("<Q", program, _HEADERS_AT)
    width, count = struct.unpack_from("<2xHH", program, _COUNTS_AT - 4)
    headers = [_PROGRAM_HEADER.unpack_from(program, table + number * width) for number in range(count)]
    assert headers[0][0] == _PT_PHDR
    end = max(offset + length for _, _, offset, _, _, length, _, _ in headers)
    # Sections are of no use either, and what is behind the program has none.
    del program[end:]
    struct.pack_into("<Q", program, _SECTIONS_AT, 0)
    struct.pack_into("<HHH", program, _COUNTS_AT + 2, 0, 0, 0)
    program += bytes(-len(program) % machine.page)
    place = _ADDRESS + len(program)
    headers = [*headers[1:], (_PT_LOAD, _PF_R, len(program), place, place, size, size, machine.page)]
    for number, header in enumerate(headers):
        _PROGRAM_HEADER.pack_into(program, table + number * width, *header)
    return bytes(program)
