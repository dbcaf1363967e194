"""How blobs travel: many in one object, a *parcel*, and the records that say what is where.

A parcel is a row of zstd frames (RFC 8878), one a blob. A *waybill* is a tree's manifest with the place of each of its blobs;
an *inventory* lists what some parcels hold. None of them is believed: blobs are compared with their digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Protocol, cast

import zstandard

from store import codec
from store.codec import BadRecord, Value
from store.digest import BadDigest, Digest
from store.manifest import File, Manifest

SIZE = 8 << 20  # bytes at which a parcel is full; a larger blob has one of its own
LEVEL = 9
CHUNK = 1 << 20
MAX_OBJECT = 1 << 28  # bytes of a waybill, inventory or manifest on a remote
MAX_RECORD = 1 << 30  # bytes of it without compression
MAX_WINDOW = 1 << 27
MAX_OFFSET = 1 << 50


@dataclass(frozen=True, slots=True)
class Place:
    """Where a blob is: in which parcel, from which byte on, and how many bytes its frame has."""

    parcel: Digest
    offset: int
    length: int


def compress(data: bytes) -> bytes:
    """A record as it lies on a remote."""
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(data)


def expand(kind: str, data: bytes) -> bytes:
    """The record in an object. Raises BadRecord."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MAX_RECORD:
            raise BadRecord(kind, "it does not say how long it is, or is too long")
        return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadRecord(kind, f"not one zstd frame ({error})") from None


def unique(manifest: Manifest) -> list[File]:
    """The blobs of a tree, each once, in the order in which they are first there; one that has both modes is one."""
    seen: dict[Digest, File] = {}
    for _, node in manifest.files:
        seen.setdefault(node.blob, node)
    return list(seen.values())


@dataclass(frozen=True, slots=True)
class Waybill:
    """A tree with the places of its blobs, in the order of ``unique``. Name and version are what its sender called it."""

    name: str
    version: str
    manifest: Manifest
    places: tuple[Place, ...]

    def encode(self) -> bytes:
        """The bytes of the object: ``[1, "waybill", name, version, manifest, [parcel, …], [[number, offset, length], …]]``."""
        numbers: dict[Digest, int] = {}
        for place in self.places:
            numbers.setdefault(place.parcel, len(numbers))
        parcels: list[Value] = [parcel.raw for parcel in numbers]
        places: list[Value] = [[numbers[place.parcel], place.offset, place.length] for place in self.places]
        return compress(codec.encode("waybill", [self.name, self.version, self.manifest.encode(), parcels, places]))

    @classmethod
    def decode(cls, data: bytes) -> Waybill:
        """Read an object. Raises BadRecord, BadEntry or BadDigest."""
        name, version, manifest, parcels, places = codec.decode("waybill", expand("waybill", data), 5)
        types = [type(field) for field in (name, version, manifest, parcels, places)]
        if types != [str, str, bytes, list, list]:
            raise BadRecord("waybill", "a field of the wrong type")
        tree = Manifest.decode(manifest)
        known = [_digest("waybill", raw) for raw in parcels]
        found = tuple(_place("waybill", row, known) for row in places)
        if len(found) != len(unique(tree)):
            raise BadRecord("waybill", "it does not have one place for each blob")
        return cls(name, version, tree, found)

    def where(self) -> Iterator[tuple[File, Place]]:
        """Each blob with its place."""
        return zip(unique(self.manifest), self.places, strict=True)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What some parcels hold: each blob's place."""

    places: tuple[tuple[Digest, Place], ...]

    def encode(self) -> bytes:
        """The bytes of the object: ``[1, "inventory", [[parcel, [[blob, offset, length], …]], …]]``."""
        parcels: dict[Digest, list[Value]] = {}
        for blob, place in self.places:
            parcels.setdefault(place.parcel, []).append([blob.raw, place.offset, place.length])
        return compress(codec.encode("inventory", [[[parcel.raw, rows] for parcel, rows in parcels.items()]]))

    @classmethod
    def decode(cls, data: bytes) -> Inventory:
        """Read an object. Raises BadRecord."""
        (parcels,) = codec.decode("inventory", expand("inventory", data), 1)
        if type(parcels) is not list:
            raise BadRecord("inventory", "its parcels are no list")
        return cls(tuple(row for parcel in parcels for row in _parcel(parcel)))


