"""Power loss, by the model of tests/store/power.py: whatever a cut leaves, the store keeps what it promises."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from builder.remotes.directory import DirectoryRemote
from store import artifacts, collect, files, graph, pull, push, remote, roots
from store.action import Action
from store.check import Kind, check
from store.digest import Digest
from store.push import Load
from store.store import Store
from tests.sharing.helpers import ANNA, fill, folder, get, statement
from tests.store import power
from tests.store.helpers import record, tree
from tests.store.power import Disk, Tree
from tests.store.test_crashes import ACTION, build, damage, is_done

SEED = 4


@pytest.fixture
def top() -> Iterator[Path]:
    """A disk: in memory where that can be had, for thousands of stores are made and removed on it."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        (place := Path(folder) / "disk").mkdir()
        yield place


def recorded(top: Path, work: Callable[[], object]) -> Disk:
    """What ``work`` did below ``top``, where everything was on the disk before."""
    with pytest.MonkeyPatch.context() as patch:
        disk = power.record(top, patch)
        work()
        disk.changed()
    return disk


def in_each(disk: Disk, states: Iterable[Tree], look: Callable[[int], None]) -> int:
    """Lay each state out at the place that was recorded, and ``look`` at it there. Gives how many there were."""
    aside = disk.top.with_name("recorded")
    os.rename(disk.top, aside)
    count = 0
    with files.directory(disk.top.parent) as parent:
        for count, state in enumerate(states, 1):
            power.laid(state, disk.top)
            look(count)
            files.remove_tree(disk.top.name, at=parent)
    os.rename(aside, disk.top)
    return count


def is_sound(top: Path) -> None:
    """The store is as it should be; and, since nothing was collected, all that is known is held."""
    if not (top / "store").exists():
        return
    store = Store(top / "store", durable=False)
    assert damage(store) == []
    for step in graph.steps(store):
        assert store.holds(store.read_manifest(step.output))
    for path in (store.root / "manifests").glob("*/*"):
        assert store.holds(store.read_manifest(Digest.parse(path.name)))


def test_a_build(top: Path) -> None:
    disk = recorded(top, lambda: build(top, durable=True))

    def look(number: int) -> None:
        is_sound(top)
        if os.path.lexists(top / "result"):
            is_done(top / "result")
        if number % 20 == 0:
            is_done(build(top))
            assert check(Store(top / "store")) == []

    def look_after(_: int) -> None:
        """It said done."""
        is_sound(top)
        is_done(top / "result")
        store = Store(top / "store")
        assert store.read_result(ACTION.digest) is not None
        assert [root.alive for root in roots.listed(store)] == [True]

    assert in_each(disk, disk.states(SEED, 500), look) > 300
    assert in_each(disk, disk.last(SEED, 50), look_after)


def test_a_store_that_does_not_wait_is_found_out(top: Path) -> None:
    """The model is no use if it finds nothing: without syncs, there are all kinds of damage."""
    Store(top / "store")
    disk = recorded(top, lambda: build(top, durable=False))
    kinds: set[object] = set()

    def look(_: int) -> None:
        kinds.update(finding.kind for finding in check(Store(top / "store")))

    wanted = {
        Kind.CORRUPT_BLOB,
        Kind.CORRUPT_MANIFEST,
        Kind.CORRUPT_RESULT,
        Kind.CHANGED_TREE,
        Kind.MISSING_BLOB,
        Kind.BAD_ROOT,
    }
    in_each(disk, takewhile(lambda _: not kinds >= wanted, disk.states(SEED, 50)), look)
    assert kinds >= wanted


def test_a_result_link_that_is_replaced(top: Path) -> None:
    store = Store(top / "store")
    with store.batch() as batch:
        one, two = tree(batch, {"bin/a": b"1"}), tree(batch, {"bin/a": b"2"})
        batch.add_manifest(one)
        batch.add_manifest(two)
    places = [artifacts.check_out(store, one, name="x", version=str(n)) for n, one in enumerate((one, two))]
    roots.add_link(store, top / "result", one.digest, places[0])
    disk = recorded(top, lambda: roots.add_link(store, top / "result", two.digest, places[1]))
    seen = set()

    def look(_: int) -> None:
        is_sound(top)
        # Always one of the two, and always a root.
        seen.add((top / "result/bin/a").read_bytes())
        assert [(root.alive, root.artifact) for root in roots.listed(store)] in ([(True, one.digest)], [(True, two.digest)])

    in_each(disk, disk.states(SEED, 50), look)
    assert seen == {b"1", b"2"}
    seen.clear()
    in_each(disk, disk.last(SEED, 50), look)
    assert seen == {b"2"}


