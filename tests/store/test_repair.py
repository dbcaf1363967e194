"""Repairing: what is damaged is restored from what has the bytes, nothing is deleted, and what is lost is said to be."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from store import artifacts, index, roots
from store.check import Kind, check
from store.repair import Repaired, other_store, repair
from store.store import NoStore
from tests.store.helpers import World, file_of, start, status
from tests.store.test_check import blob, inside, overwrite
from tests.store.test_crashes import DONE, KILLED, break_at, damage, die, interrupt, refuse


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "store")
    roots.add_link(world.store, tmp_path / "result", world.artifact.digest, world.path)
    return world


def lost(world: World) -> list[Path]:
    return [path for path in (world.store.root / "lost+found").glob("*/**/*") if path.is_file()]


def is_whole(world: World) -> None:
    assert check(world.store) == []
    assert (world.store.root.parent / "result/bin/hello").read_bytes() == b"launcher of program"
    assert world.store.holds(world.artifact)


def own_copy(path: Path) -> None:
    """The same file, with an inode of its own: as where a file system has no room for another link."""
    data, mode = path.read_bytes(), path.stat().st_mode
    path.unlink()
    path.write_bytes(data)
    os.chmod(path, mode)


def test_a_good_store_is_left_alone(world: World) -> None:
    assert repair(world.store) == Repaired((), ())
    assert not (world.store.root / "lost+found").exists()


def test_a_blob_from_a_checked_out_copy(world: World) -> None:
    inside(world.path / "share/LICENCE", own_copy)
    overwrite(blob(world, b"share/LICENCE"), b"D")
    blob(world, b"bin/hello").unlink()  # the tree still has a link to it
    done = repair(world.store)
    assert done.left == ()
    is_whole(world)
    assert [path.read_bytes() for path in lost(world)] == [b"Do as you like"]


def test_a_blob_with_its_trees_from_another_store(world: World, tmp_path: Path) -> None:
    overwrite(blob(world, b"share/LICENCE"), b"D")
    assert (world.path / "share/LICENCE").read_bytes() == b"Do as you like"
    other = World(tmp_path / "other")
    # It is damaged there too: what is given is not believed.
    overwrite(blob(other, b"share/LICENCE"), b"d0")
    left = repair(world.store, [other_store(other.store.root)]).left
    assert {finding.kind for finding in left} >= {Kind.MISSING_BLOB}
    assert not world.path.exists()
    third = World(tmp_path / "third")
    assert repair(world.store, [other_store(other.store.root), other_store(third.store.root)]).left == ()
    is_whole(world)
    assert (world.path / "share/LICENCE").read_bytes() == b"do as you like"
    assert os.path.samefile(world.path / "share/LICENCE", blob(world, b"share/LICENCE"))
    with pytest.raises(NoStore):
        other_store(tmp_path)


def test_what_nobody_has_is_said_to_be_lost(world: World) -> None:
    overwrite(blob(world, b"bin/hello"), b"L")
    for _ in range(2):
        left = repair(world.store).left
        assert Kind.MISSING_BLOB in {finding.kind for finding in left}
    assert any(path.read_bytes() == b"Launcher of program" for path in lost(world))
    # The next build makes it: nothing says that it is there.
    assert not artifacts.is_there(world.path)
    with world.store.batch() as batch:
        batch.add_bytes(b"launcher of program", executable=True)
    artifacts.check_out(world.store, world.artifact, name="hello", version="2.10")
    is_whole(world)


def replaced(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"do as I like!!")
    os.chmod(path, 0o444)


@pytest.mark.parametrize(
    "change",
    [
        lambda world: inside(world.path / "share/LICENCE", replaced),
        lambda world: inside(world.path / "share/added", lambda path: path.write_bytes(b"")),
        lambda world: inside(world.path / "bin/openssl", os.unlink),
        lambda world: inside(world.path / "lib/libssl.so", lambda path: (path.unlink(), path.symlink_to("/lib/x"))),
        lambda world: os.chmod(world.path / "bin", 0o755),
        lambda world: world.path.rename(world.path.with_name("elsewhere")),
        lambda world: (world.path.rename(world.path.with_name("elsewhere")), world.path.symlink_to("elsewhere")),
        lambda world: os.chmod(blob(world, b"share/LICENCE"), 0o600),
        lambda world: os.chmod(world.store.manifest_path(world.artifact.digest), 0o666),
        lambda world: world.store.manifest_path(world.artifact.digest).unlink(),
        lambda world: overwrite(world.store.manifest_path(world.artifact.digest), b"\0"),
        lambda world: world.store.manifest_path(world.root.digest).unlink(),
        lambda world: overwrite(world.store.result_path(world.pack.digest), b"\0"),
        lambda world: (world.store.root / "blobs/README").write_text("x"),
        lambda world: (world.store.root / "README").write_text("x"),
        lambda world: (
            (world.store.root / "manifests/00").mkdir(exist_ok=True)
            or (world.store.root / "manifests/00" / ("0" * 64)).symlink_to("/etc/passwd")
        ),
        lambda world: (
            (world.store.root / "results/ab").mkdir(exist_ok=True) or (world.store.root / "results/ab" / ("ab" * 32)).mkdir()
        ),
    ],
)
def test_what_is_found_is_repaired(world: World, change: Callable[[World], object]) -> None:
    change(world)
    assert damage(world.store)
    assert repair(world.store).left == ()
    is_whole(world)


def test_a_bad_root_stays(world: World) -> None:
    (file,) = (world.store.root / "roots").iterdir()
    file.write_bytes(b"x")
    (left,) = repair(world.store).left
    assert (left.kind, left.path) == (Kind.BAD_ROOT, file)
    assert file.exists()


def test_rows_of_the_index_that_are_wrong(world: World) -> None:
    def verified() -> list[str]:
        with index.opened_as_it_is(world.store) as opened:
            return opened.verify()

    assert verified() == []
    assert verified() == []
    place = world.store.root / "index.sqlite"
    for sql in (
        "INSERT INTO entries SELECT 999, path, name, blob, kind FROM entries LIMIT 1",
        "DELETE FROM entries WHERE path = CAST('bin/hello' AS BLOB)",
        "UPDATE results SET label = 'other' WHERE kind = 'pack'",
        "UPDATE artifacts SET version = '3'",
        "UPDATE blobs SET size = size + 1 WHERE artifacts = 1",
        "UPDATE blobs SET holder = holder + 1 WHERE artifacts = 1",
        "UPDATE entries SET kind = 0 WHERE kind = 1",
    ):
        with sqlite3.connect(place) as connection:
            connection.execute(sql)
        connection.close()
        assert verified(), sql
        assert verified() == []
    # What has merely not been taken up is no damage.
    shutil.rmtree(
        world.path, onerror=lambda call, path, _: (os.chmod(os.path.dirname(path), 0o755), os.chmod(path, 0o755), call(path))
    )
    assert verified() == []
    place.write_bytes(b"no database" * 1000)
    assert verified()
    assert verified() == []


@pytest.mark.parametrize("how", [die, refuse, interrupt])
def test_a_repair_broken_at_every_call(tmp_path: Path, how: Callable[[], None]) -> None:
    for number in range(1, 2000):
        world = World(tmp_path / str(number) / "store", durable=True)
        roots.add_link(world.store, tmp_path / str(number) / "result", world.artifact.digest, world.path)
        inside(world.path / "share/LICENCE", own_copy)
        overwrite(blob(world, b"share/LICENCE"), b"D")
        inside(world.path / "bin/openssl", os.unlink)
        world.store.manifest_path(world.output.digest).unlink()
        (world.store.root / "blobs/README").write_text("x")

        def work(number: int = number, world: World = world) -> None:
            came_to_it = break_at(number, how)
            try:
                repair(world.store)
            except BaseException:
                os._exit(KILLED)
            os._exit(KILLED if came_to_it() else DONE)

        outcome = status(start(work))
        world.store.sweep()
        done = repair(world.store)
        assert done.left == (), number
        assert damage(world.store) == []
        is_whole(world)
        assert file_of(world.artifact, b"share/LICENCE").size == 14
        if outcome == DONE:
            assert number > 20
            return
    pytest.fail("it never came to its end")
