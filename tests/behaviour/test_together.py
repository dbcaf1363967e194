"""Several builders at once, of which one is stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Builder

Write = Callable[..., Path]

SCRIPT = 'mkdir -p "$OUT$PREFIX"; echo begun; sleep 2; head -c 16 /dev/urandom | od -x > "$OUT$PREFIX/random"'


def test_ctrl_c_of_one_harms_no_other(builder: Builder, write_recipe: Write) -> None:
    """The terminal sends it to the whole process group; the others are in groups of their own."""
    recipe = write_recipe("stopped", SCRIPT)
    first = builder.start("build", recipe, "--no-link", start_new_session=True)
    while not _is_running(builder, recipe):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    others = [builder.start("build", recipe, "--json", "--no-link", start_new_session=True) for _ in range(2)]
    other_recipe = write_recipe("not-stopped", SCRIPT)
    others.append(builder.start("build", other_recipe, "--json", "--no-link", start_new_session=True))
    time.sleep(1)
    os.killpg(first.pid, signal.SIGINT)
    _, err = first.communicate()
    assert (first.returncode, "Traceback" in err) == (130, False), err
    for process in others:
        out, err = process.communicate()
        assert process.returncode == 0, err
        place = Path(json.loads(out)["artifacts"][0]["path"])
        assert (place / "random").stat().st_size > 16


def _is_running(builder: Builder, recipe: Path) -> bool:
    """Whether the script has said that it has begun."""
    for log in sorted((builder.store / "logs").iterdir(), key=lambda path: path.stat().st_mtime)[-3:]:
        if log.read_text(errors="replace") == "begun\n" and log.stat().st_mtime > recipe.stat().st_mtime:
            return True
    return False
