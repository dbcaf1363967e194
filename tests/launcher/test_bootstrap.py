"""The launchers' machine code."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from launcher import bootstrap, config
from store.digest import Digest
from store.errors import Error

TOP = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
DIGESTS = {
    "graft": "b3:fa6278034e8602c2520a3a9d8e2e00e07f991c00b715942329692da9cb7671da",
    "defaults": "b3:faf5c3b53d1ea0bdb9a31c7cc1968f68b4616cfe780aa1e1c2d279aab21bdb54",
    "script": "b3:47e405c77c035ce392a4a93b4b3edac9ef67ed682c43b5dc2684f45dff83a13f",
    "apart": "b3:ee29e4a27a7b7253c1af9faa9c1b8be79df559a9495b02ff9a55e6f453bfaf99",
}


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """setup.py, as a module."""
    monkeypatch.chdir(TOP)
    spec = importlib.util.spec_from_file_location("builder_setup", os.path.join(TOP, "setup.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", DIGESTS)
def test_same_bytes_on_every_machine(builder: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = builder.compile_stub(kind, "x86_64")
    assert str(Digest.of(data)) == DIGESTS[kind]
    # What surrounds the compiler has no say.
    monkeypatch.setenv("CFLAGS", "-O0")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert builder.compile_stub(kind, "x86_64") == data


def test_what_is_installed_is_what_the_sources_give() -> None:
    installed = bootstrap.load()
    for kind in bootstrap.KINDS:
        stub = getattr(installed, kind)
        assert str(Digest.of(stub)) == DIGESTS[kind]
        assert stub[: config.SIZE] == bytes(config.SIZE)
        assert stub[config.SIZE : config.SIZE + 4] == b"\xf3\x0f\x1e\xfa"  # endbr64: programs with IBT jump there


def test_a_program_gets_two_kilobytes() -> None:
    assert len(bootstrap.load().graft) - config.SIZE <= 2048


def test_unknown_machine() -> None:
    with pytest.raises(Error, match="no launcher for vax"):
        bootstrap.load("vax")
