"""A build that has nothing to do, against Python's own start: ``python -m tests.bench.noop [RECIPE] [ROUNDS]``.

Wanted: at most 5 times ``python3 -c ''``. The recipe has to be built, in the store that BUILDER_STORE names. The command is
the installed console script beside this Python, as a person would run it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.timing import compare, seconds


def main() -> None:
    """Measure and print."""
    recipe = sys.argv[1] if len(sys.argv) > 1 else "recipes/hello.py"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    builder = os.path.join(os.path.dirname(sys.executable), "builder")

    def timed(*command: str) -> float:
        return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

    ways = {
        "python3 -c ''": lambda: timed(sys.executable, "-c", ""),
        "builder build": lambda: timed(builder, "build", "--no-link", recipe),
    }
    python, build = compare(rounds, ways, unit=0.001, name="ms").values()
    print(f"ratio {build / python:.2f} (wanted: at most 5)")


if __name__ == "__main__":
    main()
