"""Canonical msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md): one value has one encoding.

Arrays, byte strings, texts, integers, booleans and nil only; no maps and no floats. A record is an array whose first
element is the format number and whose second is the word for what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack

from store.errors import Error

FORMAT = 1
MAX_DEPTH = 32  # of lists in lists: what packing says of a program is 5 deep

# As typing has it, whose import would take a twentieth of a build that has nothing to do.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Value: TypeAlias = "bool | int | str | bytes | list[Value] | None"
else:
    Value = object


class BadRecord(Error):
    """Bytes that are not the one encoding of a ``kind`` record; ``reason`` says why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"damaged or foreign {kind}: {reason}")
        self.kind = kind
        self.reason = reason


def encode(kind: str, fields: Sequence[Value]) -> bytes:
    """The bytes of the record ``[FORMAT, kind, *fields]``."""
    packed: bytes = msgpack.packb([FORMAT, kind, *fields], use_bin_type=True, strict_types=True)
    return packed


def decode(kind: str, data: bytes, count: int, *, looked_at: bool = False) -> list[Any]:
    """The ``count`` fields of a ``kind`` record. Raises BadRecord when ``data`` is not exactly what encode gives.

    With ``looked_at`` the caller looks at the type of every value in it, which then is not done here too.
    """
    try:
        record = msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True)
    except Exception as error:  # msgpack raises its own classes, ValueError, and UnicodeDecodeError
        raise BadRecord(kind, f"not msgpack ({type(error).__name__})") from None
    if not isinstance(record, list) or len(record) < 2:
        raise BadRecord(kind, "not a record")
    # Longer forms of an integer or a length decode too; floats and maps must not pass at all. First of all, for what is
    # shown of a record in an error has to have an end too.
    _refuse_foreign(kind, record[:2] if looked_at else record)
    # `True == 1`, so the type is looked at too.
    if type(record[0]) is not int or record[0] != FORMAT:
        raise BadRecord(kind, f"format {record[0]!r:.100}, and this builder reads format {FORMAT}")
    if record[1] != kind:
        raise BadRecord(kind, f"it is a record of the kind {record[1]!r:.100}")
    if len(record) != count + 2:
        raise BadRecord(kind, f"{len(record) - 2} fields instead of {count}")
    try:
        again = msgpack.packb(record, use_bin_type=True, strict_types=True)
    except (ValueError, TypeError):  # lists in lists without end, or what nobody looked at yet
        again = b""
    if again != data:
        raise BadRecord(kind, "not in canonical form")
    return record[2:]


def decode_again(kind: str, data: bytes) -> list[Any]:
    """The fields of a record whose bytes are known to be one, by their digest. Raises BadRecord if it is of another kind."""
    record = msgpack.unpackb(data, raw=False, use_list=True)
    if record[:2] != [FORMAT, kind]:
        raise BadRecord(kind, "a record of another kind")
    fields: list[Any] = record[2:]
    return fields


def _refuse_foreign(kind: str, value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for item in level:
            if type(item) is list:
                deeper.extend(item)
            elif not (item is None or type(item) in (bool, int, str, bytes)):
                raise BadRecord(kind, f"holds a {type(item).__name__}")
        if not deeper:
            return
        level = deeper
    raise BadRecord(kind, f"lists in lists, more than {MAX_DEPTH} deep")
