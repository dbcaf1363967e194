"""Which files debug information is split off from, whatever their bytes are, and what a launcher's has."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import debug, sections
from launcher.debug import NoBuildId
from launcher.layout import SHF_ALLOC, SHT_NOBITS, Header, Section
from store.digest import Digest
from store.manifest import File, Manifest, Symlink
from tests.launcher import programs
from tests.launcher.programs import Blobs, compile_c, program

IDENTITY = ("-g", "-Wl,--build-id=0x0102030405060708")
FOO = programs.library("libfoo.so.1", *IDENTITY)
PROGRAM = program(*IDENTITY, needs=(("libfoo.so.1", FOO),), calls="f();")
STATIC = compile_c("int inner(int n) { return 2 * n; } void _start(void) { inner(3); for (;;); }", "-static", *IDENTITY)


def found(**entries: bytes) -> list[debug.Described]:
    blobs = Blobs()
    return debug.described(blobs.tree(dict(entries)), keep=("kept", "/also"), read=blobs.read)


def test_programs_and_libraries() -> None:
    for data in (PROGRAM, FOO, STATIC):
        (one,) = found(x=data, y=data, kept=data, also=data)
        assert (one.paths, one.build_id) == ((b"x", b"y"), bytes(range(1, 9)))


def test_what_is_left_whole() -> None:
    plain = compile_c("void _start(void) { for (;;); }", "-static", "-Wl,--build-id=0x0102", "-g0")
    other = compile_c("int x;", "-c", "-g")
    foreign = compile_c("void _start(void) { for (;;); }", "-g", target="arm-freestanding-none")
    payload = STATIC + b"what it looks for"
    apart = emptied(STATIC)
    assert found(a=plain, b=other, c=foreign, d=payload, e=apart, f=b"", g=b"\x7fELF", h=STATIC[:100], i=b"!<arch>\n") == []
    assert len(found(d=STATIC + bytes(8))) == 1  # zeros are no payload


def emptied(data: bytes) -> bytes:
    """As debug information that was split off is: with sections of no bytes in the place of code."""
    header = Header.read(data, 0)
    changed = bytearray(data)
    for n, section in enumerate(sections.read(data, header).headers):
        if section.flags & SHF_ALLOC:
            struct.pack_into("<I", changed, header.shoff + n * Section.FORM.size + 4, SHT_NOBITS)
    return bytes(changed)


def test_without_a_build_id() -> None:
    nameless = compile_c("void _start(void) { for (;;); }", "-static", "-g", "-Wl,--build-id=none")
    short = compile_c("void _start(void) { for (;;); }", "-static", "-g", "-Wl,--build-id=0x01")
    with pytest.raises(NoBuildId) as caught:
        found(good=STATIC, nameless=nameless, second=nameless, short=short)
    assert caught.value.paths == (b"nameless", b"second", b"short")


def test_the_tree_in_which_it_is_found() -> None:
    first, second = (File(Digest.of(data), 1, False) for data in (b"1", b"2"))
    place = b"lib/debug/.build-id/ab/cd.debug"
    tree = debug.laid_out([(b"\xab\xcd", first), (b"\xab\xcd", second)])
    assert tree == Manifest.with_parents([(place, first), (b"buildid/abcd/debuginfo", Symlink(b"../../" + place))])


def test_a_launcher_has_no_section_that_its_debug_information_has_not() -> None:
    made = debug.for_launcher(emptied(PROGRAM))
    before, after = (sections.read(data, Header.read(data, 0)) for data in (emptied(PROGRAM), made))
    names = {after.name(section) for section in after.headers}
    assert names > {before.name(section) for section in before.headers}
    assert names >= {*sections.LABELS, b".launcher.was.interp", b".launcher.was.dynstr", b".launcher.was.dynamic"}
    places = [(section.address, section.flags) for section in before.headers]
    assert [(section.address, section.flags) for section in after.headers[: len(places)]] == places
    # What is no program's stays what it is.
    for data in (emptied(STATIC), emptied(FOO), b"", b"\x7fELF", PROGRAM[:200]):
        assert debug.for_launcher(data) == data


@given(st.data())
def test_damaged_files(data: st.DataObject) -> None:
    """Whatever is in it, it is left whole, refused, or taken for what it says; and never more than its own size is read."""
    broken = bytearray(data.draw(st.sampled_from([PROGRAM, FOO, STATIC])))
    shoff = Header.read(broken, 0).shoff
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.one_of(st.integers(0, 600), st.integers(shoff, len(broken) - 1), st.integers(0, len(broken) - 1)))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        value = data.draw(st.one_of(st.integers(0, (1 << 8 * size) - 1), st.just((1 << 8 * size) - 1), st.just(0)))
        broken[at : at + size] = value.to_bytes(size, "little")
    try:
        found(x=bytes(broken))
    except NoBuildId:
        pass
    assert len(debug.for_launcher(bytes(broken))) < 2 * len(broken) + (4 << 16)
