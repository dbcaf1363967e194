"""Making a system root from downloaded packages, against mmdebstrap and against dpkg-deb with tar. Wanted: no slower.

    python -m tests.bench.unpack LOCK PACKAGES [FOLDER]

LOCK is a lock file, PACKAGES a folder with its archives, each under its sha256 or its own name: the downloads of a store
that has built something on that root will do. FOLDER is where to work. `mmdebstrap --variant=extract` gets the same
packages from a local repository, and is left out where it is not installed; the other row is what it does to each
package, without apt's share.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from builder import lockfile
from builder.archives import control_fields, usr_merged
from builder.fetch import Fetcher
from builder.imports import Import, import_archives
from builder.lockfile import Lock
from builder.mirrors import Mirrors
from builder.progress import Silent
from store.manifest import merge
from store.store import Store
from tests.bench.timing import compare, seconds

ROUNDS = 3
RELATIONS = {"Depends", "Pre-Depends", "Conflicts", "Breaks", "Replaces", "Recommends", "Suggests", "Enhances"}


def repository(lock: Lock, packages: Path, folder: Path) -> dict[str, Path]:
    """A local repository of the packages, each a link, and where each is by its hash."""
    found = {}
    for file in packages.iterdir():
        with open(file, "rb") as opened:
            found[hashlib.file_digest(opened, "sha256").hexdigest()] = file
    stanzas = []
    for package in lock.packages:
        place = folder / f"{package.name}.deb"
        os.link(found[package.sha256], place)
        with open(place, "rb") as opened:
            fields = control_fields(opened, package.name)
        # A lock may leave out what a package depends on, and apt would not: which packages there are is settled already.
        fields = {name: value for name, value in fields.items() if name not in RELATIONS}
        fields |= {"Filename": f"./{place.name}", "Size": str(package.size), "SHA256": package.sha256}
        stanzas.append("".join(f"{name}: {value.replace(chr(10), chr(10) + ' ')}\n" for name, value in fields.items()))
    (folder / "Packages").write_text("\n".join(stanzas))
    return {package.sha256: folder / f"{package.name}.deb" for package in lock.packages}


def main() -> None:
    """Measure and print."""
    lock_path, packages = Path(sys.argv[1]), Path(sys.argv[2])
    lock = lockfile.parse(lock_path.read_text(), str(lock_path))
    with tempfile.TemporaryDirectory(dir=sys.argv[3] if sys.argv[3:] else None) as top:
        place = Path(top)
        (place / "repository").mkdir()
        archives = repository(lock, packages, place / "repository")
        numbers = itertools.count()

        def ours() -> float:
            store = Store(place / f"store-{next(numbers)}")
            for sha256, file in archives.items():
                os.link(file, store.root / "downloads" / sha256)
            fetcher = Fetcher(store, Mirrors({}, place), Silent())

            def work() -> None:
                items = [Import.of_package(package) for package in lock.packages]
                digests = import_archives(store, fetcher, items, Silent())
                root = merge(
                    (item.label, usr_merged(store.read_manifest(digest))) for item, digest in zip(items, digests, strict=True)
                )
                with store.batch() as batch:
                    batch.add_manifest(root)

            taken = seconds(work)
            shutil.rmtree(store.root)
            return taken

        def dpkg() -> float:
            out = place / f"out-{next(numbers)}"
            out.mkdir()

            def work() -> None:
                for file in archives.values():
                    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as unpacking:
                        subprocess.run(["tar", "-x", "-C", out, "--keep-directory-symlink"], stdin=unpacking.stdout, check=True)

            taken = seconds(work)
            shutil.rmtree(out)
            return taken

        def mmdebstrap() -> float:
            out = place / f"out-{next(numbers)}"
            names = ",".join(package.name for package in lock.packages)
            source = f"deb [trusted=yes] copy://{place}/repository ./"
            command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={names}", lock.suite, str(out), source]
            taken = seconds(lambda: subprocess.run(command, check=True))
            shutil.rmtree(out)
            return taken

        ways = {"builder": ours, "dpkg-deb and tar": dpkg}
        if shutil.which("mmdebstrap"):
            ways["mmdebstrap"] = mmdebstrap
        print(f"{len(lock.packages)} packages, {lock.size / 1e6:.0f} MB, {os.cpu_count()} CPUs")
        medians = compare(ROUNDS, ways)
        for other in list(ways)[1:]:
            print(f"builder / {other} = {medians['builder'] / medians[other]:.2f} (wanted: at most 1)")


if __name__ == "__main__":
    main()
