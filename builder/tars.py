"""Tar archives as a stream of members.

Formats: POSIX ustar and pax (https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html), GNU's long names and
base-256 numbers (GNU tar manual, "Basic Tar Format"), and version 7. The standard library's reader is not used because it
takes names and attributes of any length into memory, forgives damage, and takes three times as long for small files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from builder.streams import BadStream, Bounds, Reader

BLOCK = 512
_ZEROS = bytes(BLOCK)


class Kind(Enum):
    """What a member is."""

    FILE = "file"
    LINK = "hard link"
    SYMLINK = "symlink"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Member:
    """One member: ``name`` and ``target`` as they stand there, ``size`` in bytes, 0 for all but files."""

    name: bytes
    kind: Kind
    size: int
    executable: bool
    target: bytes


class BadMember(BadStream):
    """A member that cannot be taken; ``name`` is its name and ``reason`` says why."""

    def __init__(self, name: bytes, reason: str) -> None:
        super().__init__(reason)
        self.name = name
        self.reason = reason


@dataclass(slots=True)
class _Extra:
    """What headers before a member say of it."""

    name: bytes | None = None
    target: bytes | None = None
    size: int | None = None
    taken: int = field(default=0)


def members(reader: Reader, bounds: Bounds) -> Iterator[Member]:
    """Every member, in order.

    Who takes a file's member has to read its ``size`` bytes from ``reader``, all of them, before asking for the next.
    Raises BadStream and BadMember: damage, a cut, something behind the end, a device, anything beyond ``bounds``.
    """
    extra = _Extra()
    while True:
        header = reader.exactly(BLOCK)
        if header == _ZEROS:
            _finish(reader)
            if extra.taken:
                raise BadStream("its last member is missing")
            return
        _check_sum(header)
        name, target, size = _name(header), _text(header, 157, 100), _number(header, 124, 12)
        kind = header[156:157]
        if kind in (b"x", b"g", b"L", b"K"):
            extra.taken += BLOCK + size
            if extra.taken > bounds.header:
                raise BadMember(name, f"its names and attributes take more than {bounds.header} bytes")
            data = reader.exactly(size)
            reader.exactly(-size % BLOCK)
            _take(extra, kind, data)
            continue
        member = _member(header, kind, extra.name or name, extra.target or target, size if extra.size is None else extra.size)
        extra = _Extra()
        if member.size > bounds.file:
            raise BadMember(member.name, f"it has {member.size} bytes, and {bounds.file} are the most that is taken")
        yield member
        reader.exactly(-member.size % BLOCK)


def _member(header: bytes, kind: bytes, name: bytes, target: bytes, size: int) -> Member:
    executable = bool(_number(header, 100, 8) & 0o111)
    match kind:
        case b"0" | b"\0" | b"7":
            # Version 7 had no other mark of a directory.
            if kind == b"\0" and name.endswith(b"/"):
                return Member(name, Kind.DIRECTORY, 0, False, b"")
            return Member(name, Kind.FILE, size, executable, b"")
        case b"1":
            if size:
                raise BadMember(name, "a hard link with contents of its own")
            return Member(name, Kind.LINK, 0, False, target)
        case b"2":
            return Member(name, Kind.SYMLINK, 0, False, target)
        case b"5":
            return Member(name, Kind.DIRECTORY, 0, False, b"")
        case b"3" | b"4":
            raise BadMember(name, "it is a device")
        case b"6":
            raise BadMember(name, "it is a named pipe")
        case b"S":
            raise BadMember(name, "it is stored as a sparse file, which is not supported")
    raise BadMember(name, f"it is of an unknown kind, {kind!r}")


def _finish(reader: Reader) -> None:
    for part in reader.rest():
        if part.count(0) != len(part):
            raise BadStream("something else follows its last member")


def _check_sum(header: bytes) -> None:
    # The sum is taken with its own field as spaces. Some old programs summed signed bytes.
    told = _number(header, 148, 8)
    found = sum(header) - sum(header[148:156]) + 8 * 32
    if told != found and told != found - 256 * sum(byte > 127 for byte in header[:148] + header[156:]):
        raise BadStream("damaged, or no archive of a known form: the checksum of a member's header is wrong")


def _text(header: bytes, start: int, size: int) -> bytes:
    return header[start : start + size].partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    name = _text(header, 0, 100)
    # GNU tar's own magic is "ustar  ", and means something else by the place of the prefix.
    if header[257:263] == b"ustar\0" and (prefix := _text(header, 345, 155)):
        return prefix + b"/" + name
    return name


def _number(header: bytes, start: int, size: int) -> int:
    raw = header[start : start + size]
    if raw[0] & 0x80:
        if raw[0] != 0x80:
            raise BadMember(_name(header), "a negative or endless number in its header")
        return int.from_bytes(raw[1:], "big")
    digits = raw.strip(b" \0")
    if not digits:
        return 0
    # int() by itself would take signs, underscores and other digits.
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise BadMember(_name(header), "a number in its header has other characters than octal digits")
    return int(digits, 8)


def _take(extra: _Extra, kind: bytes, data: bytes) -> None:
    if kind == b"L":
        extra.name = data.partition(b"\0")[0]
    elif kind == b"K":
        extra.target = data.partition(b"\0")[0]
    else:
        for key, value in _records(data):
            _take_record(extra, key, value, everywhere=kind == b"g")


def _take_record(extra: _Extra, key: bytes, value: bytes, *, everywhere: bool) -> None:
    if key.startswith(b"GNU.sparse."):
        raise BadStream("a member is stored as a sparse file, which is not supported")
    if key not in (b"path", b"linkpath", b"size"):
        return  # owners, times, attributes: nothing that a tree keeps
    if everywhere:
        raise BadStream(f"a global header sets the {key.decode()} of every member")
    if key == b"path":
        extra.name = value
    elif key == b"linkpath":
        extra.target = value
    elif not value.isdigit() or len(value) > 20:
        raise BadStream("a pax header has a size that is no number")
    else:
        extra.size = int(value)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pax records: ``length key=value`` and a newline, where the length counts all of it."""
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 21].partition(b" ")
        if not space or not digits.isdigit():
            raise BadStream("a pax header is damaged")
        end = at + int(digits)
        key, equals, value = data[at + len(digits) + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise BadStream("a pax header is damaged")
        yield key, value[:-1]
        at = end
