"""What one-file exports do to machine code before it is compressed, and back."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from builder import onefile

# Bytes of which instructions that name places are made, and others.
CODE = st.lists(st.sampled_from(b"\xe8\xe9\x48\x4c\x8b\x8d\x05\x3d\x00\x01\xfe\xff\x94\x97\x25"), max_size=200).map(bytes)


@given(CODE, CODE, CODE, st.integers(0, 7), st.sampled_from((onefile.NONE, onefile.X86, onefile.ARM64)))
@example(b"", b"\xe8\x00\xe8\x00\x00\x00\x00", b"", 0, onefile.X86)
def test_a_change_can_be_undone(before: bytes, piece: bytes, after: bytes, behind: int, kind: int) -> None:
    """And it changes nothing outside of its piece."""
    whole = before + piece + after
    data = bytearray(whole)
    onefile.change(kind, data, len(before), len(piece), behind, sign=1)
    assert data.startswith(before) and data.endswith(after)
    onefile.change(kind, data, len(before), len(piece), behind, sign=-1)
    assert data == whole


def test_calls_of_one_place_become_the_same() -> None:
    """Of x86-64: call, jump, lea and mov; of aarch64: bl. Two of each, to the place 0x1000."""
    calls = (
        (onefile.X86, b"\xe8"),
        (onefile.X86, b"\xe9"),
        (onefile.X86, b"\x48\x8d\x3d"),
        (onefile.X86, b"\x4c\x8b\x05"),
        (onefile.ARM64, b""),
    )
    for kind, start in calls:
        data = bytearray(0x100)
        first, second = (slice(at, at + len(start) + 4) for at in (0x20, 0x80))
        for place in (first, second):
            if kind == onefile.X86:
                data[place] = start + (0x1000 - place.stop).to_bytes(4, "little")
            else:
                data[place] = (0x94000000 | (0x1000 - place.start) // 4).to_bytes(4, "little")
        assert data[first] != data[second]
        onefile.change(kind, data, 0, len(data), 0, sign=1)
        assert data[first] == data[second]


def test_a_far_place_stays_as_it_is() -> None:
    data = bytearray(b"\xe8\x00\x00\x00\x02" + b"\xe9\xff\xff\xff\xfd")
    onefile.change(onefile.X86, data, 0, len(data), 0, sign=1)
    assert data == b"\xe8\x00\x00\x00\x02" + b"\xe9\xff\xff\xff\xfd"
