"""The tests' own programs in three places: natively, and as launchers on the same root and on an empty one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder import tools
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


@pytest.fixture(scope="session", params=["bullseye", "trixie", "busybox", "empty"])
def host(
    request: pytest.FixtureRequest, builder: Builder, places: Places, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> Place:
    """The launchers on another host. Debian 13 replaces packages with each point release, so that its lock is made here."""
    name = request.param
    if name == "empty":
        return places.alone
    folder = tmp_path_factory.mktemp(name)
    store = Store(builder.store)
    if name == "busybox":
        shutil.copy(HERE.parent.parent / "builder" / "tools.lock", folder)
        lines = ("from dataclasses import replace", "from builder.tools import SYSTEM", "recipe = replace(SYSTEM)")
        (folder / "tools.py").write_text("\n".join(lines))
        (built,) = builder.build(folder / "tools.py")
        tree = tools.bare_root(store.read_manifest(Digest.parse(built["digest"])))
        return places.alone.but(root=lay_root(store, tree, work / name))
    recipe = HERE / "hosts" / f"{name}.py"
    if not recipe.with_suffix(".lock").exists():
        recipe = Path(shutil.copy(recipe, folder))
        builder("lock", recipe)
    (built,) = builder.build(recipe)
    tree = store.read_manifest(Digest.parse(built["digest"]))
    return places.alone.but(root=lay_root(store, tree, work / name))
