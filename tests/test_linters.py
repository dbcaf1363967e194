"""The code is formatted, has no lint, and is typed throughout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINTERS = (("ruff", "format", "--check"), ("ruff", "check"), ("mypy",), ("ziglang", "fmt", "--check", "launcher/run"))


@pytest.mark.parametrize("words", LINTERS, ids=" ".join)
def test_linter(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