CONTENT: dict[str, bytes | str | None] = {
    **{f"share/{n}": b"%d" % n * 3000 for n in range(12)},
    "bin/a": b"1",
    "share/a": b"1",
}


@pytest.mark.parametrize("save", [7000, 1 << 27], ids=["names in between", "names at the end"])
def test_a_pull(top: Path, tmp_path: Path, save: int) -> None:
    here = Store(tmp_path / "here", durable=False)
    shelf = DirectoryRemote("shelf", tmp_path / "shelf")
    manifest = fill(here, CONTENT)
    push.push(here, shelf, Load([(folder(manifest), manifest.digest)]))
    before = pull.SAVE
    pull.SAVE = save
    try:
        disk = recorded(top, lambda: get(Store(top / "store"), shelf, manifest))
    finally:
        pull.SAVE = before

    def look(number: int) -> None:
        is_sound(top)
        if number % 20 == 0:
            store = Store(top / "store", durable=False)
            get(store, shelf, manifest)
            is_sound(top)

    assert in_each(disk, disk.states(SEED, 200), look) > 300

    def look_after(_: int) -> None:
        is_sound(top)
        assert Store(top / "store").read_manifest(manifest.digest) == manifest
        assert get(Store(top / "store", durable=False), shelf, manifest).blobs == 0

    assert in_each(disk, disk.last(SEED, 20), look_after)


def test_a_push_to_a_directory(top: Path, tmp_path: Path) -> None:
    """What a disk as a remote has after a cut is whole, whatever of it is there; and the next push mends the rest."""
    here = Store(tmp_path / "here", durable=False)
    shelf = DirectoryRemote("shelf", top / "shelf")
    manifest = fill(here, CONTENT)
    signed = ANNA.sign(statement(manifest.digest, size=manifest.size))
    load = Load([(folder(manifest), manifest.digest)], results=[signed], pointers=[signed])
    disk = recorded(top, lambda: push.push(here, shelf, load))
    there = tmp_path / "there"

    def have(number: int) -> None:
        store = Store(there / str(number), durable=False)
        get(store, shelf, manifest)
        assert store.holds(store.read_manifest(manifest.digest))

    def look(number: int) -> None:
        key = ANNA.public().id
        results = pull.results(shelf, signed.statement.result.action, [key])
        names = pull.named(shelf, "hello", "x86_64-linux", None, [key])
        if names:
            assert results
        if results or shelf.has([remote.waybill_key(manifest.digest.base32)])[0]:
            have(number)
        elif number % 10 == 0:
            push.push(here, shelf, load)
            have(number)

    assert in_each(disk, disk.states(SEED, 100), look) > 50

    def look_after(number: int) -> None:
        assert pull.named(shelf, "hello", "x86_64-linux", None, [ANNA.public().id])
        have(10**6 + number)

    assert in_each(disk, disk.last(SEED, 20), look_after)


def test_a_collection(top: Path) -> None:
    """One artifact goes, and one that shares a blob with it stays: whole, and nothing promises what is gone."""
    store = Store(top / "store")
    with store.batch() as batch:
        keep, drop = tree(batch, {"bin/a": b"1", "both": b"b"}), tree(batch, {"bin/a": b"2", "both": b"b", "own": b"o"})
        record(batch, Action("build", (), ("keep",)), "keep", keep)
        record(batch, Action("build", (), ("drop",)), "drop", drop)
    for one in (keep, drop):
        artifacts.check_out(store, one, name="x", version="1")
    roots.add_named(store, "keep", keep.digest)
    disk = recorded(top, lambda: collect.collect(Store(top / "store")))

    def look(number: int) -> None:
        store = Store(top / "store", durable=False)
        assert damage(store) == []
        assert store.holds(store.read_manifest(keep.digest))
        if number % 20 == 0:
            collect.collect(store)
            assert check(store) == []
            assert [folder.base32 for folder in artifacts.folders(store)] == [keep.digest.base32]

    assert in_each(disk, disk.states(SEED, 200), look) > 50
