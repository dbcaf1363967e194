"""Tools that change or look into launchers, from Debian's packages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.real.conftest import Places

NAMES = ("kind-pie", "kind-fixed", "kind-lld", "kind-gold", "kind-mold")


@pytest.mark.parametrize("words", [("strip",), ("strip", "--strip-debug"), ("objcopy", "--strip-unneeded")])
@pytest.mark.parametrize("name", NAMES)
def test_strip_leaves_a_working_program(places: Places, tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    copy = tmp_path / "artifact"
    shutil.copytree(places.launcher.artifact, copy, symlinks=True, copy_function=shutil.copy)
    for path in (copy, copy / "bin", copy / "bin" / name):
        path.chmod(0o755)
    place = places.launcher.but(writable=((copy, "/work"),))
    place.run(f"/usr/bin/{words[0]}", *words[1:], f"/work/bin/{name}", expect=0)
    assert place.run(f"/work/bin/{name}", "x", expect=9) == places.native.run(name, "x")


def test_valgrind_runs_a_launcher(places: Places) -> None:
    """memcheck needs the interpreter's symbols (libc6-dbg), natively too."""
    command = ("/usr/bin/valgrind", "-q", "--tool=none", "/artifact/bin/kind-pie", "x")
    assert places.launcher.run(*command) == places.native.run(*command)
    assert places.launcher.run(*command).status == 9
