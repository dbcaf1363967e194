"""Checking an artifact out, against `cp -al` of the same tree. Wanted: no slower.

    python -m tests.bench.checkout [FOLDER]

FOLDER is where to work, on the file system to be measured.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from store import artifacts, collect, files, trees
from store.manifest import DIRECTORY, Manifest, Node, Symlink
from store.store import Store
from tests.bench.timing import compare, seconds

FOLDERS, FILES, ROUNDS = 400, 25, 9


def made(store: Store) -> Manifest:
    """A tree of about the shape of a system root: 10,000 files, a tenth as many links."""
    entries: list[tuple[bytes, Node]] = []
    with store.batch() as batch:
        for folder in range(FOLDERS):
            path = b"usr/share/%d/%d" % (folder % 20, folder)
            for number in range(FILES):
                entries.append((path + b"/file-%d" % number, batch.add_bytes(b"%d %d" % (folder, number))))
            entries.append((path + b"/link", Symlink(b"file-1")))
            entries.append((path + b"/empty", DIRECTORY))
        manifest = Manifest.with_parents(entries)
        batch.add_manifest(manifest)
    return manifest


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as top:
        place = Path(top)
        store = Store(place / "store")
        manifest = made(store)
        pattern = place / "pattern"
        pattern.mkdir()
        with files.directory(pattern) as fd:
            trees.check_out(store, manifest, fd)

        # Each goes to a place of its own, and all are removed at the end: ext4 is slow to give inodes out again that were
        # freed in the last seconds, and that would be measured. (`cp -al` links symlinks too, and needs fewer inodes.)
        numbers = itertools.count()

        def check_out() -> float:
            out = place / f"out-{next(numbers)}"

            def work() -> None:
                out.mkdir()
                with files.directory(out) as fd:
                    trees.check_out(store, manifest, fd)

            return seconds(work)

        def copy() -> float:
            out = place / f"out-{next(numbers)}"
            return seconds(lambda: subprocess.run(["cp", "-al", str(pattern), str(out)], check=True))

        def artifact() -> float:
            version = str(next(numbers))
            return seconds(lambda: artifacts.check_out(store, manifest, name="x", version=version))

        print(f"{len(manifest)} entries, {os.cpu_count()} CPUs")
        medians = compare(
            ROUNDS,
            {"check_out": check_out, "cp -al": copy, "artifact, with its name": artifact},
            unit=0.001,
            name="ms",
        )
        print(f"check_out / cp -al = {medians['check_out'] / medians['cp -al']:.2f} (wanted: at most 1)")
        collect.collect(store)
        print(f"artifact / cp -al = {medians['artifact, with its name'] / medians['cp -al']:.2f}")


if __name__ == "__main__":
    main()
