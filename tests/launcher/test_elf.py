"""Reading ELF files, whole and damaged."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import elf, graft, library
from launcher.bootstrap import load
from launcher.config import Config
from launcher.elf import Dlopen, Kind
from launcher.graft import Wiring
from launcher.layout import BadElf
from launcher.scripts import write_launcher
from tests.launcher import programs
from tests.launcher.programs import compile_c, probe, program

FOO = programs.library("libfoo.so.1")
BAR = programs.library(
    "libbar.so", "-Wl,-rpath,/pkg/lib:$ORIGIN/x:$ORIGIN/../y:/z", needs=(("libfoo.so.1", FOO),), calls="f();", name="g"
)
OLD = programs.library("libold.so", "-Wl,-rpath,/opt:$ORIGIN", "-Wl,--disable-new-dtags", name="h")
NOTE = '[{"soname":["libopt.so.2","libopt.so.1"],"feature":"x","priority":"required"},{"soname":["libmay.so"]}]'
NOTED = compile_c(
    f"""
    struct note {{ int name, size, type; char owner[4]; char text[{len(NOTE) + 1}]; }};
    __attribute__((section(".note.dlopen"), used, aligned(4)))
    static const struct note note = {{ 4, {len(NOTE) + 1}, 0x407c0c0a, "FDO", {json.dumps(NOTE)} }};
    """,
    "-shared",
)
PROGRAM = program(needs=(("libfoo.so.1", FOO), ("libbar.so", BAR)), calls="f(); g();", interpreter=programs.GLIBC)


def test_kinds() -> None:
    assert elf.read(PROGRAM).kind is Kind.PROGRAM
    assert elf.read(program("-no-pie", needs=(("libfoo.so.1", FOO),), calls="f();")).kind is Kind.PROGRAM
    assert elf.read(probe()).kind is Kind.STATIC
    assert elf.read(FOO).kind is Kind.LIBRARY
    assert elf.read(compile_c("int x;", "-c")).kind is Kind.OTHER
    foreign = elf.read(compile_c("void _start(void) {}", target="arm-freestanding-none"))
    assert (foreign.kind, foreign.bits, foreign.machine) == (Kind.STATIC, 32, "EM_ARM")
    # Such as libc.so.6, which prints its version when it is started.
    assert elf.read(programs.library("libx.so", "-Wl,--dynamic-linker=/ld.so")).kind is Kind.LIBRARY


def test_what_a_program_asks_for() -> None:
    read = elf.read(PROGRAM)
    assert read.interpreter == programs.GLIBC.encode()
    assert read.needed == (b"libfoo.so.1", b"libbar.so")
    assert (read.bits, read.machine) == (64, "EM_X86_64")
    assert elf.read(FOO).soname == b"libfoo.so.1"
    assert elf.read(BAR).runpath == (b"/pkg/lib", b"$ORIGIN/x", b"$ORIGIN/../y", b"/z")
    assert elf.read(OLD).rpath == (b"/opt", b"$ORIGIN")


def test_dlopen_notes() -> None:
    assert elf.read(NOTED).dlopen == (Dlopen((b"libopt.so.2", b"libopt.so.1"), True), Dlopen((b"libmay.so",), False))


def test_a_launcher_says_what_it_was_made_of() -> None:
    made = graft.graft(PROGRAM, Wiring(b"$ORIGIN/../ld.so", (b"$ORIGIN/a",), (b"$ORIGIN/b",), (b"A=1",)), load())
    read, was = elf.read(made), elf.read(PROGRAM)
    assert (read.kind, read.interpreter, read.needed, read.rpath) == (was.kind, was.interpreter, was.needed, was.rpath)
    assert read.launcher is not None
    assert (read.launcher.interpreter, read.launcher.defaults) == (b"$ORIGIN/../ld.so", (b"A=1",))


def test_a_script_launcher_is_static() -> None:
    read = elf.read(write_launcher(Config(b"sh", (b"A=1",), b"../script", (b"-e",)), load().script))
    assert read.kind is Kind.STATIC
    assert read.launcher is not None
    assert (read.launcher.script, read.launcher.arguments) == (b"../script", (b"-e",))


def test_more_headers_than_anybody_has() -> None:
    data = bytearray(PROGRAM)
    struct.pack_into("<H", data, 56, 0xFFFF)
    with pytest.raises(BadElf):
        elf.read(bytes(data))


def test_a_library_is_tied_down() -> None:
    tied = library.tie_down(BAR, keep_relative=True)
    assert len(tied) == len(BAR)
    read = elf.read(tied)
    assert (read.runpath, read.rpath, read.needed) == ((), (b"$ORIGIN/x", b"$ORIGIN/../y"), (b"libfoo.so.1",))
    read = elf.read(library.tie_down(BAR, keep_relative=False))
    assert (read.runpath, read.rpath, read.needed) == ((), (), (b"libfoo.so.1",))
    assert elf.read(library.tie_down(OLD, keep_relative=True)).rpath == (b"$ORIGIN",)
    assert library.tie_down(FOO, keep_relative=True) == FOO
    assert library.tie_down(tied, keep_relative=True) == tied


def test_a_needed_path_becomes_a_name() -> None:
    nameless = programs.library("")
    user = compile_c("void f(void); void g(void) { f(); }", "-shared", "libplain.so", libraries=(("libplain.so", nameless),))
    renamed = user.replace(b"libplain.so", b"/lib/ain.so")
    assert elf.read(renamed).needed == (b"/lib/ain.so",)
    assert elf.read(library.tie_down(renamed, keep_relative=True)).needed == (b"ain.so",)


SEEDS = [PROGRAM, BAR, NOTED, graft.graft(PROGRAM, Wiring(b"$ORIGIN/../ld.so"), load())]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An ELF file with some bytes changed, most of them where they hurt, and perhaps cut off."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    header = 64 + 56 * struct.unpack_from("<H", data, 56)[0]
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.one_of(st.integers(0, 63), st.integers(0, header), st.integers(0, len(data) - 1)))
        value = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x01"]))
        data[at : at + len(value)] = value
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@settings(max_examples=400)
@given(damaged())
def test_damage_is_told_and_never_crashes(data: bytes) -> None:
    wiring = Wiring(b"$ORIGIN/../ld.so", (b"$ORIGIN/a",), (b"$ORIGIN/b",))
    tries = (
        lambda: elf.is_elf(data) and elf.read(data),
        lambda: graft.graft(data, wiring, load()),
        lambda: library.tie_down(data, keep_relative=True),
    )
    for attempt in tries:
        try:
            attempt()
        except (BadElf, graft.PayloadBehind):
            pass
