"""What a program does once it runs: libraries, exceptions, threads, memory, signals, sanitizers, the loader's variables."""

from __future__ import annotations

import re

import pytest

from tests.real.conftest import Places
from tests.real.places import Done, plain

LIBRARIES = {"LD_LIBRARY_PATH": "/artifact/lib"}


def same_but_places(places: Places, program: str, *arguments: str, env: dict[str, str] | None = None) -> Done:
    """What came of a program in all three places, without addresses and directories; the interpreter is always `ld.so`."""
    outcomes = []
    for place in (places.native, places.launcher, places.alone):
        done = place.run(program, *arguments, env=env)
        out, err = (plain(text).replace("ld-linux-x86-64.so.2", "ld.so") for text in (done.out, done.err))
        outcomes.append(Done(done.status, out, err))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    return outcomes[0]


def test_libraries_that_are_opened(places: Places) -> None:
    """By path: with a run path at $ORIGIN, through another's DT_RUNPATH, and with each kind of thread-local storage."""
    names = [f"/artifact/lib/{n}" for n in ("plugins/origin.so", "runpath.so", "tls-gd.so", "tls-desc.so", "libtls-ie.so")]
    done = places.same("open", *names, "libnothere.so")
    assert done.status == 0
    assert [line.partition(": ")[2] for line in done.out.splitlines()] == [
        "by path with the one beside it",
        "opened with one in its run path",
        *["zeroed"] * 2,
        "cannot allocate memory in static TLS block",
        "cannot open shared object file: No such file or directory",
    ]


def test_a_library_by_its_soname(places: Places) -> None:
    """A launcher finds those of its artifact; natively the user has to say where they are."""
    done = places.same("open", "libspeaker.so.1", env=LIBRARIES)
    assert done.out == "libspeaker.so.1: by soname\n"
    assert places.alone.run("open", "libspeaker.so.1") == done


def test_exceptions(places: Places) -> None:
    done = places.same("throw", "libthrower.so", env=LIBRARIES)
    assert done.out.splitlines() == [
        *(f"thread {n}" for n in range(8)),
        "unwound",
        "caught through the library",
        "caught from the library",
    ]
    done = places.same("throw", "/artifact/lib/libthrower.so", "uncaught")
    assert done.status == 134
    assert "what():  nobody catches this" in done.err


def test_threads(places: Places) -> None:
    assert places.same("threads").out == "40 cancelled stack\nnew threads have 8388608 bytes\n"
    assert "have 16777216 bytes" in places.same("threads", how=("stack=0x1000000",)).out


@pytest.mark.parametrize(
    "program, arguments, how, printed",
    [
        ("heap", (), (), "943718400\n"),
        ("heap-fixed", (), (), "943718400\n"),
        ("large-bss", (), (), "0 1\n"),
        ("large-bss-fixed", (), (), "0 1\n"),
        ("nested", (), (), "42\n"),
        ("deep", ("7",), (), "7168\n"),
        ("deep", ("200",), ("stack=max",), "204800\n"),
    ],
)
def test_memory(places: Places, program: str, arguments: tuple[str, ...], how: tuple[str, ...], printed: str) -> None:
    done = places.same(program, *arguments, how=how)
    assert (done.status, done.out, done.err) == (0, printed, "")


def test_the_stack_ends_where_the_kernel_says(places: Places) -> None:
    assert places.same("deep", "9", how=("stack=0x800000",)).status == 139


def test_no_page_becomes_executable(places: Places) -> None:
    """PR_SET_MDWE refuses a mapping that gains the right to be executed: neither the graft nor the loader needs one."""
    for program, arguments in (("kind-pie", ()), ("threads", ()), ("throw", ("/artifact/lib/libthrower.so",))):
        assert places.same(program, *arguments, how=("mdwe",)).status in (0, 8)


@pytest.mark.parametrize("way, status", [("null", 139), ("code", 139), ("abort", 134), ("15", 143), ("9", 137)])
def test_signals(places: Places, way: str, status: int) -> None:
    assert places.same("crash", way).status == status


@pytest.mark.parametrize(
    "program, mistake, status, found",
    [
        ("asan", "", 0, ""),
        ("asan", "overrun", 1, "heap-buffer-overflow memory_error.c:16 in overrun"),
        ("asan", "leak", 1, "1234 byte(s) leaked in 1 allocation(s)"),
        ("lsan", "leak", 23, "1234 byte(s) leaked in 1 allocation(s)"),
        ("ubsan", "overflow", 0, "memory_error.c:26:36: runtime error: signed integer overflow"),
        ("tsan", "race", 66, "WARNING: ThreadSanitizer: data race"),
    ],
)
def test_sanitizers(places: Places, program: str, mistake: str, status: int, found: str) -> None:
    """They find mistakes and name their lines, read from the program's own file."""
    outcomes = [place.run(program, *[mistake] * bool(mistake)) for place in (places.native, places.launcher, places.alone)]
    assert [done.status for done in outcomes] == [status] * 3
    assert all(found in plain(done.err) for done in outcomes), outcomes


def test_what_the_loader_is_asked_by_the_user(places: Places) -> None:
    library = "/artifact/lib/audit.so"
    assert same_but_places(places, "parent", env={"LD_PRELOAD": library}).out == "preloaded\n1\n"
    assert "cannot be preloaded" in same_but_places(places, "parent", env={"LD_PRELOAD": "/nothing.so"}).err
    audited = same_but_places(places, "parent", env={"LD_AUDIT": library})
    assert audited.err == ""
    assert "audit libc.so.6" in audited.out
    assert same_but_places(places, "parent", env={"LD_BIND_NOW": "1"}).out == "0\n"
    assert "calling init: libc.so.6" in same_but_places(places, "parent", env={"LD_DEBUG": "files"}).err
    assert "binding file" in same_but_places(places, "parent", env={"LD_DEBUG": "bindings,versions,symbols"}).err


@pytest.mark.parametrize("program", ["trace", "trace-fixed", "trace-linked"])
def test_a_backtrace_and_its_lines(places: Places, program: str) -> None:
    """Functions have their names, and addr2line finds the lines: in the program's file, or in the one that it links to."""
    traces = [place.run(program, expect=3).out for place in (places.native, places.launcher, places.alone)]
    assert [plain(trace) for trace in traces[1:]] == [plain(traces[0])] * 2
    named = [line for line in traces[0].splitlines() if line.startswith(program)]
    assert named == [f"{program}: {name}" for name in ("compare", "sorted", "main", "_start")]
    for trace in traces:
        addresses = re.findall(r"own (0x[0-9a-f]+)", trace)
        file = f"/artifact/bin/{program}" + ".debug" * (program == "trace-linked")
        done = places.launcher.run("/usr/bin/addr2line", "-f", "-s", "-e", file, *addresses, expect=0)
        assert re.findall(r"^(\w+)\n(trace\.c:\d+)", done.out, re.MULTILINE) == [
            ("compare", "trace.c:16"),
            ("sorted", "trace.c:33"),
            ("main", "trace.c:38"),
        ]
