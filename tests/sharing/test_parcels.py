"""The records of remotes, and parcels: read back, and nothing else but an error for anything else."""

from __future__ import annotations

import io

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from store import codec
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest
from store.parcels import MAX_RECORD, Condemned, Inventory, Place, Waybill, compress, expand, expanded, spans, unique


def name(number: int) -> Digest:
    return Digest.of(b"%d" % number)


def node(number: int, size: int = 5) -> File:
    return File(name(number), size, number % 2 == 0)


TREE = Manifest([(b"a", node(1)), (b"b", node(2)), (b"c", node(1)), (b"d", File(name(2), 5, False))])
BILL = Waybill("hello", "2.10", TREE, (Place(name(10), 0, 9), Place(name(11), 5, 8)))
LIST = Inventory(((name(1), Place(name(10), 0, 9)), (name(3), Place(name(10), 9, 4)), (name(2), Place(name(11), 5, 8))))


def test_the_bytes_are_pinned() -> None:
    raw = expand("waybill", BILL.encode())
    assert Digest.of(raw).hex == "684103635ff9659034a20a7aec5b778576bfac5e00eddaa1636b7725f77b064e"
    assert (
        Digest.of(expand("inventory", LIST.encode())).hex == "12e22cf70e31151d81703a3bb7aefb463a569cfcdc18d1d16346e34be41b2346"
    )
    assert expand("condemned", Condemned((name(1),)).encode()) == codec.encode("condemned", [[name(1).raw]])


def test_records_are_read_back() -> None:
    assert Waybill.decode(BILL.encode()) == BILL
    assert Inventory.decode(LIST.encode()) == LIST
    assert Condemned.decode(Condemned((name(1), name(2))).encode()).parcels == (name(1), name(2))
    assert [found.blob for found in unique(TREE)] == [name(1), name(2)]


@pytest.mark.parametrize("kind", [Waybill, Inventory, Condemned])
@given(data=st.binary(max_size=300))
def test_anything_else_is_refused(kind: type[Waybill | Inventory | Condemned], data: bytes) -> None:
    for given_bytes in (data, compress(data)):
        with pytest.raises(Error):
            kind.decode(given_bytes)


@pytest.mark.parametrize("kind", [Waybill, Inventory])
@given(at=st.integers(min_value=0), value=st.integers(0, 255))
def test_a_changed_byte_gives_an_error_or_a_record(kind: type[Waybill | Inventory], at: int, value: int) -> None:
    raw = bytearray(expand(kind.__name__.lower(), (BILL if kind is Waybill else LIST).encode()))
    raw[at % len(raw)] = value
    try:
        kind.decode(compress(bytes(raw)))
    except Error:
        return


def test_records_of_a_wrong_form_are_refused() -> None:
    raws = [name(10).raw]
    tree = TREE.encode()
    for fields in (
        ["hello", "1", tree, raws, [[0, 0, 9]]],  # too few places
        ["hello", "1", tree, raws, [[0, 0, 9], [1, 0, 9]]],  # a parcel that is not listed
        ["hello", "1", tree, raws, [[0, 0, 9], [0, -1, 9]]],
        ["hello", "1", tree, raws, [[0, 0, 9], [0, 1 << 60, 9]]],
        ["hello", "1", tree, raws, [[0, 0, 9], [0, 0, 0]]],
        ["hello", "1", tree, [b"short"], [[0, 0, 9], [0, 0, 9]]],
        [b"hello", "1", tree, raws, [[0, 0, 9], [0, 0, 9]]],
    ):
        with pytest.raises(Error):
            Waybill.decode(compress(codec.encode("waybill", fields)))  # type: ignore[arg-type]


def test_a_record_that_would_not_fit_into_memory_is_refused() -> None:
    # It says that it has a terabyte; and one that does not say it.
    stream = zstandard.ZstdCompressor().compressobj(size=1 << 40)
    for bomb in (stream.compress(b"\0" * (1 << 20)), zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 99)):
        with pytest.raises(Error):
            expand("waybill", bomb)
    with pytest.raises(Error):
        expand("waybill", compress(b"x") + b"more")
    assert MAX_RECORD < 1 << 31


def test_a_frame_gives_its_blob_and_not_a_byte_more() -> None:
    data = b"0123456789" * 1000
    frame = zstandard.ZstdCompressor().compress(data)
    assert b"".join(expanded(io.BytesIO(frame), len(data))) == data
    for size in (0, len(data) - 1, len(data) + 1):
        with pytest.raises(Error):
            list(expanded(io.BytesIO(frame), size))
    with pytest.raises(Error):
        list(expanded(io.BytesIO(frame[:-3]), len(data)))
    with pytest.raises(Error):
        list(expanded(io.BytesIO(b"no frame at all"), 5))


def test_a_small_frame_that_stands_for_gigabytes_takes_no_memory() -> None:
    stream = zstandard.ZstdCompressor(level=19).compressobj()
    bomb = b"".join(stream.compress(bytes(1 << 24)) for _ in range(64)) + stream.flush()
    assert len(bomb) < 1 << 18
    largest = 0
    with pytest.raises(Error):
        for piece in expanded(io.BytesIO(bomb), 3 << 20):
            largest = max(largest, len(piece))
    assert 0 < largest <= 1 << 20


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2000), st.booleans(), st.integers(0, 600_000)), max_size=40))
def test_spans_hold_what_is_wanted_and_little_more(rows: list[tuple[int, int, bool, int]]) -> None:
    ends: dict[int, int] = {}
    wanted = []
    for number, (parcel, length, is_wanted, gap) in enumerate(rows):
        start = ends.get(parcel, 0) + gap
        ends[parcel] = start + length
        if is_wanted:
            wanted.append((node(number), Place(name(parcel), start, length)))
    found = spans(wanted, gap=1 << 18, most=1 << 21)
    assert sorted(item[1].offset for span in found for item in span.wanted) == sorted(item[1].offset for item in wanted)
    for span in found:
        at = span.start
        for _, place in span.wanted:
            assert place.parcel == span.parcel
            assert at <= place.offset
            assert place.offset - at <= 1 << 18
            at = place.offset + place.length
        assert at == span.start + span.length
