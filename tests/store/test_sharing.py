"""Several processes and threads on one store."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import artifacts, collect, files
from store.action import Action
from store.check import check
from store.collect import InUse
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


def test_a_collection_keeps_out_of_the_way_of_builds(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    waits: list[int] = []
    with store.in_use(), store.in_use():
        with store.batch() as batch:
            manifest = tree(batch, {"a": b"1"})
            batch.add_manifest(manifest)
        with pytest.raises(InUse) as caught:
            collect.collect(store, patience=0.2, waiting=lambda: waits.append(1))
        assert caught.value.hint
        assert waits == [1]
        assert store.holds(manifest)
    assert collect.collect(store, patience=0).blobs == 1


def test_a_build_waits_for_a_collection(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    told = threading.Event()
    entered = threading.Event()

    def builder() -> None:
        with store.in_use(waiting=told.set):
            entered.set()

    fd = os.open(store.root / "locks/gc", os.O_RDWR | os.O_CREAT, 0o644)
    assert files.try_lock(fd)
    thread = threading.Thread(target=builder)
    thread.start()
    assert told.wait(30)
    assert not entered.is_set()
    os.close(fd)
    assert entered.wait(30)
    thread.join(30)
