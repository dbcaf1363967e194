"""A full disk, met by a real build on a real small file system."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT, Builder, environment

Write = Callable[..., Path]

MS_REMOUNT = 32

# Runs the command line in a mount namespace of its own, where the store's folder is a file system of 60 MB: the build has no
# space. The same file system is then made larger, and the same command works.
CODE = """
import subprocess, sys
from tests.behaviour.test_no_space import remount
from tests.store.test_crashes import mount_small
place, recipe, downloads = sys.argv[1:]
from pathlib import Path
mount_small(Path(place), 60 << 20)
store = Path(place) / "store"
store.mkdir()
(store / "downloads").symlink_to(downloads)
def builder(*words):
    done = subprocess.run([sys.executable, "-m", "builder", "--store", str(store), *words], capture_output=True, text=True)
    print(done.returncode, done.stdout, done.stderr, sep="\\n", flush=True)
builder("build", recipe, "--no-link")
builder("check")
remount(place, 4 << 30)
builder("build", recipe, "--no-link")
builder("check")
"""


def remount(place: str, size: int) -> None:
    """Give the tmpfs at ``place`` another size, in bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(place), b"tmpfs", MS_REMOUNT, b"size=%d" % size) != 0:
        raise OSError(ctypes.get_errno(), "mount")


def test_a_full_disk_is_told_and_harms_nothing(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe("on-a-small-disk", 'mkdir -p "$OUT$PREFIX"; echo > "$OUT$PREFIX/x"')
    (place := tmp_path / "disk").mkdir()
    words = [sys.executable, "-c", CODE, str(place), str(recipe), str(builder.store / "downloads")]
    done = subprocess.run(words, cwd=ROOT, env=environment(place / "store"), capture_output=True, text=True, check=True)
    first, rest = done.stdout.split("no space left on the disk that holds", 1)
    assert first.startswith("1\n")
    assert "Traceback" not in done.stdout
    assert "hint: Free some space" in rest
    assert rest.count("0 damaged") == 2, rest
    assert "/artifacts/" in rest
