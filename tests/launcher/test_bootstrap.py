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
    "graft": "b3:ef8b42b6421c6427e6b468962751dac91bd6a25b2549c835a4d999711b5f2266",
    "defaults": "b3:a48b8d2d7e09fe653ca8c871f5bce8ae53d42a0c762f4f0d91f227b32981f8d4",
    "script": "b3:47e405c77c035ce392a4a93b4b3edac9ef67ed682c43b5dc2684f45dff83a13f",
    "apart": "b3:02b7fd26110adf24461be9c274f0ab56df44599580b591a1c23649ce9fe04c3c",
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
