"""The launchers' machine code."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from launcher import bootstrap, config
from launcher.machines import MACHINES, Machine
from store.digest import Digest
from store.errors import Error

TOP = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
DIGESTS = {
    "graft-x86_64": "b3:fa6278034e8602c2520a3a9d8e2e00e07f991c00b715942329692da9cb7671da",
    "defaults-x86_64": "b3:faf5c3b53d1ea0bdb9a31c7cc1968f68b4616cfe780aa1e1c2d279aab21bdb54",
    "script-x86_64": "b3:47e405c77c035ce392a4a93b4b3edac9ef67ed682c43b5dc2684f45dff83a13f",
    "apart-x86_64": "b3:ee29e4a27a7b7253c1af9faa9c1b8be79df559a9495b02ff9a55e6f453bfaf99",
    "graft-aarch64": "b3:ebf9a8eb15128248e88e84c6320c3d7a627ad913033211ac00092944c8c371e6",
    "defaults-aarch64": "b3:b3fec66f7501a23d42be6b667c54cdbba57a433e59fc3616d0638892345ee75e",
    "script-aarch64": "b3:c0f2121d15eaaa0e2c178b77ef7cb13e6fcd38e8ca5c36c258f50df9f5b03e2e",
    "apart-aarch64": "b3:d565ded77cade3d34949a56fe1d5d5684f255a7d58f0203e67ce4e233ad3d8d4",
}
FIRST = {"x86_64": b"\xf3\x0f\x1e\xfa", "aarch64": b"\x5f\x24\x03\xd5"}  # endbr64, bti c: where branches may lead to


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """setup.py, as a module."""
    monkeypatch.chdir(TOP)
    spec = importlib.util.spec_from_file_location("builder_setup", os.path.join(TOP, "setup.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", DIGESTS)
def test_same_bytes_on_every_machine(builder: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind, machine = name.split("-")
    data = builder.compile_stub(kind, machine)
    assert str(Digest.of(data)) == DIGESTS[name]
    # What surrounds the compiler has no say.
    monkeypatch.setenv("CFLAGS", "-O0")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert builder.compile_stub(kind, machine) == data


def test_what_is_installed_is_what_the_sources_give() -> None:
    for machine in MACHINES:
        installed = bootstrap.load(machine)
        for kind in bootstrap.KINDS:
            stub = getattr(installed, kind)
            assert str(Digest.of(stub)) == DIGESTS[f"{kind}-{machine.name}"]
            assert stub[: config.SIZE] == bytes(config.SIZE)
            assert stub[config.SIZE : config.SIZE + 4] == FIRST[machine.name]


def test_a_program_gets_two_kilobytes() -> None:
    for machine in MACHINES:
        assert len(bootstrap.load(machine).graft) - config.SIZE <= 2048


def test_unknown_machine() -> None:
    with pytest.raises(Error, match="no launcher for vax"):
        bootstrap.load(Machine("vax", "EM_VAX", 75, 512))