@dataclass(frozen=True, slots=True)
class Condemned:
    """Parcels that no tree needed when garbage was last looked for, and which go next time."""

    parcels: tuple[Digest, ...]

    def encode(self) -> bytes:
        """The bytes of the object: ``[1, "condemned", [parcel, …]]``."""
        return compress(codec.encode("condemned", [[parcel.raw for parcel in self.parcels]]))

    @classmethod
    def decode(cls, data: bytes) -> Condemned:
        """Read an object. Raises BadRecord."""
        (parcels,) = codec.decode("condemned", expand("condemned", data), 1)
        if type(parcels) is not list:
            raise BadRecord("condemned", "its parcels are no list")
        return cls(tuple(_digest("condemned", raw) for raw in parcels))


def _digest(kind: str, raw: object) -> Digest:
    try:
        return Digest(raw)  # type: ignore[arg-type]  # the constructor looks
    except BadDigest as error:
        raise BadRecord(kind, error.message) from None


def _place(kind: str, row: object, parcels: Sequence[Digest]) -> Place:
    match row:
        case [int(number), int(offset), int(length)] if (
            0 <= number < len(parcels) and 0 <= offset <= MAX_OFFSET and 0 < length <= MAX_OFFSET
        ):
            return Place(parcels[number], offset, length)
    raise BadRecord(kind, "a place of an unknown form")


def _parcel(row: object) -> Iterator[tuple[Digest, Place]]:
    match row:
        case [bytes(raw), list(rows)]:
            parcel = _digest("inventory", raw)
            for inner in rows:
                match inner:
                    case [bytes(blob), offset, length]:
                        yield _digest("inventory", blob), _place("inventory", [0, offset, length], [parcel])
                    case _:
                        raise BadRecord("inventory", "a blob of an unknown form")
        case _:
            raise BadRecord("inventory", "a parcel of an unknown form")


class Source(Protocol):
    """What frames are read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


def expanded(frame: Source, size: int) -> Iterator[bytes]:
    """The ``size`` bytes of a blob out of its frame, in pieces. Raises BadRecord for what is no frame of so many bytes.

    A few bytes of a frame can stand for gigabytes, so it is what comes out that is asked for in pieces.
    """
    left = size
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        # It needs nothing of a file but ``read``.
        with decompressor.stream_reader(cast("IO[bytes]", frame), read_across_frames=False) as reader:
            while piece := reader.read(min(CHUNK, left + 1)):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
    except zstandard.ZstdError as error:
        raise BadRecord("parcel", f"not a zstd frame ({error})") from None
    if left:
        raise BadRecord("parcel", "a frame that does not have the size of its blob")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of one parcel, and the blobs that are wanted out of it, in order."""

    parcel: Digest
    start: int
    length: int
    wanted: tuple[tuple[File, Place], ...]


def spans(wanted: Iterable[tuple[File, Place]], *, gap: int = 1 << 18, most: int = 1 << 25) -> list[Span]:
    """The pieces to ask for, so that few requests bring what is ``wanted``: up to ``gap`` bytes too much rather than one more.

    A piece is no longer than ``most`` bytes, unless one blob is.
    """
    by_parcel: dict[Digest, list[tuple[File, Place]]] = {}
    for item in wanted:
        by_parcel.setdefault(item[1].parcel, []).append(item)
    found = []
    for parcel, items in by_parcel.items():
        items.sort(key=lambda item: item[1].offset)
        run: list[tuple[File, Place]] = []
        end = 0
        for item in items:
            place = item[1]
            if run and (place.offset < end or place.offset - end > gap or end - run[0][1].offset > most):
                found.append(Span(parcel, run[0][1].offset, end - run[0][1].offset, tuple(run)))
                run = []
            run.append(item)
            end = place.offset + place.length
        found.append(Span(parcel, run[0][1].offset, end - run[0][1].offset, tuple(run)))
    return found
