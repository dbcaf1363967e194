"""Checking a store, against reading its blobs and hashing them: what a check cannot do without.

    python -m tests.bench.checking STORE [ROUNDS]

STORE is not changed. Its files are in the page cache, as far as they fit.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from store.batch import hash_file
from store.check import check
from store.store import Store
from tests.bench.timing import compare, seconds


def main() -> None:
    """Measure and print."""
    store = Store(Path(sys.argv[1]))
    blobs = [Path(folder, name) for folder, _, names in os.walk(store.root / "blobs") for name in names]
    total = sum(blob.stat().st_size for blob in blobs)

    def hashed(blob: Path) -> None:
        fd = os.open(blob, os.O_RDONLY)
        try:
            hash_file(fd)
        finally:
            os.close(fd)

    def reading() -> None:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(hashed, blobs))

    print(f"{len(blobs)} blobs, {total / 1e9:.2f} GB")
    ways = {"reading and hashing": lambda: seconds(reading), "check": lambda: seconds(lambda: check(store))}
    medians = compare(int(sys.argv[2]) if sys.argv[2:] else 3, ways)
    print(f"check: {medians['check'] / medians['reading and hashing']:.2f} of reading and hashing")


if __name__ == "__main__":
    main()
