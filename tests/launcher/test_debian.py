"""Debian's own programs as launchers, on a root that holds nothing else.

The fixture ``debian_root`` gives a store and the manifest of a root with (at least) bash, coreutils and git, and what they
need.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher import bootstrap, pack
from launcher.names import Namespace
from launcher.settings import Settings
from store import files
from store.manifest import File, Manifest, Node
from store.store import Store
from store.trees import check_out
from tests.launcher.programs import start

PROGRAMS = ("true", "ls", "env", "cat", "readlink", "basename", "dirname", "bash", "git")
SCRIPT = b"""#!/bin/bash -u
echo "name $(basename "$0")"
echo "data $(cat "$(dirname "$0")/../share/data")"
echo "more $# $2"
"$(dirname "$0")/other" from-script
"""


@pytest.fixture(scope="session")
def artifact(debian_root: tuple[Store, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an artifact with PROGRAMS and two scripts is checked out, under a name that is hard to handle."""
    store, root = debian_root
    names = Namespace(root, Manifest([]))
    with store.batch() as batch:
        entries: list[tuple[bytes, Node]] = []
        for name in PROGRAMS:
            found = names.file(b"usr/bin/" + name.encode())
            assert found is not None, name
            entries.append((b"bin/" + name.encode(), found[1]))
        entries.append((b"bin/script", batch.add_bytes(SCRIPT, executable=True)))
        entries.append((b"bin/other", batch.add_bytes(b'#!/usr/bin/env bash\necho "other $1"\n', executable=True)))
        entries.append((b"share/data", batch.add_bytes(b"the data")))
    with store.batch() as batch:

        def add(data: bytes, executable: bool) -> File:
            return batch.add_bytes(data, executable=executable)

        output = Manifest.with_parents(entries)
        made = pack.pack(output, root, Settings(), bootstrap=bootstrap.load(), read=store.read_blob, add=add)
    folder = tmp_path_factory.mktemp("root") / "a b:$c"
    folder.mkdir()
    with files.directory(folder) as fd:
        check_out(store, made, fd)
    return folder


def test_programs_run(artifact: Path) -> None:
    assert start(artifact / "bin/true") == (0, [])
    assert start(artifact / "bin/ls", str(artifact)) == (0, ["bin", "share"])
    assert start(artifact / "bin/git", "--version")[1][0].startswith("git version")
    assert start(artifact / "bin/bash", "-c", "echo $0 $1; exit 5", "zero", "one") == (5, ["zero one"])
    assert start(artifact / "bin/env", env={"B": "2", "A": "1"}) == (0, ["B=2", "A=1"])
    assert start(artifact / "bin/readlink", "/proc/self/exe") == (0, [str(artifact / "bin/readlink")])


def test_nothing_but_the_artifact(artifact: Path, tmp_path: Path) -> None:
    """On a root that is the artifact: no /proc, no /dev, no library, no shell of a host."""
    folder = artifact.parent / "plain"
    shutil.copytree(artifact, folder, symlinks=True, dirs_exist_ok=True)
    assert start(Path("/bin/true"), root=folder) == (0, [])
    assert start(Path("/bin/ls"), "/", root=folder) == (0, ["bin", "share"])
    assert start(Path("bin/ls"), "share", root=folder) == (0, ["data"])
    path = {"PATH": "/bin"}
    lines = ["name script", "data the data", "more 2 two words", "other from-script"]
    assert start(Path("/bin/script"), "one", "two words", env=path, root=folder) == (0, lines)


def test_a_script_through_a_link(artifact: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(artifact / "bin/script")
    status, printed = start(link, "one", "two", env={"PATH": os.defpath})
    assert (status, printed) == (0, ["name script", "data the data", "more 2 two", "other from-script"])


def test_maps_name_the_artifact_only(artifact: Path) -> None:
    """Every file that is mapped is the artifact's; no page can be both written and executed."""
    status, lines = start(artifact / "bin/cat", "/proc/self/maps")
    assert status == 0
    mapped = {line.split(None, 5)[5] for line in lines if len(line.split(None, 5)) == 6}
    assert any(name.endswith("libc.so.6") for name in mapped)
    assert all(name.startswith((str(artifact), "[")) for name in mapped), mapped
    assert not [line for line in lines if re.match(r"\S+ .wx", line)]
    assert "[vdso]" in mapped


def test_a_path_that_names_the_host(artifact: Path, tmp_path: Path) -> None:
    """A library path of the user's does not change what a launcher starts with."""
    (tmp_path / "libc.so.6").write_bytes(b"not a library")
    assert start(artifact / "bin/true", env={"LD_LIBRARY_PATH": str(tmp_path)}) == (0, [])


def test_another_user_of_the_same_files(artifact: Path) -> None:
    """The program's file is its own: it can be started again through /proc, and by another name."""
    done = subprocess.run(
        ["sh-is-my-name", "-c", "exec -a other /proc/self/exe -c 'echo $0 $BASH'"],
        executable=artifact / "bin/bash",
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("other")
