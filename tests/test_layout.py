"""The shape of the project: imports point one way, and heavy libraries are loaded only where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each may import itself and what stands before it.
ORDER = ("store", "launcher", "builder", "recipes")

# What takes long to import, and the modules that may. A build that has nothing to do imports none of these modules.
HEAVY = {"sqlite_utils": {"store.index"}, "cyclonedx": {"builder.sbom"}, "spdx_tools": {"builder.sbom"}}

MODULES = [path.relative_to(ROOT) for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_there_is_something_to_look_at() -> None:
    assert {path.parts[0] for path in MODULES} >= {"store", "launcher", "builder"}
    assert "store.digest" in set(imported(Path("store/manifest.py")))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path: Path) -> None:
    later = ORDER[ORDER.index(path.parts[0]) + 1 :]
    wrong = {name for name in imported(path) if name.partition(".")[0] in (*later, "tests")}
    assert not wrong, f"{path} may not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_heavy_libraries_stay_where_they_are_used(path: Path) -> None:
    module = ".".join(path.with_suffix("").parts)
    wrong = {name for name in imported(path) if module not in HEAVY.get(name.partition(".")[0], {module})}
    assert not wrong, f"{module} may not import {', '.join(sorted(wrong))}"


def test_what_a_build_with_nothing_to_do_imports() -> None:
    modules = "store.store, store.artifacts, store.roots, store.result, store.action"
    code = f"import sys, {modules}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "blake3" in loaded
    assert not loaded & {"sqlite3", "sqlite_utils", "urllib3", "elftools", "rich", "ctypes", "email", "zstandard", "asyncio"}


IMPORT_EACH = """
import importlib, os, sys, traceback
for module in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(module)
"""


def test_no_import_makes_a_circle() -> None:
    """Each module can be imported first, before any other of the project."""
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in MODULES if path.stem != "__main__"]
    run = subprocess.run([sys.executable, "-c", IMPORT_EACH, *modules], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "", run.stderr
