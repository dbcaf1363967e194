"""Adding a tree to a store, beside other programs that do so, and adding it again.

    python -m tests.bench.adding FOLDER PEERS [ROUNDS]

FOLDER is any tree, such as an artifact; PEERS the artifact of tests/bench/peers.py. None of them waits for the disk but the
builder, which does so in one more row.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from store.files import directory
from store.store import Store
from store.trees import take_in
from tests.bench.sharing import Bench
from tests.bench.timing import compare, seconds


def main() -> None:
    """Measure and print."""
    source, peers = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve() / "bin"
    rounds = int(sys.argv[3]) if sys.argv[3:] else 3
    with tempfile.TemporaryDirectory() as top:
        count = 0

        def fresh() -> Path:
            nonlocal count
            count += 1
            place = Path(top, str(count))
            place.mkdir()
            return place

        def run(*words: str | Path, **more: str) -> None:
            command = [peers / str(words[0]), *words[1:]]
            quiet = subprocess.DEVNULL
            subprocess.run(command, env={**os.environ, "HOME": top, **more}, check=True, stdout=quiet, stderr=quiet)

        def builder(place: Path, *, durable: bool = False) -> None:
            store = Store(place / "store", durable=durable)
            with store.batch() as batch, directory(source) as fd:
                batch.add_manifest(take_in(batch, fd, move=False))

        def nix(place: Path) -> None:
            run("nix", "store", "add-path", source, "--name", "tree", **Bench.nix_variables(place))

        def ostree(place: Path) -> None:
            if not (place / "repo").exists():
                run("ostree", "init", f"--repo={place}/repo", "--mode=bare-user-only")
            run(
                "ostree",
                "commit",
                f"--repo={place}/repo",
                "--branch=x",
                "--fsync=false",
                f"--tree=dir={source}",
                "--canonical-permissions",
            )

        def restic(place: Path) -> None:
            variables = {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": f"{place}/repo"}
            if not (place / "repo").exists():
                run("restic", "init", **variables)
            run("restic", "backup", "--no-cache", source, **variables)

        ways: dict[str, Callable[[Path], None]] = {
            "builder": builder, "builder, on the disk": lambda place: builder(place, durable=True),
            "nix store add-path": nix, "ostree commit": ostree, "restic backup": restic,
        }  # fmt: skip

        def timed(way: Callable[[Path], None], *, again: bool) -> Callable[[], float]:
            def once() -> float:
                place = fresh()
                if again:
                    way(place)
                taken = seconds(lambda: way(place))
                subprocess.run(["chmod", "-R", "u+w", place], check=True)
                shutil.rmtree(place)
                os.sync()
                return taken

            return once

        for title, again in (("adding:", False), ("adding again:", True)):
            print(title)
            compare(rounds, {name: timed(way, again=again) for name, way in ways.items()})


if __name__ == "__main__":
    main()
