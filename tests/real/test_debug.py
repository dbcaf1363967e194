"""gdb on launchers, and what it is used for here: a start with more rights than the user has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import Places
from tests.real.places import Done


def gdb(places: Places, program: str, *commands: str) -> Done:
    words = [word for command in commands for word in ("-ex", command)]
    return places.launcher.run("/usr/bin/gdb", "--batch", "--nx", *words, f"/artifact/bin/{program}", expect=0)


@pytest.mark.parametrize("program", ["trace", "trace-fixed"])
def test_gdb_breaks_steps_and_goes_back_through_libraries(places: Places, program: str) -> None:
    done = gdb(places, program, "break compare", "run", "bt", "next", "info sharedlibrary")
    assert "qsort_r () from /artifact/bin/../.launch/x86_64-linux-gnu/lib/libc.so.6" in done.out
    assert "main () at trace.c:" in done.out
    assert "Breakpoint 1, compare" in done.out
    lines = [line for line in done.out.splitlines() if ".launch/x86_64-linux-gnu/" in line and line.startswith("0x")]
    assert {line.rpartition("/")[2] for line in lines} == {"libc.so.6", "ld.so"}


def test_gdb_breaks_in_a_library_of_a_stripped_program(places: Places) -> None:
    done = gdb(places, "kind-stripped", "set breakpoint pending on", "break write", "run x", "bt", "stepi", "kill")
    assert "Breakpoint 1," in done.out
    assert "write () from /artifact/bin/../.launch/x86_64-linux-gnu/lib/libc.so.6" in done.out
    assert "_dl_debug_state ()" not in done.out


# The kernel left the auxiliary vector behind the environment: look for the entry that says whether rights were gained.
SECURE = (
    "starti",
    "set $word = (long *)($sp + 16 + 8 * *(long *)$sp)",
    "while *$word",
    "set $word = $word + 1",
    "end",
    "set $word = $word + 1",
    "while *$word != 23",
    "set $word = $word + 2",
    "end",
    "set *($word + 1) = 1",
    "continue",
    "info program",
)
REFUSAL = "must not have more rights than its user"


def test_more_rights_than_the_user_has(places: Places, tmp_path: Path) -> None:
    """As the launcher sees it: gdb sets AT_SECURE before the first instruction."""
    (tmp_path / "commands").write_text("\n".join(SECURE))
    place = places.launcher.but(writable=((tmp_path, "/work"),))
    done = place.run("/usr/bin/gdb", "--batch", "--nx", "-x", "/work/commands", "/artifact/bin/kind-pie", expect=0)
    assert "exited with code 0171" in done.out  # 121
    assert f"launcher: /artifact/bin/kind-pie: {REFUSAL}" in done.out + done.err


@pytest.fixture
def given_away(places: Places, tmp_path: Path) -> Path:
    """A copy of the artifact in which a launcher is setuid, of another user where root runs the tests."""
    copy = tmp_path / "artifact"
    shutil.copytree(places.launcher.artifact, copy, symlinks=True, copy_function=shutil.copy)
    path = copy / "bin" / "kind-pie"
    for folder in (copy, copy / "bin", *tmp_path.parents):
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(0o755)
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
    path.chmod(0o4755)
    return path


def test_a_setuid_launcher(given_away: Path) -> None:
    done = subprocess.run([given_away, "x"], capture_output=True, text=True, check=False)
    # An ordinary user gains nothing by a setuid file of its own, so it starts.
    if os.getuid() == 0:
        assert (done.returncode, done.stderr) == (121, f"launcher: {given_away}: {REFUSAL}\n")
    else:
        assert done.returncode == 9
