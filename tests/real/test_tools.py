"""Tools that change or look into launchers, from Debian's packages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher import bootstrap, elf, graft
from launcher.graft import Wiring
from tests.real.conftest import Places
from tests.real.places import Place

NAMES = ("kind-pie", "kind-fixed", "kind-lld", "kind-gold", "kind-mold")


@pytest.fixture
def copied(places: Places, tmp_path: Path) -> Place:
    """The launchers, with a copy at /work whose programs can be changed."""
    copy = tmp_path / "artifact"
    shutil.copytree(places.launcher.artifact, copy, symlinks=True, copy_function=shutil.copy)
    for path in (copy, copy / "bin", *(copy / "bin").iterdir()):
        if not path.is_symlink():
            path.chmod(0o755)
    return places.launcher.but(writable=((copy, "/work"),))


@pytest.mark.parametrize("words", [("strip",), ("strip", "--strip-debug"), ("objcopy", "--strip-unneeded")])
@pytest.mark.parametrize("name", NAMES)
def test_strip_leaves_a_working_program(places: Places, copied: Place, name: str, words: tuple[str, ...]) -> None:
    copied.run(f"/usr/bin/{words[0]}", *words[1:], f"/work/bin/{name}", expect=0)
    assert copied.run(f"/work/bin/{name}", "x", expect=9) == places.native.run(name, "x")


def test_valgrind_runs_a_launcher(places: Places) -> None:
    """memcheck needs the interpreter's symbols (libc6-dbg), natively too."""
    command = ("/usr/bin/valgrind", "-q", "--tool=none", "/artifact/bin/kind-pie", "x")
    assert places.launcher.run(*command) == places.native.run(*command)
    assert places.launcher.run(*command).status == 9


@pytest.mark.parametrize("name", ["busy", "busy-fixed", "busy-stripped"])
def test_perf_finds_the_names_in_a_launcher_and_its_libraries(places: Places, tmp_path: Path, name: str) -> None:
    """By the processor's time: a virtual machine may have no counters. Only what a user may see of its own process."""
    place = places.launcher.but(writable=((tmp_path, "/work"),))
    record = ("/usr/bin/perf", "record", "-q", "-e", "cpu-clock:u", "-F", "2000", "-o", "/work/data", "--")
    place.run(*record, f"/artifact/bin/{name}", expect=0)
    report = ("/usr/bin/perf", "report", "--stdio", "-q", "-i", "/work/data", "--sort", "dso,symbol", "--percent-limit", "5")
    lines = [line.split() for line in place.run(*report, expect=0).out.splitlines() if line.strip()]
    found = {(words[1], words[words.index("[.]") + 1]) for words in lines}
    assert {(name, "mix"), ("libc.so.6", "random")} <= found


LAUNCH = "$ORIGIN/../.launch/x86_64-linux-gnu/lib"
# musl's programs find libraries by the run path only, and have no versions of symbols.
PATCHED = (*NAMES, "kind-stripped", "musl-pie", "musl-fixed")


@pytest.mark.parametrize("name", NAMES)
def test_patchelf_reads_launchers(copied: Place, name: str) -> None:
    needed = copied.run("/usr/bin/patchelf", "--print-needed", f"/work/bin/{name}", expect=0).out.splitlines()
    assert needed[0] == f"{LAUNCH}/libm.so.6"
    assert needed[-1] == "libc.so.6"


@pytest.mark.parametrize(
    "words",
    [
        ("--set-rpath", f"/{'long' * 50}:{LAUNCH}"),
        ("--add-rpath", "/more"),
        ("--force-rpath", "--add-rpath", "/more"),
        ("--add-needed", "libdl.so.2"),
        ("--replace-needed", "libc.so.6", "libc-of-another-name.so.6"),
        ("--set-interpreter", "/lib64/ld-linux-x86-64.so.2"),
    ],
)
@pytest.mark.parametrize("name", PATCHED)
def test_patchelf_moves_nothing_of_a_launcher(places: Places, copied: Place, name: str, words: tuple[str, ...]) -> None:
    path = copied.writable[0][0] / "bin" / name
    before = path.read_bytes()
    done = copied.run("/usr/bin/patchelf", *words, f"/work/bin/{name}")
    # A library that the program does not need is not replaced: nothing was to be done.
    if not (name.startswith("musl") and words[0] == "--replace-needed"):
        assert done.status == 1
        assert "cannot find section" in done.err
    assert path.read_bytes() == before


@pytest.mark.parametrize("words", [("--set-rpath", LAUNCH), ("--remove-rpath",), ("--remove-needed", f"{LAUNCH}/libm.so.6")])
@pytest.mark.parametrize("name", NAMES)
def test_patchelf_edits_a_launcher_in_its_place(places: Places, copied: Place, name: str, words: tuple[str, ...]) -> None:
    path = copied.writable[0][0] / "bin" / name
    before = path.read_bytes()
    copied.run("/usr/bin/patchelf", *words, f"/work/bin/{name}", expect=0)
    after = path.read_bytes()
    assert after != before
    assert copied.run(f"/work/bin/{name}", "x", expect=9) == places.native.run(name, "x")
    wiring = Wiring(b"$ORIGIN/ld.so", (), (b"$ORIGIN/lib",))
    assert graft.graft(after, wiring, bootstrap.load()) == graft.graft(before, wiring, bootstrap.load())


@pytest.mark.parametrize("name", ["kind-pie", "kind-fixed", "kind-stripped", "kind-sectionless", "facts", "rg", "fzf"])
def test_a_second_packing_gives_the_same_launcher(places: Places, name: str) -> None:
    """Grafted again with the same wiring, and with another in between; and taken apart after strip."""
    data = (places.launcher.artifact / "bin" / name).read_bytes()
    machine_code = bootstrap.load()
    read = elf.read(data)
    assert read.launcher is not None
    launch = b"$ORIGIN/../.launch/x86_64-linux-gnu/"
    other = graft.graft(data, Wiring(launch + b"other", (), (b"$ORIGIN/elsewhere",), (b"A=b",)), machine_code)
    changed = elf.read(other)
    assert changed.launcher is not None
    assert (changed.launcher.interpreter, changed.needed) == (launch + b"other", read.needed)
    wiring = Wiring(launch + b"ld.so", (launch + b"lib/libc.so.6",), (launch + b"lib",))
    again = graft.graft(data, wiring, machine_code)
    assert graft.graft(other, wiring, machine_code) == again
    assert graft.graft(again, wiring, machine_code) == again


@pytest.mark.parametrize("words", [("readelf", "-W", "-h", "-l", "-S", "-s", "-d", "-n"), ("nm",), ("objdump", "-x")])
def test_tools_that_look_into_launchers(places: Places, words: tuple[str, ...]) -> None:
    for name in ("kind-pie", "kind-fixed", "kind-lld", "kind-gold"):
        command = (f"/usr/bin/{words[0]}", *words[1:], f"/artifact/bin/{name}")
        done = places.launcher.run(*command, expect=0)
        assert done.out
        assert done.err == places.native.run(*command).err
