"""Editing a shared library in place, so that it looks for other libraries in its artifact only.

Nothing grows and nothing moves. A library without DT_RUNPATH is searched for through the program's DT_RPATH too, which
every launcher has; so DT_RUNPATH becomes DT_RPATH, and what leads to the host goes.
"""

from __future__ import annotations

from launcher.layout import (
    DT_NEEDED,
    DT_NULL,
    DT_RPATH,
    DT_RUNPATH,
    DT_STRTAB,
    PT_DYNAMIC,
    BadElf,
    Dynamic,
    Header,
    offset_of,
    read_dynamic,
    read_segments,
    read_string,
)


def tie_down(data: bytes, *, keep_relative: bool) -> bytes:
    """The 64-bit library ``data`` without absolute names in its run path and its needed libraries.

    ``keep_relative`` keeps the entries of its run path that begin with $ORIGIN: the first ones that stand together.
    Raises BadElf.
    """
    header = Header.read(data, 0)
    segments = read_segments(data, header)
    section = next((segment for segment in segments if segment.type == PT_DYNAMIC), None)
    if section is None:
        return data
    at = offset_of(segments, section.address)
    entries = read_dynamic(data, at)
    strings = next((entry.value for entry in entries if entry.tag == DT_STRTAB), None)
    if strings is None:
        return data
    base = offset_of(segments, strings)
    changed = bytearray(data)
    kept: list[Dynamic] = []
    for entry in entries:
        match entry.tag:
            case tag if tag in (DT_RPATH, DT_RUNPATH):
                text = read_string(data, base + entry.value)
                start, end = _relative(text) if keep_relative else (0, 0)
                if end > start:
                    # No name has a colon, so that no other string shares its ending with what is cut off here.
                    if end < len(text):
                        changed[base + entry.value + end] = 0
                    kept.append(Dynamic(DT_RPATH, entry.value + start))
            case tag if tag == DT_NEEDED:
                # The last name of a path is a string of its own: the ending of the one that is there.
                text = read_string(data, base + entry.value)
                kept.append(Dynamic(DT_NEEDED, entry.value + text.rfind(b"/") + 1))
            case _:
                kept.append(entry)
    kept += [Dynamic(DT_NULL, 0)] * (len(entries) - len(kept))
    packed = b"".join(entry.pack() for entry in kept)
    if at + len(packed) > len(changed):
        raise BadElf("its dynamic section is cut off")
    changed[at : at + len(packed)] = packed
    return bytes(changed)


def _relative(text: bytes) -> tuple[int, int]:
    """Where the first run of entries that begin with $ORIGIN starts and ends in a run path."""
    start = end = place = 0
    for part in text.split(b":"):
        if part.startswith((b"$ORIGIN", b"${ORIGIN}")):
            start = place if end == start else start
            end = place + len(part)
        elif end > start:
            break
        place += len(part) + 1
    return start, end
