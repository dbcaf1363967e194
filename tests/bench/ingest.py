"""Hashing and storing a tree of large files, against BLAKE3 of the same bytes in memory. Wanted: half its speed.

    python -m tests.bench.ingest [FOLDER]

FOLDER is where to work, on the file system to be measured. The files are in the page cache, as after a build.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from blake3 import blake3

from store import files, trees
from store.store import Store
from tests.bench.timing import compare, seconds

FILES, SIZE, ROUNDS = 8, 64 << 20, 7


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as top:
        place = Path(top)
        block = os.urandom(1 << 20)
        contents = [bytes([number]) + block * (SIZE >> 20) for number in range(FILES)]

        def hashing(threads: int) -> float:
            def work() -> None:
                for content in contents:
                    blake3(content, max_threads=threads).digest()

            return seconds(work)

        def storing(*, durable: bool, move: bool) -> float:
            store = Store(place / "store", durable=durable)
            (store.root / "tmp/in").mkdir()
            for number, content in enumerate(contents):
                (store.root / "tmp/in" / str(number)).write_bytes(content)
            if not durable:
                os.sync()  # else the kernel writes back meanwhile, on our time

            def work() -> None:
                with store.batch() as batch, files.directory(store.root / "tmp/in") as fd:
                    batch.add_manifest(trees.take_in(batch, fd, move=move))

            taken = seconds(work)
            with files.directory(place) as fd:
                files.remove_tree("store", at=fd)
            os.sync()
            return taken

        print(f"{FILES} files of {SIZE >> 20} MiB, {os.cpu_count()} CPUs")
        medians = compare(
            ROUNDS,
            {
                "BLAKE3 in memory, all CPUs": lambda: hashing(blake3.AUTO),
                "BLAKE3 in memory, one CPU": lambda: hashing(1),
                "take_in, moved": lambda: storing(durable=False, move=True),
                "take_in, moved, on the disk": lambda: storing(durable=True, move=True),
                "take_in, copied": lambda: storing(durable=False, move=False),
            },
        )
        total = FILES * SIZE / (1 << 30)
        for way, median in medians.items():
            print(f"{way}: {total / median:.2f} GiB/s")
        best = medians["BLAKE3 in memory, all CPUs"]
        print(f"take_in, moved: {best / medians['take_in, moved']:.2f} of the speed of hashing (wanted: at least 0.5)")


if __name__ == "__main__":
    main()
