"""The same for anybody: an ordinary user, and one whose kernel says no."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Builder, environment

Write = Callable[..., Path]

SCRIPT = """
    mkdir -p "$OUT$PREFIX/bin"
    echo "int main(void) { return 0; }" > m.c
    gcc -g -o "$OUT$PREFIX/bin/m" m.c
    id -u > "$OUT$PREFIX/id"
"""


@pytest.fixture
def home(builder: Builder) -> Iterator[Path]:
    """A folder that an ordinary user may use, with the downloads of the shared store."""
    place = Path("/var/tmp") / f"builder-{os.getpid()}"
    place.mkdir(mode=0o755)
    (place / "store").mkdir()
    shutil.copytree(builder.store / "downloads", place / "store" / "downloads")
    yield place
    subprocess.run(["chmod", "-R", "u+w", str(place)], check=False)
    shutil.rmtree(place, ignore_errors=True)


def as_nobody(place: Path, words: list[str], *, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command line, as an ordinary user: by ``setuid``, after everything was imported, where the tests run as root."""
    nobody = pwd.getpwnam("nobody")
    become = f"os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})" if os.getuid() == 0 else ""
    modules = sorted(
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for package in ("store", "launcher", "builder")
        for path in (ROOT / package).rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    )
    code = (
        "import importlib, os, sys, encodings.idna, http.client, ctypes, sqlite3, json, zoneinfo, multiprocessing\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"os.umask(0o027)\n{become}\n{before}\nfrom builder.cli import main\nmain({words!r})"
    )
    variables = {**environment(place / "store"), "HOME": str(place)}
    if become:
        subprocess.run(["chown", "-R", str(nobody.pw_uid), str(place)], check=True)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_an_ordinary_user_builds_the_same_bytes(builder: Builder, write_recipe: Write, home: Path) -> None:
    recipe = write_recipe("by-anybody", SCRIPT, check="m", more="debug=True")
    mine = builder.build(recipe, debug_info=True)
    shutil.copytree(recipe.parent, home / "recipes")
    shutil.copy(ROOT / "recipes" / "toolchain.py", home / "recipes")
    shutil.copy(ROOT / "recipes" / "toolchain.lock", home / "recipes")
    done = as_nobody(home, ["build", str(home / "recipes" / recipe.name), "--debug-info", "--json", "--no-link"])
    assert done.returncode == 0, done.stderr
    theirs, debug = json.loads(done.stdout)["artifacts"]
    assert [theirs["digest"], debug["digest"]] == [artifact["digest"] for artifact in mine]
    assert (Path(theirs["path"]) / "id").read_text() == "1000\n"
    subprocess.run([Path(theirs["path"]) / "bin" / "m"], check=True)
    # What the user's umask forbids others is the folder's business, never the artifact's.
    assert (Path(theirs["path"]) / "bin" / "m").stat().st_mode & 0o777 == 0o555


def test_a_kernel_that_refuses_namespaces_is_told_in_words(builder: Builder, write_recipe: Write, home: Path) -> None:
    """In a namespace of its own, this process forbids all further ones, as some distributions do for everybody."""
    recipe = write_recipe("refused", SCRIPT)
    shutil.copytree(recipe.parent, home / "recipes")
    forbid = (
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0')"
    )
    done = as_nobody(home, ["build", str(home / "recipes" / recipe.name), "--no-link"], before=forbid)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: the kernel refuses the sandbox:" in done.stderr
    assert "hint: This machine forbids user namespaces. As root: sysctl user.max_user_namespaces" in done.stderr
    assert not list((home / "store" / "artifacts").glob("*-refused-*"))
