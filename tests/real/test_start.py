"""How a program is started, and all that it can see of that: natively and as a launcher the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import Places

FIXED = ("facts", "facts-fixed")


@pytest.mark.parametrize("program", FIXED)
def test_a_program_sees_what_it_would_see_natively(places: Places, program: str) -> None:
    """Arguments, environment, auxiliary vector, objects, memory, limits, descriptors and signals, its own and a child's."""
    variables = {"A": "1", "B": "two words", "EMPTY": "", "LC_ALL": "C"}
    done = places.same(program, "a", "b c", "", "\n", env=variables)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert not [line for line in lines if "wrong" in line or "writable code" in line or line.startswith("mapped")]
    assert [line for line in lines if line.startswith("env")] == [f'env "{n}={v}"' for n, v in variables.items()]
    assert [line for line in lines if line.startswith("plain env")] == [f"plain env {n}={v}" for n, v in variables.items()]
    assert [line for line in lines if line.startswith("fd")] == ["fd 0", "fd 1", "fd 2"]
    assert f'self "/artifact/bin/{program}"' in lines
    # The program, the vDSO, libc and the interpreter, each once.
    assert len([line for line in lines if line.startswith("object")]) == 4
    assert "again" not in done.out


@pytest.mark.parametrize(
    "how",
    [
        ("name=other",),
        ("name=",),
        ("no-arguments",),
        ("descriptor",),
        ("stack=max",),
        ("stack=0x4000000",),
        ("space=300000000",),
        ("files=5",),
        ("blocked",),
        ("mdwe",),
        ("fixed",),
        ("stack=max", "large-environment"),
    ],
)
@pytest.mark.parametrize("program", FIXED)
def test_an_unusual_start(places: Places, program: str, how: tuple[str, ...]) -> None:
    done = places.same(program, "x", how=how)
    assert (done.status, done.err) == (0, "")
    assert "wrong" not in done.out


def test_ten_thousand_arguments(places: Places) -> None:
    done = places.same("facts", how=("arguments=10000",))
    assert done.out.startswith("argc 10001\n")


def test_links_paths_and_search(places: Places) -> None:
    for name in ("link", "link-to-link"):
        assert f'execfn "/artifact/bin/{name}"' in places.same(name, "x").out
    assert places.same("./facts", directory="/artifact/bin").status == 0
    assert places.same("../bin/facts", directory="/artifact/lib").status == 0
    assert places.same("facts", how=("search",), env={"PATH": "/nothing:/artifact/bin"}).status == 0
    # An empty entry is the working directory.
    assert places.same("facts", how=("search",), env={"PATH": "/nothing:"}, directory="/artifact/bin").status == 0


def test_a_copy_in_memory_is_refused(places: Places) -> None:
    """It is in no directory, so that nothing leads from it to its libraries."""
    assert places.native.run("facts", how=("memory",)).status == 0
    done = places.launcher.run("facts", how=("memory",), expect=121)
    assert done.err.startswith("launcher: ")


@pytest.mark.parametrize("name", ["a b", "a:b;c", "line\nend", "%s*?'\"\\", "n" * 200 + "/" + "o" * 200 + "/" + "p" * 200])
def test_an_odd_folder(places: Places, name: str) -> None:
    """Whatever the folder is called, the program starts with its own libraries and knows where it is."""
    inside = f"/tmp/{name}"
    place = places.alone.but(binds=((places.alone.artifact, inside),))
    assert place.run(f"{inside}/bin/kind-pie", "x", expect=9).err == ""
    assert place.run(f"{inside}/bin/open", "libspeaker.so.1", expect=0).out == "libspeaker.so.1: by soname\n"
    facts = place.run(f"{inside}/bin/facts", expect=0).out
    assert facts.count("object ") == 4
    assert "wrong" not in facts


@pytest.mark.parametrize("name", ["$ORIGIN", "a$LIB", "${PLATFORM}"])
def test_a_folder_that_glibc_would_expand_loads_nothing_of_the_host(places: Places, name: str) -> None:
    inside = f"/tmp/{name}"
    place = places.launcher.but(binds=((places.launcher.artifact, inside),))
    done = place.run(f"{inside}/bin/kind-pie", "x")
    assert done.status in (9, 127)
    if done.status == 127:
        assert "error while loading shared libraries" in done.err


def test_without_proc(places: Places) -> None:
    """On a root with nothing at all: no /proc, no /dev, no /tmp."""
    place = places.alone.but(proc=False)
    for name in ("kind-pie", "kind-fixed", "kind-lld", "musl-pie", "static"):
        assert place.run(name, "x", expect=9).out.startswith("5 1 6 0 three"), name
    assert place.run("open", "libspeaker.so.1", expect=0).out == "libspeaker.so.1: by soname\n"
    assert place.run("throw", "libthrower.so", expect=0).out.endswith("caught from the library\n")
    assert place.run("link-to-link", "x", expect=0).out.startswith("argc 2\n")


def test_it_starts_itself_again(places: Places) -> None:
    done = places.same("reexec")
    assert done.status == 5
    own = "/artifact/bin/reexec"
    assert done.out == f"{own} {own}\ndepth1 {own}\ndepth2 {own}\ndepth3 {own}\nits own file\n"


def test_a_million_looks_at_the_clock(places: Places, tmp_path: Path) -> None:
    """The vDSO answers them: strace sees as many system calls as of a program that looks at no clock."""
    place = places.launcher.but(writable=((tmp_path, "/work"),))
    place.run("/usr/bin/strace", "-f", "-o", "/work/trace", "/artifact/bin/clock", expect=0)
    assert len((tmp_path / "trace").read_text().splitlines()) < 60
