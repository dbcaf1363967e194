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
    "graft": "b3:432d6a6a8f0b96b060d4a2d4c4dcd15f65f6dc82d380b52fe7894154612c036f",
    "script": "b3:36da328ee128b57e9453a051c040de59a98a893e01a3b4446b96f7bb177732ad",
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
    assert str(Digest.of(installed.graft)) == DIGESTS["graft"]
    assert str(Digest.of(installed.script)) == DIGESTS["script"]
    for stub in (installed.graft, installed.script):
        assert stub[: config.SIZE] == bytes(config.SIZE)
        assert stub[config.SIZE : config.SIZE + 4] == b"\xf3\x0f\x1e\xfa"  # endbr64: programs with IBT jump there


def test_unknown_machine() -> None:
    with pytest.raises(Error, match="no launcher for vax"):
        bootstrap.load("vax")
