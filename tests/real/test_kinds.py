"""All kinds of ELF files: each way of linking one source, natively and as a launcher."""

from __future__ import annotations

import pytest

from tests.real import programs
from tests.real.conftest import Places

STATIC = ("static", "static-pie", "plain", "with", "alone")


@pytest.mark.parametrize("name", [*programs.KINDS, *programs.MUSL, "static", "static-pie", "kind-sectionless"])
def test_it_runs(places: Places, name: str) -> None:
    done = places.same(name, "x")
    assert (done.status, done.out, done.err) == (9, "5 1 6 0 three 1.732\ndestructed\n", "")
    assert places.same(name).status == 8


def test_static_programs_are_left_alone(places: Places) -> None:
    for name in STATIC:
        files = [place.artifact / "bin" / name for place in (places.native, places.launcher)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert places.same("alone").status == 17


@pytest.mark.parametrize("name", ["payload", "payload-fixed"])
def test_a_payload_behind_the_program(places: Places, name: str) -> None:
    done = places.same(name, "x")
    assert done.status == 7
    assert done.out.split()[1:] == ["data", "gram", "2"]
    files = [(place.artifact / "bin" / name).read_bytes() for place in (places.native, places.launcher)]
    assert len(files[0]) == len(files[1])
    assert files[0][4096:] == files[1][4096:]


@pytest.mark.parametrize("name", programs.REAL)
def test_programs_of_debian(places: Places, name: str) -> None:
    """Rust, Go with cgo and without, at a fixed address and not, as Debian built them."""
    word = "--help" if name in ("age-keygen", "busybox") else "--version"
    done = places.same(name, word)
    assert done.all
    assert (places.native.artifact / "bin" / name).read_bytes() != (places.launcher.artifact / "bin" / name).read_bytes()
