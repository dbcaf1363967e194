"""A build that has nothing to do, against Python's own start: ``python -m tests.bench.noop [RECIPE] [ROUNDS]``.

Wanted: at most 5 times ``python3 -c ''``. The recipe has to be built, in the store that BUILDER_STORE names. The command is
the installed console script beside this Python, as a person would run it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median


def once(command: list[str]) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    recipe = sys.argv[1] if len(sys.argv) > 1 else "recipes/hello.py"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    builder = os.path.join(os.path.dirname(sys.executable), "builder")
    commands = {
        "python3 -c ''": [sys.executable, "-c", ""],
        "builder build": [builder, "build", "--no-link", recipe],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            times[name].append(once(command))
    for name in commands:
        print(f"{name:14} {median(times[name][1:]) * 1000:6.1f} ms")
    ratios = [b / a for a, b in zip(*times.values(), strict=True)][1:]
    print(f"ratio          {median(ratios):6.2f}  (wanted: at most 5)")


if __name__ == "__main__":
    main()
