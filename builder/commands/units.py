"""Sizes and times as people write them on the command line."""

from __future__ import annotations

import argparse
import re

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def size(text: str) -> int:
    """Bytes, from a text such as 500M or 2.5G."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)b?", text.lower())
    if match is None:
        raise argparse.ArgumentTypeError("a size is needed, such as 500M or 2.5G")
    return int(float(match[1]) * _SIZES[match[2]])


def span(text: str) -> float:
    """Seconds, from a text such as 30d or 12h."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.lower())
    if match is None:
        raise argparse.ArgumentTypeError("a time is needed, such as 30d, 12h or 90m")
    return float(match[1]) * _TIMES[match[2]]


def count(text: str) -> int:
    """A number from 0 on."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("a number is needed")
    return int(text)
