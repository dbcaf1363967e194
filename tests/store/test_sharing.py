"""Several processes and threads on one store."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import artifacts, collect, files, roots
from store.action import Action
from store.check import check
from store.collect import InUse
from store.manifest import Manifest
from store.store import FOLDERS, NoStore, Store
from tests.store.helpers import kill, record, start, status, tree


class Gate:
    """Lets processes start at the same moment: each says that it is ready and then waits."""

    def __init__(self) -> None:
        self.ready, self.go = os.pipe(), os.pipe()

    def wait(self) -> None:
        os.write(self.ready[1], b"x")
        os.close(self.go[1])
        os.read(self.go[0], 1)

    def open(self, count: int) -> None:
        for _ in range(count):
            os.read(self.ready[0], 1)
        os.close(self.go[1])


def at_once(count: int, work: Callable[[int], object]) -> None:
    gate = Gate()

    def one(number: int) -> None:
        gate.wait()
        work(number)

    children = [start(lambda number=number: one(number)) for number in range(count)]  # type: ignore[misc]
    gate.open(count)
    assert [status(child) for child in children] == [0] * count


def test_eight_processes_make_a_store_and_add_the_same(tmp_path: Path) -> None:
    def work(number: int) -> None:
        store = Store(tmp_path / "new/store", durable=False)
        for turn in range(10):
            with store.batch() as batch:
                both = tree(batch, {f"bin/{name}": b"%d" % (name + turn) for name in range(30)})
                record(batch, Action("build", (), (turn,)), "same", both, started=number)
            place = artifacts.check_out(store, both, name="same", version="1")
            assert (place / "bin/7").read_bytes() == b"%d" % (7 + turn)

    at_once(8, work)
    store = Store(tmp_path / "new/store")
    assert check(store) == []
    assert len(artifacts.folders(store)) == 10
    assert os.listdir(store.root / "tmp") == []


def test_threads_share_a_batch(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    with store.batch() as batch, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: batch.add_bytes(b"%d" % (number % 50)), range(2000)))
        list(pool.map(lambda number: batch.add_stream([b"%d" % (number % 50), b"x"]), range(1000)))
        manifest = tree(batch, {str(number): b"%d" % number for number in range(50)})
        batch.add_manifest(manifest)
    assert store.holds(manifest)
    assert check(store) == []
    assert len(list((store.root / "blobs").glob("*/*"))) == 100


def test_a_store_in_a_place_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NoStore) as caught:
        Store(tmp_path / "file")
    assert "--store" in caught.value.hint


def test_a_batch_that_fails_adds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    with pytest.raises(ZeroDivisionError), store.batch() as batch:
        tree(batch, {"a": b"1"})
        raise ZeroDivisionError
    assert [path for path in store.root.rglob("*") if path.name not in FOLDERS] == []


def test_what_is_committed_half_way_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    with pytest.raises(ZeroDivisionError), store.batch() as batch:
        manifest = tree(batch, {"a": b"1"})
        batch.add_manifest(manifest)
        batch.commit()
        batch.add_bytes(b"2")
        raise ZeroDivisionError
    assert store.holds(manifest)
    assert check(store) == []


# -- sweeping --


def test_a_sweep_takes_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    ready = os.pipe()

    def work() -> None:
        with store.workspace() as folder:
            (folder / "inner").mkdir()
            (folder / "inner/file").write_bytes(b"1")
            os.chmod(folder / "inner", 0o555)
            os.write(ready[1], os.fsencode(folder.name))
            time.sleep(1000)

    dead, living = start(work), start(work)
    names = {os.read(ready[0], 16).decode() for _ in range(2)}
    assert set(os.listdir(store.root / "tmp")) == names
    (store.root / "tmp/kept-hello").mkdir()
    kill(dead)
    with store.workspace() as own:
        assert store.sweep() == 1
        assert own.exists()
        left = set(os.listdir(store.root / "tmp")) - {own.name, "kept-hello"}
        assert len(left) == 1
        assert left < names
    kill(living)
    assert store.sweep() == 1
    assert os.listdir(store.root / "tmp") == ["kept-hello"]


def test_sweeps_among_living_workspaces(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)

    def work(number: int) -> None:
        for turn in range(150):
            if number % 2:
                store.sweep()
            else:
                with store.workspace() as folder:
                    (folder / "a").write_bytes(b"%d" % turn)
                    assert (folder / "a").read_bytes() == b"%d" % turn

    at_once(6, work)
    assert os.listdir(store.root / "tmp") == []


# -- locks --


def test_one_of_two_does_the_work(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    action = Action("build", (), ("slow",))

    def work(number: int) -> None:
        with store.lock(f"action-{action.digest.hex}"):
            if store.read_result(action.digest) is None:
                with store.batch() as batch:
                    record(batch, action, "slow", tree(batch, {"who": b"%d" % number}))
                with open(tmp_path / "done", "a") as file:
                    file.write(f"{number}\n")

    at_once(6, work)
    assert len((tmp_path / "done").read_text().splitlines()) == 1


def test_a_lock_is_waited_for_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    told = threading.Event()
    order: list[str] = []

    def second() -> None:
        with store.lock("x", waiting=told.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.lock("x"):
        thread.start()
        assert told.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def added(store: Store, name: str, **content: bytes) -> Manifest:
    """A tree and the result of an action."""
    with store.batch() as batch:
        manifest = tree(batch, {**content})
        record(batch, Action("build", (), (name,)), name, manifest)
    return manifest


def test_a_collection_leaves_what_a_build_found_or_added(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    found, other = added(store, "found", a=b"1"), added(store, "other", b=b"2")
    with store.in_use():
        assert store.read_result(Action("build", (), ("found",)).digest)
        fresh = added(store, "fresh", c=b"3", both=b"2")
        assert collect.collect(store).blobs == 0
        assert store.holds(found)
        assert store.holds(fresh)
        assert store.read_result(Action("build", (), ("other",)).digest) is None
        place = artifacts.check_out(store, fresh, name="fresh", version="1")
        assert collect.collect(store).artifacts == ()
        assert (place / "c").read_bytes() == b"3"
        assert check(store) == []
    assert not store.manifest_path(other.digest).exists()
    assert collect.collect(store).blobs == 3
    assert [path for path in store.root.rglob("*") if path.is_file() and path.parent.name != "locks"] == []
    assert sorted(os.listdir(store.root / "locks")) == ["collect", "gc"]


def test_what_a_batch_found_is_there_when_it_ends(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    old = added(store, "old", a=b"1")
    with store.in_use(), store.batch() as batch:
        # The same bytes are found there; then they go.
        manifest = tree(batch, {"a": b"1"})
        batch.add_manifest(manifest)
        assert collect.collect(store).blobs == 1
        assert not store.holds(old)
    assert store.holds(manifest)
    assert check(store) == []


def stopped_at(call: str, count: int, work: Callable[[], object]) -> int:
    """A process that does ``work``, and is stopped before its call ``count`` of a function of os."""

    def stopping() -> None:
        real, left = getattr(os, call), count

        def wrapped(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGSTOP)
            return real(*args, **options)

        setattr(os, call, wrapped)
        work()

    child = start(stopping)
    _, state = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(state)
    return child


def go_on(child: int) -> None:
    os.kill(child, signal.SIGCONT)
    assert status(child) == 0


@pytest.mark.parametrize("call", ["listdir", "mkdir", "rmdir"])
def test_a_build_is_done_while_a_collection_stands_still(tmp_path: Path, call: str) -> None:
    for number in range(1, 30):
        store = Store(tmp_path / str(number) / "store", durable=False)
        old = added(store, "old", a=b"1", b=b"2")
        artifacts.check_out(store, old, name="old", version="1")
        try:
            collection = stopped_at(call, number, lambda store=store: collect.collect(store))  # type: ignore[misc]
        except AssertionError:
            assert number > 1
            break  # it has fewer such calls
        if not _in_a_moment(store):
            with store.in_use():
                if store.read_result(Action("build", (), ("old",)).digest) is None or not store.holds(old):
                    added(store, "old", a=b"1", b=b"2")
                place = artifacts.check_out(store, old, name="old", version="1")
                roots.add_link(store, tmp_path / str(number) / "result", old.digest, place)
        else:
            old = added(store, "old", a=b"1", b=b"2")
            place = None
        go_on(collection)
        if place is not None:
            assert (place / "a").read_bytes() == b"1"
            assert store.holds(old)
            assert check(store) == []
            collect.collect(store)
            assert (tmp_path / str(number) / "result/b").read_bytes() == b"2"


def _in_a_moment(store: Store) -> bool:
    fd = os.open(store.root / "locks/gc", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        return not files.try_lock(fd, shared=True)
    finally:
        os.close(fd)


def test_a_collection_is_done_while_a_build_stands_still(tmp_path: Path) -> None:
    for call in ("link", "rename", "symlink", "mkdir", "chmod"):
        for number in range(1, 30):
            store = Store(tmp_path / f"{call}{number}" / "store", durable=False)
            old = added(store, "old", a=b"1")

            def build(store: Store = store) -> None:
                with store.in_use():
                    assert store.read_result(Action("build", (), ("old",)).digest)
                    fresh = added(store, "fresh", a=b"1", b=b"2")
                    place = artifacts.check_out(store, fresh, name="fresh", version="1")
                    roots.add_link(store, store.root.parent / "result", fresh.digest, place)

            try:
                child = stopped_at(call, number, build)
            except AssertionError:
                assert number > 1
                break
            collect.collect(store)
            assert store.holds(old)
            go_on(child)
            assert (store.root.parent / "result/b").read_bytes() == b"2"
            collect.collect(store)
            assert (store.root.parent / "result/a").read_bytes() == b"1"
            assert check(store) == []


def test_many_builds_and_collections(tmp_path: Path) -> None:
    """All of them at once, on few things that are built, collected and built again; every link is whole at the end."""
    store = Store(tmp_path / "store", durable=False)

    def build(number: int, turn: int) -> None:
        name = f"t{(number + turn) % 3}"
        action = Action("build", (), (name,))
        with store.in_use():
            result = store.read_result(action.digest)
            if result is None or not store.holds(store.read_manifest(result.output)):
                content = {f"f{i}": b"%d" % i for i in range(10 * ((number + turn) % 3), 40)}
                added(store, name, **content)
                result = store.read_result(action.digest)
            assert result is not None
            manifest = store.read_manifest(result.output)
            place = artifacts.check_out(store, manifest, name=name, version="1")
            roots.add_link(store, tmp_path / f"result{number}", manifest.digest, place)
        assert {path.name for path in (tmp_path / f"result{number}").iterdir()} == {os.fsdecode(p) for p in manifest}
        assert (tmp_path / f"result{number}/f39").read_bytes() == b"39"
        if turn % 4 != 3:
            roots.remove(store, str(tmp_path / f"result{number}"))

    def work(number: int) -> None:
        for turn in range(40):
            if number < 2:
                collect.collect(store, patience=100)
            else:
                build(number, turn)

    at_once(6, work)
    assert check(store) == []
    collect.collect(store)
    assert check(store) == []
    for number in range(2, 6):
        assert (tmp_path / f"result{number}/f39").read_bytes() == b"39"
        roots.remove(store, str(tmp_path / f"result{number}"))
    collect.collect(store)
    assert [path for path in store.root.rglob("*") if path.is_file() and path.parent.name != "locks"] == []


def test_one_collection_waits_for_another_or_for_a_check(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    waits: list[int] = []
    with store.uncollected():
        with pytest.raises(InUse) as caught:
            collect.collect(store, patience=0.2, waiting=lambda: waits.append(1))
        with store.in_use():  # and no build does
            pass
    assert caught.value.hint
    assert waits == [1]
    collect.collect(store, patience=0)


def test_a_killed_build_leaves_a_lease_that_the_next_collection_takes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    ready = os.pipe()

    def work() -> None:
        with store.in_use():
            added(store, "x", a=b"1")
            os.write(ready[1], b"x")
            time.sleep(1000)

    child = start(work)
    os.read(ready[0], 1)
    assert collect.collect(store).blobs == 0
    kill(child)
    assert len(os.listdir(store.root / "locks")) == 3
    assert collect.collect(store).blobs == 1
    assert sorted(os.listdir(store.root / "locks")) == ["collect", "gc"]
