"""What all tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from store.digest import Digest
from store.manifest import Manifest
from store.store import Store

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"

# The machine may be busy with something else: no test measures time.
settings.register_profile("builder", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("builder")


@dataclass(frozen=True)
class Builder:
    """The command line, with a store of its own."""

    store: Path
    environment: Mapping[str, str]

    def start(self, *words: str | Path, cwd: Path | None = None, **more: Any) -> subprocess.Popen[str]:
        """The command, started."""
        command = [sys.executable, "-m", "builder", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=cwd or self.store.parent, env=dict(self.environment), stdout=pipe, stderr=pipe, text=True, **more
        )

    def __call__(self, *words: str | Path, cwd: Path | None = None, status: int = 0) -> subprocess.CompletedProcess[str]:
        """The command, run to its end, which has to be ``status``, and never a stack trace."""
        process = self.start(*words, cwd=cwd)
        out, err = process.communicate()
        assert "Traceback" not in err, err
        assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def build(self, *recipes: Path, cwd: Path | None = None, **options: bool) -> list[dict[str, str]]:
        """What ``build --json`` says of the artifacts."""
        flags = [f"--{name.replace('_', '-')}" for name, on in options.items() if on]
        done = self("build", *recipes, "--json", "--no-link", *flags, cwd=cwd)
        artifacts: list[dict[str, str]] = json.loads(done.stdout)["artifacts"]
        return artifacts


def environment(store: Path) -> dict[str, str]:
    """The environment of a command under test: the machine's, with another store."""
    return {**os.environ, "BUILDER_STORE": str(store), "PYTHONPATH": str(ROOT)}


SHARED = Path(os.environ.get("BUILDER_TEST_STORE") or Path.home() / ".cache" / "builder-tests" / "store")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Gives the files of the shared store their modes again: what keeps a cache between two runs may have lost them."""
    if hasattr(session.config, "workerinput"):  # once, not in each of the processes
        return
    for kind in ("blobs", "manifests", "results", "signatures"):
        for folder, _, names in os.walk(SHARED / kind):
            for name in names:
                path, mode = os.path.join(folder, name), 0o555 if name.endswith(".x") else 0o444
                if os.lstat(path).st_mode & 0o777 != mode:
                    os.chmod(path, mode)


@pytest.fixture(scope="session")
def shared_store() -> Path:
    """A store that lasts from run to run, so that packages are fetched once. Tests may add to it, and collect nothing."""
    SHARED.parent.mkdir(parents=True, exist_ok=True)
    return SHARED


@pytest.fixture(scope="session")
def builder(shared_store: Path) -> Builder:
    """The command line on the shared store, with the toolchain there."""
    command = Builder(shared_store, environment(shared_store))
    command.build(RECIPES / "toolchain.py")
    return command


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe on the toolchain: its name, script, and more fields as Python text."""

    # The store may be an earlier run's: this makes every script one that it has not seen.
    script_mark = f": {os.urandom(8).hex()}\n"

    def write(name: str, script: str, *, check: str = "", more: str = "", imports: Sequence[str] = ()) -> Path:
        folder = tmp_path / "recipes"
        folder.mkdir(exist_ok=True)
        inputs = ", ".join(f"{module}.recipe" for module in ("toolchain", *imports))
        text = "from builder import *\n" + "".join(f"from recipes import {module}\n" for module in ("toolchain", *imports))
        script = script_mark + script
        fields = f"name={name!r}, version='1', about='a test', inputs=({inputs},), script={script!r}, check={check!r}"
        text += f"recipe = Recipe({fields}, {more})\n"
        path = folder / f"{name.replace('-', '_')}.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="session")
def debian_root(shared_store: Path) -> tuple[Store, Manifest]:
    """A Debian root with programs of many kinds, and the store that holds it."""
    command = Builder(shared_store, environment(shared_store))
    (built,) = command.build(ROOT / "tests" / "debian" / "programs.py")
    store = Store(shared_store)
    return store, store.read_manifest(Digest.parse(built["digest"]))
