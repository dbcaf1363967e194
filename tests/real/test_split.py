"""Debug information that was split off: programs are what they were, and gdb finds it by build id, also for launchers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher import elf, sections
from launcher.layout import SHF_ALLOC, Header
from tests.conftest import Builder
from tests.real import programs
from tests.real.conftest import HERE, Places
from tests.real.places import Done, Place

# Those that are stripped, or that strip would harm.
_WITHOUT = ("kind-bare", "kind-stripped")
DESCRIBED = [name for name in (*programs.KINDS, *programs.MUSL, "static", "static-pie") if name not in _WITHOUT]
# In which there is still debug information: they have a payload, or are nothing else.
LEFT_WHOLE = {"bin/payload", "bin/payload-fixed", "bin/trace-linked.debug"}


@dataclass(frozen=True)
class Split:
    """The place of the launchers without debug information, which see it at /other; and the artifact with it."""

    place: Place
    debug: Path

    def gdb(self, program: str, *commands: str, debug: bool = True) -> Done:
        where = ("-iex", "set debug-file-directory /other/lib/debug") if debug else ()
        words = [word for command in commands for word in ("-ex", command)]
        return self.place.run("/usr/bin/gdb", "--batch", "--nx", *where, *words, f"/artifact/bin/{program}", expect=0)


@pytest.fixture(scope="module")
def split(builder: Builder, places: Places) -> Split:
    main, debug = builder.build(HERE / "split.py", debug_info=True)
    assert (main["name"], debug["name"], debug["version"]) == ("split", "split-debug", "1")
    artifact, apart = Path(main["path"]), Path(debug["path"])
    return Split(places.launcher.but(artifact=artifact, binds=((apart, "/other"),)), apart)


def names(path: Path) -> list[bytes]:
    """The names of an ELF file's sections that are not loaded."""
    data = path.read_bytes()
    if not elf.is_elf(data):
        return []
    found = sections.read(data, Header.read(data, 0))
    return [found.name(section) for section in found.headers if not section.flags & SHF_ALLOC]


def test_no_debug_information_is_left(split: Split) -> None:
    top = split.place.artifact
    files = [path for folder in ("bin", "lib") for path in (top / folder).rglob("*") if path.is_file()]
    found = {str(path.relative_to(top)) for path in files if any(re.match(rb"\.z?debug_", name) for name in names(path))}
    assert found == LEFT_WHOLE


def test_what_had_none_is_what_it_was(split: Split, places: Places) -> None:
    for name in (*programs.REAL, *programs.COPIED, *_WITHOUT):
        ours, theirs = (place.artifact / "bin" / name for place in (split.place, places.launcher))
        assert ours.read_bytes() == theirs.read_bytes(), name


@pytest.mark.parametrize("name", [*programs.KINDS, *programs.MUSL, "static", "static-pie"])
def test_programs_run_as_before(split: Split, places: Places, name: str) -> None:
    assert split.place.run(name, "x", expect=9) == places.native.run(name, "x")


@pytest.mark.parametrize("name", DESCRIBED)
def test_gdb_finds_the_lines_of_every_kind_of_program(split: Split, name: str) -> None:
    done = split.gdb(name, "break main", "run", "bt")
    assert re.search(r"^#0 .*main \(argc=1, argv=0x\w+\) at (/build/src/)?kind\.c:\d+$", done.out, re.MULTILINE)
    assert "not found in" not in done.all  # sections of launchers only, of which gdb would warn


def test_without_it_there_are_names_only(split: Split) -> None:
    done = split.gdb("trace", "break compare", "run", "bt", debug=False)
    assert re.search(r"^#0 +0x\w+ in compare \(\)$", done.out, re.MULTILINE)
    assert "qsort_r () from" in done.out
    assert "main ()" in done.out
    assert "trace.c" not in done.all


def test_a_backtrace_through_the_c_library(split: Split) -> None:
    done = split.gdb("trace", "break compare", "run", "bt", "info sharedlibrary")
    assert re.search(r"^#0 .*compare \(a=0x\w+, b=0x\w+\) at trace\.c:\d+$", done.out, re.MULTILINE)
    assert re.search(r"^#\d .* main \(\) at trace\.c:\d+$", done.out, re.MULTILINE)
    assert "qsort_r () from /artifact/bin/../.launch/x86_64-linux-gnu/lib/libc.so.6" in done.out


def test_a_backtrace_through_a_library_of_the_recipe_in_cxx(split: Split) -> None:
    """From the program into a library that it opens, and back: all of it with files and lines."""
    opened = ("break throw.cc:15", "run /artifact/lib/libthrower.so", "sharedlibrary")
    done = split.gdb("throw", *opened, "break thrower.cc:10", "continue", "bt", "info sharedlibrary")
    assert re.search(r"^#0 +call \(back=0x\w+ .*\) at thrower\.cc:10$", done.out, re.MULTILINE)
    assert re.search(r"^#1 .*in through \(name=.*\) at throw\.cc:\d+$", done.out, re.MULTILINE)
    assert re.search(r"^#2 .*main \(argc=2, .*\) at throw\.cc:\d+$", done.out, re.MULTILINE)
    (line,) = [line for line in done.out.splitlines() if line.endswith("libthrower.so") and line.startswith("0x")]
    assert "(*)" not in line  # what gdb marks libraries without debug information with
