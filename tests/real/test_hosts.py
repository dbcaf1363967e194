"""Nothing of the host gets into a launcher: on hosts with an older glibc, a newer one, none, and with traps laid out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.digest import Digest
from store.store import Store
from tests.conftest import Builder
from tests.real.conftest import HERE, Places, lay_root
from tests.real.places import Place

# What is started on each host, and its status.
PROGRAMS: dict[tuple[str, ...], int] = {
    ("kind-pie", "x"): 9,
    ("kind-fixed", "x"): 9,
    ("kind-lld", "x"): 9,
    ("kind-sectionless", "x"): 9,
    ("musl-pie", "x"): 9,
    ("threads",): 0,
    ("throw", "libthrower.so"): 0,
    ("open", "libspeaker.so.1", "/artifact/lib/plugins/origin.so", "libnothere.so"): 0,
    ("reexec",): 5,
    ("patchelf", "--version"): 0,
}


def opened(trace: str) -> Iterator[str]:
    """The absolute names that a trace of strace has, with `..` taken out. An empty one is what a name made void became."""
    for name in re.findall(r'^(?:\d+ +)?\w+\((?:AT_FDCWD, )?"((?:[^"\\]|\\.)*)"', trace, re.MULTILINE):
        if name:
            yield os.path.normpath(os.path.join("/", name.encode().decode("unicode_escape")))


def test_nothing_outside_of_the_artifact_is_opened(host: Place, places: Places, tmp_path: Path) -> None:
    """strace itself runs as a launcher. The kernel's /proc, and the program's own business with terminals, are no libraries."""
    place = host.but(writable=((tmp_path, "/work"),))
    for command, status in PROGRAMS.items():
        natively = places.alone.run(*command, expect=status)
        assert host.run(*command, expect=status) == natively
        name, *arguments = command
        place.run("strace", "-f", "-e", "trace=%file", "-o", "/work/trace", f"/artifact/bin/{name}", *arguments, expect=status)
        names = set(opened((tmp_path / "trace").read_text()))
        assert any(one.startswith("/artifact/.launch/") for one in names)
        outside = {one for one in names if not one.startswith(("/artifact/", "/proc/", "/dev/")) and one != "/artifact"}
        # The interpreter's own directories, which have names that nobody gives.
        outside = {one for one in outside if not one.startswith("/\x7f")}
        assert not outside, command


@pytest.fixture(scope="module")
def trapped(builder: Builder, places: Places, work: Path) -> Place:
    """A host where a library that prints lies at every place where a loader might look."""
    store = Store(builder.store)
    (built,) = builder.build(HERE / "hosts" / "bullseye.py")
    root = lay_root(store, store.read_manifest(Digest.parse(built["digest"])), work / "trapped")
    trap = (places.native.artifact / "lib" / "audit.so").read_bytes()
    (root / "home").mkdir(exist_ok=True)
    (root / "other" / "lib").mkdir()
    for folder in (".", "usr/lib", "usr/lib64", "home", "other", "other/lib", "etc"):
        for name in ("trap.so", "libc.so.6", "libm.so.6", "libspeaker.so.1", "libstdc++.so.6", "libgcc_s.so.1"):
            (root / folder / name).write_bytes(trap)
    (root / "etc" / "ld.so.preload").write_text("/trap.so\n")
    (root / "etc" / "ld.so.cache").write_bytes(b"not a cache")
    (root / "etc" / "ld-musl-x86_64.path").write_text("/other\n")
    return places.alone.but(root=root)


def test_the_trap_works(trapped: Place) -> None:
    assert trapped.run("/usr/bin/true").out == "preloaded\n"


@pytest.mark.parametrize("directory", ["/", "/home", "/other"])
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HOME": "/home", "PATH": ":/other::"},
        {"LD_LIBRARY_PATH": "/other:/home"},
        {"LD_LIBRARY_PATH": ":"},
        {"LD_LIBRARY_PATH": "$ORIGIN/../../other"},
    ],
)
def test_no_trap_shuts(trapped: Place, places: Places, directory: str, variables: dict[str, str]) -> None:
    """Libraries of the artifact are not replaced by the user's LD_LIBRARY_PATH either, nor by the working directory."""
    for command, status in PROGRAMS.items():
        if command[0] in ("musl-pie", "open") and "LD_LIBRARY_PATH" in variables:
            continue
        done = trapped.run(*command, env=variables, directory=directory, expect=status)
        assert "preloaded" not in done.all, command
        assert "audit" not in done.all


def test_the_search_path_of_the_user(trapped: Place) -> None:
    """What a program opens by name is the artifact's, whatever LD_LIBRARY_PATH says; what it has not is looked for there."""
    variables = {"LD_LIBRARY_PATH": "/other"}
    assert trapped.run("open", "libspeaker.so.1", env=variables, expect=0).out == "libspeaker.so.1: by soname\n"
    assert trapped.run("open", "trap.so", env=variables, expect=0).out == "preloaded\ntrap.so: opened\n"
