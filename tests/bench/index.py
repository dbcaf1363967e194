"""The index of a large store: 1,000 artifacts of 1,000 files.

Wanted: each query under 50 ms, and a collection that finds nothing under 2 s.

    python -m tests.bench.index [FOLDER] [ARTIFACTS] [FILES]

FOLDER is where to work. Beside each figure stands its ratio to the same search by reading every artifact's manifest, which
is what there is to do without an index. The store has manifests and results only, as after a collection: no query reads a blob.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from store import artifacts, collect, index, roots
from store.action import Action
from store.artifacts import Folder
from store.difference import difference
from store.digest import Digest
from store.index import Index
from store.manifest import File, Manifest
from store.origins import holders, origins, searched
from store.result import Result
from store.store import Store
from tests.bench.timing import compare, seconds

PACKAGES, ROUNDS = 200, 9


def file(*words: object) -> File:
    """A file that holds these words, and says to be larger."""
    data = repr(words).encode()
    return File(Digest.of(data), 1000 + len(data), False)


def fill(store: Store, count: int, size: int) -> list[Digest]:
    """Packages, and artifacts that are each built from a source of their own and from twelve of the packages.

    All have the first package. Six in ten of an artifact's files are packages', three come from its source, and one is built.
    Two artifacts are one program in two versions, with the same source.
    """
    each = size * 6 // 10 // 12
    made = []
    with store.batch() as batch:

        def done(kind: str, label: str, inputs: tuple[tuple[str, Digest], ...], tree: Manifest, *, at: int = 1) -> None:
            batch.add_manifest(tree)
            action = Action(kind, inputs, (label,))
            batch.add_result(Result(action.encode(), label, tree.digest, at, 5, "bench"))

        packages = []
        for number in range(PACKAGES):
            names = (b"usr/lib/x86_64-linux-gnu/lib%d-%d.so.%d" % (number, inner, inner % 7) for inner in range(each))
            tree = Manifest.with_parents((name, file("package", name)) for name in names)
            done("import", f"lib{number} 1.{number}", (), tree)
            packages.append((f"lib{number} 1.{number}", tree))
        for number in range(count):
            label = f"program{number} {number % 2}"
            others = ((number // 2 + 17 * step) % (PACKAGES - 1) + 1 for step in range(11))
            chosen = [packages[0], *(packages[other] for other in others)]
            name = b"share/program%d" % (number // 2)
            source = Manifest.with_parents(
                (b"%s/data%d" % (name, inner), file("source", number // 2, inner)) for inner in range(size * 3 // 10)
            )
            done("import", f"program{number // 2}_1.tar.gz", (), source)
            root = Manifest.with_parents([*(pair for _, tree in chosen for pair in tree.files), *source.under(b"build").files])
            parts = (*((text, tree.digest) for text, tree in chosen), (f"program{number // 2}_1.tar.gz", source.digest))
            done("merge", label, parts, root)
            own = [(b"bin/tool%d" % inner, file("built", number, inner)) for inner in range(size // 10)]
            output = Manifest.with_parents([*source.files, *own])
            done("build", label, (("input root", root.digest),), output)
            libraries = [
                (b".launch/x86_64-linux-gnu/lib/" + path.rpartition(b"/")[2], node)
                for _, tree in chosen
                for path, node in tree.files
            ]
            artifact = Manifest.with_parents([*output.files, *libraries])
            done("pack", label, (("output", output.digest), ("input root", root.digest)), artifact, at=number)
            made.append(artifact.digest)
    for number, digest in enumerate(made):
        folder = store.root / "artifacts" / str(Folder.of(digest, f"program{number}", str(number % 2)))
        folder.mkdir()
        roots.add_named(store, f"program{number}", digest)
    return made


def reading(store: Store, found: Callable[[Manifest], object]) -> None:
    """Look into every artifact's manifest."""
    for folder in artifacts.folders(store):
        digest = artifacts.digest_of(store, folder)
        assert digest is not None
        found(store.read_manifest(digest))


def main() -> None:
    """Measure and print."""
    place = sys.argv[1] if sys.argv[1:] else None
    count, size = (int(word) for word in (*sys.argv[2:4], *("1000", "1000")[len(sys.argv[2:4]) :]))
    with tempfile.TemporaryDirectory(dir=place) as top:
        store = Store(Path(top) / "store", durable=False)
        made = fill(store, count, size)
        os.sync()
        opened = Index(store)
        first = seconds(opened.update)
        plain = seconds(lambda: reading(store, lambda manifest: manifest.size))
        print(f"{count} artifacts of {size} files: first indexing {first:.1f} s, reading their manifests {plain:.1f} s")
        print(f"ratio {first / plain:.1f}; index.sqlite has {opened.path.stat().st_size / 1e6:.0f} MB")
        one, two = made[count // 2], made[count // 2 + 1]
        library = b"lib0-3.so.3"
        blob = file("package", b"usr/lib/x86_64-linux-gnu/" + library).blob
        own = file("built", count // 2, 1).blob
        ways: dict[str, Callable[[], object]] = {
            "nothing new: bringing it up to date": opened.update,
            "who-has libssl.so.3: none": lambda: searched(opened, "libssl.so.3"),
            "who-has, a library's name: all": lambda: searched(opened, library.decode()),
            "who-has, a digest: all": lambda: searched(opened, str(blob)),
            "who-has, a digest that one has": lambda: searched(opened, str(own)),
            "sizes of one": lambda: opened.sizes_of(one),
            "sizes of all": opened.sizes,
            "graph of one": lambda: opened.graph().built_from(one),
            "why: a file": lambda: holders(opened, one, "tool1"),
            "origins of one": lambda: origins(opened, one),
            "diff of two": lambda: difference(opened, one, two),
        }
        medians = compare(ROUNDS, {way: lambda work=work: seconds(work) for way, work in ways.items()}, unit=0.001, name="ms")  # type: ignore[misc]
        for way, median in medians.items():
            print(f"{way}: {median / plain:.5f} of reading all manifests (wanted: at most 50 ms)")
        nothing = seconds(lambda: collect.collect(store))
        print(f"gc that finds nothing: {nothing:.2f} s, {nothing / plain:.2f} of reading all manifests (wanted: at most 2 s)")
        with index.opened(store) as again:
            assert len(again.artifacts()) == count


if __name__ == "__main__":
    main()
