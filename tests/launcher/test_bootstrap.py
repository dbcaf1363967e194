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
    "graft-x86_64": "b3:d12e044d666d48185bd0b29d378515aa00b32e8c31f8cabfa911f7c2c758bbc1",
    "defaults-x86_64": "b3:61caf11fcca80e7da28612901584c0cf45e5ebabc4741f04032ac409fe053e72",
    "script-x86_64": "b3:5be46c9784fe56ea093a45a9523e4573e1b9d6b13dc33c71583581524f9f917e",
    "apart-x86_64": "b3:b7fddf64c1878355dce940de467c0bd77c2840d9eff149a61ebaaeea6fe85e3b",
    "graft-aarch64": "b3:619221083de3ad6801d7b9ee6e756e8f8dea4288066b5490e9e5f9128f832376",
    "defaults-aarch64": "b3:3ffec33a7a8905268b4df361bb035ba546464da9b7a07dac57288289eb451ec9",
    "script-aarch64": "b3:9f14f3e9c043681c6b89719a4cdb0bcac49dbe21f96b1d9de9f064037a43c476",
    "apart-aarch64": "b3:9f73471166f219141f87b4438b8b6fb70042b7ef7ac3e2c63aeb0abbca9d458d",
    "run-x86_64": "b3:8165d3176daf03939721d2ee633b078aa31f7ea4ac9288a29369de195b881c38",
    "run-aarch64": "b3:fc545119c448fae6d7814142752e0452fe877fe8ebb06eb711c84220ab26c882",
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


@pytest.mark.parametrize("name", [name for name in DIGESTS if not name.startswith("run-")])
def test_same_bytes_on_every_machine(builder: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind, machine = name.split("-")
    data = builder.compile_stub(kind, machine)
    assert str(Digest.of(data)) == DIGESTS[name]
    # What surrounds the compiler has no say.
    monkeypatch.setenv("CFLAGS", "-O0")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert builder.compile_stub(kind, machine) == data


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: str(machine.name))
def test_the_extractor_has_the_same_bytes_on_every_machine(
    builder: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compiled elsewhere, it is what was compiled when this package was installed, and says nothing of where that was."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = builder.compile_run(machine.name)
    assert data == bootstrap.load_run(machine)
    assert str(Digest.of(data)) == DIGESTS[f"run-{machine.name}"]
    for place in (TOP, str(tmp_path), "site-packages", "ziglang"):
        assert place.encode() not in data


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
