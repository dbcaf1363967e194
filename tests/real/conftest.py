"""The tests' own programs in three places: natively, and as launchers on the same root and on an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from store import files
from store.digest import Digest
from store.manifest import Manifest
from store.store import Store
from store.trees import check_out
from tests.conftest import Builder
from tests.real.places import Done, Place

HERE = Path(__file__).parent
# Where something is mounted.
MOUNTS = ("proc", "dev", "tmp", "artifact", "work", "other")


@dataclass(frozen=True)
class Places:
    """``native`` has the programs as the linker left them, on the root that they were linked on."""

    native: Place
    launcher: Place
    alone: Place

    def same(self, program: str, *arguments: str, **options: object) -> Done:
        """Run a program in all three places, which have to agree, and give what came of it."""
        native, launcher, alone = (p.run(program, *arguments, **options) for p in (self.native, self.launcher, self.alone))  # type: ignore[arg-type]
        assert launcher == native
        assert alone == native
        return native


@pytest.fixture(scope="session")
def artifacts(builder: Builder) -> tuple[Path, Path]:
    """The folders with the launchers, and with the same programs untouched."""
    built = builder.build(HERE / "programs.py", HERE / "native.py")
    return Path(built[0]["path"]), Path(built[1]["path"])


@pytest.fixture(scope="session")
def work(shared_store: Path) -> Iterator[Path]:
    """A folder on the store's own disk, for roots made of hard links."""
    with Store(shared_store).workspace() as folder:
        yield folder


def lay_root(store: Store, tree: Manifest, folder: Path) -> Path:
    """A root with what ``tree`` has, and the mount points."""
    folder.mkdir()
    with files.directory(folder) as fd:
        check_out(store, tree, fd)
    for name in MOUNTS:
        (folder / name).mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def world(builder: Builder, work: Path) -> Path:
    """The root with the toolchain, natively."""
    (built,) = builder.build(HERE / "world.py")
    store = Store(builder.store)
    return lay_root(store, store.read_manifest(Digest.parse(built["digest"])), work / "world")


@pytest.fixture(scope="session")
def empty(shared_store: Path, work: Path) -> Path:
    """A root with nothing in it."""
    return lay_root(Store(shared_store), Manifest([]), work / "empty")


@pytest.fixture(scope="session")
def places(artifacts: tuple[Path, Path], world: Path, empty: Path) -> Places:
    launchers, native = artifacts
    bwrap = launchers / "bin" / "bwrap"
    return Places(Place(bwrap, world, native), Place(bwrap, world, launchers), Place(bwrap, empty, launchers))
