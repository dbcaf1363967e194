"""Debian's order of versions (Debian Policy 5.6.12, deb-version(7))."""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")


def compare(one: str, two: str) -> int:
    """Below zero when ``one`` is the earlier version, above zero when it is the later one, zero when they are the same."""
    first, second = _split(one), _split(two)
    if first[0] != second[0]:
        return -1 if first[0] < second[0] else 1
    return _compare(first[1], second[1]) or _compare(first[2], second[2])


sort_key = cmp_to_key(compare)


def satisfies(version: str, relation: str, wanted: str) -> bool:
    """Whether ``version`` stands in the ``relation`` (one of << <= = >= >>) to ``wanted``."""
    order = compare(version, wanted)
    match relation:
        case "<<":
            return order < 0
        case "<=" | "<":
            return order <= 0
        case "=":
            return order == 0
        case ">=" | ">":
            return order >= 0
        case ">>":
            return order > 0
    raise AssertionError(relation)


def _split(version: str) -> tuple[int, str, str]:
    """Epoch, upstream version, Debian revision. What is no number as an epoch counts as none."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isascii() or not epoch.isdigit():
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (int(epoch), upstream, revision) if dash else (int(epoch), rest, "")


def _compare(one: str, two: str) -> int:
    """Parts without digits and numbers by turns, from the left."""
    pairs = zip_longest(_PARTS.findall(one), _PARTS.findall(two), fillvalue=("", ""))
    for (letters, digits), (others, other_digits) in pairs:
        if letters != others:
            first, second = _rank(letters), _rank(others)
            if first != second:
                return -1 if first < second else 1
        number, other = int(digits or 0), int(other_digits or 0)
        if number != other:
            return -1 if number < other else 1
    return 0


def _rank(letters: str) -> list[int]:
    """Letters before all else, the tilde before even the end of a part, which is a 0."""
    return [*(-1 if c == "~" else ord(c) if c.isascii() and c.isalpha() else ord(c) + 0x110000 for c in letters), 0]
