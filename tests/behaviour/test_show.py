"""What a person sees: a live list on a terminal, plain lines in a file."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.show import duration, size
from tests.conftest import Builder

Write = Callable[..., Path]


def on_a_terminal(builder: Builder, *words: str | Path) -> tuple[int, str]:
    """The command with a terminal for standard error. Its status and what the terminal got."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "builder", *map(str, words)]
    variables = {**builder.environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    return process.wait(), seen.decode()


def test_a_terminal_shows_what_is_under_way(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe("seen", 'mkdir -p "$OUT$PREFIX"; echo the last line; sleep 1; echo > "$OUT$PREFIX/x"')
    status, seen = on_a_terminal(builder, "build", recipe, "--no-link")
    assert status == 0, seen
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"build +seen 1 +\d+\.\d s +the last line", plain)
    assert "built seen 1 (" in plain
    # The cursor is there again, and the list is gone.
    assert seen.rstrip().endswith("\x1b[?25h") or seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")


def test_a_failure_on_a_terminal(builder: Builder, write_recipe: Write) -> None:
    status, seen = on_a_terminal(builder, "build", write_recipe("seen-to-fail", "echo reason; exit 1"), "--no-link")
    assert status == 1
    assert "error:" in seen
    assert "reason" in seen
    assert "Traceback" not in seen


def test_a_file_gets_plain_lines(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe("plain", 'mkdir -p "$OUT$PREFIX"; echo quiet; echo > "$OUT$PREFIX/x"')
    # The steps before and after may be known from an earlier build of the same bytes.
    steps = ("merged", "packed")
    lines = [line for line in builder("build", recipe, "--no-link").stderr.splitlines() if not line.startswith(steps)]
    assert [re.sub(r"\(.*", "", line).strip() for line in lines] == [
        "build plain 1 ...",
        "built plain 1",
    ]
    assert "plain> quiet" in builder("build", recipe, "--rebuild", "-v", "--no-link").stderr


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3725, "62 min 5 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (10**12, "1000.0 GB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
