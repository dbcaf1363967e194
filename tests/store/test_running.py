"""Artifacts that processes use are roots: a launcher that runs, a folder that somebody is in, an open file, a mapped one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from store import artifacts, collect
from store.action import Action
from store.running import running
from store.store import Store
from tests.launcher.programs import compile_c
from tests.store.helpers import record, tree

SLEEP = """
static long call(long number, long a, void *b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
void _start(void) { char c = 'x'; call(1, 1, &c, 1); call(0, 0, &c, 1); call(60, 0, 0, 0); }
"""
READY = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read(1)"


@pytest.fixture(scope="module")
def program() -> bytes:
    return compile_c(SLEEP, "-static")


def lives_while(store: Store, place: Path, words: Sequence[str | Path], **options: object) -> None:
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
    try:
        process.stdout.read(1)
        (found,) = running(store)
        assert (found.folder, found.process) == (artifacts.Folder.parse(place.name), process.pid)
        assert collect.collect(store).artifacts == ()
        assert (place / "bin/sleeps").exists()
    finally:
        process.communicate(b"x")
    assert process.returncode == 0
    assert running(store) == []
    assert [str(folder) for folder in collect.collect(store).artifacts] == [place.name]


@pytest.mark.parametrize("way", ["runs", "runs elsewhere", "is in it", "has a file open", "has a link to it open"])
def test_an_artifact_that_is_used_stays(tmp_path: Path, program: bytes, way: str) -> None:
    store = Store(tmp_path / "store", durable=False)
    with store.batch() as batch:
        manifest = tree(batch, {"bin/sleeps": program, "share/text": way.encode()})
        record(batch, Action("build", (), (way,)), way, manifest)
    place = artifacts.check_out(store, manifest, name="sleeps", version="1")
    file = place / "share/text"
    if way == "runs":
        lives_while(store, place, [place / "bin/sleeps"])
    elif way == "runs elsewhere":
        os.link(place / "bin/sleeps", tmp_path / "elsewhere")
        lives_while(store, place, [tmp_path / "elsewhere"])
    elif way == "is in it":
        lives_while(store, place, [sys.executable, "-c", READY], cwd=place)
    else:
        if "link" in way:
            os.link(file, tmp_path / "other")
            file = tmp_path / "other"
        lives_while(store, place, [sys.executable, "-c", f"f = open({str(file)!r}); {READY}"])
