"""Small things that the tests of sharing share."""

from __future__ import annotations

import os
from pathlib import Path

from builder.remotes.directory import DirectoryRemote
from store import pull, push
from store.action import Action
from store.artifacts import Folder
from store.digest import Digest
from store.manifest import Manifest
from store.push import Load
from store.result import Result
from store.signing import SecretKey, Statement
from store.store import Store
from tests.store.helpers import tree

ANNA = SecretKey("anna", bytes(range(32)))
BERT = SecretKey("bert", bytes(range(1, 33)))


def statement(output: Digest, *, name: str = "hello", version: str = "2.10", size: int = 7, action: str = "make") -> Statement:
    """What somebody may sign."""
    result = Result(Action("build", (), (action,)).encode(), f"{name} {version}", output, 5, 6, "test")
    return Statement(result, name, version, "x86_64-linux", size)


def fill(store: Store, content: dict[str, bytes | str | None]) -> Manifest:
    """A tree in a store."""
    with store.batch() as batch:
        manifest = tree(batch, content)
        batch.add_manifest(manifest)
    return manifest


def folder(manifest: Manifest, name: str = "hello", version: str = "2.10") -> Folder:
    """The folder that a tree would have."""
    return Folder.of(manifest.digest, name, version)


def send(store: Store, place: DirectoryRemote, *trees: Manifest) -> push.Pushed:
    """Push trees, all under one name."""
    return push.push(store, place, Load([(folder(one), one.digest) for one in trees]))


def get(store: Store, place: DirectoryRemote, manifest: Manifest) -> pull.Pulled:
    """Pull a tree."""
    return pull.pull(store, place, pull.waybill(place, manifest.digest.base32))


def files_of(place: Path) -> list[Path]:
    """Every file below a folder."""
    return sorted(Path(folder, name) for folder, _, names in os.walk(place) for name in names)


BIG = bytes(os.urandom(1 << 16)) * 40  # two and a half MB that compress well
CONTENT: dict[str, bytes | str | None] = {
    "bin/hello": b"#!program" * 50,
    "bin/link": "hello",
    "lib/big.so": BIG,
    "lib/noise.so": os.urandom(9 << 20),  # a parcel of its own
    "share/empty": None,
    "share/nothing": b"",
    "share/plain-hello": b"#!program" * 50,  # the bytes of bin/hello, with the other mode
    **{f"share/doc/{n}.txt": b"page %d\n" % n * n for n in range(60)},
}
