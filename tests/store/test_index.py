"""The index as a cache, and what is asked of it."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from store import artifacts, collect, index, roots
from store.action import Action
from store.check import check
from store.digest import Digest
from store.files import NoSpace
from store.index import Index
from store.manifest import MAX_SIZE, File, Manifest, Symlink, follow
from store.origins import NotHeld, holders, origins
from store.resolve import Ambiguous, NoArtifact, resolve
from store.result import MAX_TIME
from store.store import Store
from tests.store.helpers import World, file_of, record, start, status, tree
from tests.store.test_crashes import mount_small


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


def content(store: Store) -> list[tuple[object, ...]]:
    """All that an index holds, without the numbers that it gives things itself."""
    with sqlite3.connect(store.root / "index.sqlite") as db:
        blobs = "blobs JOIN trees ON trees.id = holder WHERE artifacts = 1"
        entries = "trees LEFT JOIN entries ON trees.id = tree LEFT JOIN blobs ON blobs.id = blob"
        queries = (
            "SELECT action, kind, label, output, started FROM results ORDER BY action",
            "SELECT action, position, label, tree FROM inputs ORDER BY action, position",
            "SELECT folder, name, version, digest FROM artifacts ORDER BY folder",
            f"SELECT trees.digest, files, path, name, kind, blobs.digest, executable FROM {entries} ORDER BY 1, path",
            "SELECT digest, artifact, size, alone FROM trees ORDER BY digest",
            f"SELECT blobs.digest, executable, trees.digest FROM {blobs} ORDER BY blobs.digest, executable",
            "SELECT digest, executable, size, artifacts FROM blobs ORDER BY digest, executable",
        )
        return [tuple(db.execute(query).fetchall()) for query in queries]


def test_it_is_brought_up_to_date(world: World) -> None:
    store = world.store
    with index.opened(store) as opened:
        assert [(item.name, item.version, item.path, item.started) for item in opened.artifacts()] == [
            ("hello", "2.10", world.path, 8)
        ]
        assert opened.artifacts()[0].files == len(list(world.artifact.files))
        assert opened.artifacts()[0].size == world.artifact.size
    first = content(store)
    with store.batch() as batch:
        other = tree(batch, {"bin/other": b"other"})
        record(batch, Action("pack", (("output", world.output.digest),), ("other",)), "other 1", other, started=9)
        # A result that is replaced: the same action gave another tree.
        record(batch, world.build, "hello 2.10", other, started=10)
    artifacts.check_out(store, other, name="other", version="1")
    with index.opened(store) as opened:
        assert [item.name for item in opened.artifacts()] == ["other", "hello"]
        assert opened.graph().makers(other.digest)[0].action == world.build.digest
        assert opened.graph().makers(world.output.digest) == []
    updated = content(store)
    with index.opened(store) as opened:
        opened.rebuild()
    assert content(store) == updated != first
    roots.add_named(store, "keep", other.digest)
    collect.collect(store)
    with index.opened(store) as opened:
        assert [item.name for item in opened.artifacts()] == ["other"]
    collected = content(store)
    os.unlink(store.root / "index.sqlite")
    with index.opened(store):
        pass
    assert content(store) == collected


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


def holes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def older(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 0")
        db.execute("DROP TABLE results")


def tables_gone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE entries")


@pytest.mark.parametrize("harm", [cut_off, garbage, holes, older, tables_gone, os.unlink])
def test_it_makes_itself_again(world: World, harm: object) -> None:
    with index.opened(world.store):
        pass
    good = content(world.store)
    assert callable(harm)
    harm(world.store.root / "index.sqlite")
    with index.opened(world.store) as opened:
        assert [item.name for item in opened.artifacts()] == ["hello"]
        assert opened.with_name(b"LICENCE")
        assert opened.graph().makers(world.artifact.digest)
    assert content(world.store) == good


def test_harm_while_it_is_open(world: World) -> None:
    with index.opened(world.store) as opened:
        holes(world.store.root / "index.sqlite")
        opened.close()
        assert [item.name for item in opened.artifacts()] == ["hello"]


def test_many_readers_and_writers(world: World) -> None:
    def work(number: int) -> None:
        for turn in range(5):
            with world.store.batch() as batch:
                made = tree(batch, {"bin/x": b"%d %d" % (number, turn)})
                record(batch, Action("build", (), (number, turn)), "x", made)
            artifacts.check_out(world.store, made, name=f"x{number}", version=str(turn))
            with index.opened(world.store) as opened:
                assert made.digest in {item.digest for item in opened.artifacts()}

    children = [start(lambda number=number: work(number)) for number in range(4)]  # type: ignore[misc]
    assert [status(child) for child in children] == [0] * 4
    with index.opened(world.store) as opened:
        assert len(opened.artifacts()) == 21


def test_a_killed_update(world: World) -> None:
    for number in range(8):
        child = start(lambda: [Index(world.store).rebuild() for _ in range(1000)])
        time.sleep(0.02 * number)
        os.kill(child, 9)
        assert status(child) == -9
        with index.opened(world.store) as opened:
            assert [item.name for item in opened.artifacts()] == ["hello"]
            assert opened.with_name(b"LICENCE")


def test_no_room_for_it(tmp_path: Path) -> None:
    def work() -> None:
        mount_small(tmp_path, 600_000)
        world = World(tmp_path / "store")
        with world.store.batch() as batch:
            big = tree(batch, {f"{'x' * 100}/{number}": b"" for number in range(3000)})
            record(batch, Action("import", (), ("big",)), "big 1", big)
        with pytest.raises(NoSpace), index.opened(world.store):
            pass

    assert status(start(work)) == 0


def test_damaged_records_are_left_out(world: World) -> None:
    path = world.store.result_path(world.pack.digest)
    os.chmod(path, 0o644)
    path.write_bytes(b"damaged")
    manifest = world.store.manifest_path(world.libc.digest)
    os.chmod(manifest, 0o644)
    manifest.write_bytes(b"damaged")
    with index.opened(world.store) as opened:
        assert [item.name for item in opened.artifacts()] == ["hello"]


# -- origins --


def test_where_each_file_came_from(world: World) -> None:
    with index.opened(world.store) as opened:
        found = {origin.path: origin for origin in origins(opened, world.artifact.digest)}
    assert {path: (origin.how, origin.source) for path, origin in found.items()} == {
        b".launch/hello/ld.so": ("imported", "libc6 2.36"),
        b".launch/hello/lib/libssl.so.3": ("imported", "libssl3 3.0"),
        b"bin/hello": ("built", "hello 2.10"),
        b"bin/openssl": ("changed", "libssl3 3.0"),
        b"share/LICENCE": ("imported", "hello.tar.gz"),
        b"share/empty": ("imported", "libc6 2.36"),
    }
    steps = [(link.kind, link.label, link.path) for link in found[b".launch/hello/lib/libssl.so.3"].chain]
    assert steps == [
        ("pack", "hello 2.10", b".launch/hello/lib/libssl.so.3"),
        ("merge", "hello 2.10", b"usr/lib/libssl.so.3"),
        ("root", "toolchain 12", b"usr/lib/libssl.so.3"),
        ("import", "libssl3 3.0", b"usr/lib/libssl.so.3"),
    ]
    assert [link.kind for link in found[b"bin/hello"].chain] == ["pack", "build"]
    assert [link.kind for link in found[b"bin/openssl"].chain] == ["pack", "build", "merge", "root", "import"]


def test_a_file_that_was_changed_on_its_way(world: World) -> None:
    """Packing edits libraries in place: name and size tell which file it was. Of other bytes nothing can be said."""
    with world.store.batch() as batch:
        package = tree(batch, {"lib/libz.so": b"/usr/lib", "lib/long.so": b"longer", "lib/empty": b""})
        record(batch, Action("import", (), ("z",)), "zlib1g 1.2", package)
        made = tree(batch, {"deep/libz.so": b"/\x7f\x7f\x7f/\x7f\x7f\x7f", "deep/long.so": b"long", "deep/empty": b""})
        record(batch, Action("pack", (("input root", package.digest),), ("pack",)), "it 1", made)
    artifacts.check_out(world.store, made, name="it", version="1")
    with index.opened(world.store) as opened:
        found = {origin.path: (origin.how, origin.source) for origin in origins(opened, made.digest)}
    assert found == {
        b"deep/libz.so": ("changed", "zlib1g 1.2"),
        b"deep/long.so": ("built", "it 1"),
        b"deep/empty": ("imported", "zlib1g 1.2"),
    }


def test_origins_outlive_a_collection(world: World) -> None:
    with index.opened(world.store) as opened:
        before = origins(opened, world.artifact.digest)
    roots.add_named(world.store, "keep", world.artifact.digest)
    collect.collect(world.store)
    with index.opened(world.store) as opened:
        assert origins(opened, world.artifact.digest) == before


def test_an_empty_file_says_nothing(world: World) -> None:
    with world.store.batch() as batch:
        made = tree(batch, {"share/nothing": b""})
        record(batch, Action("build", (("input root", world.input_root.digest),), ("touch",)), "nothing 1", made)
    artifacts.check_out(world.store, made, name="nothing", version="1")
    with index.opened(world.store) as opened:
        (origin,) = origins(opened, made.digest)
    assert (origin.how, origin.source) == ("built", "nothing 1")


def test_who_holds_what(world: World) -> None:
    ssl = file_of(world.ssl, b"usr/lib/libssl.so.3").blob
    with index.opened(world.store) as opened:
        for what in (
            "libssl.so.3",
            "libssl",
            "libssl.so",
            "lib/libssl.so",
            "/.launch/hello/lib/libssl.so.3",
            str(ssl),
            ssl.hex,
        ):
            (origin,) = holders(opened, world.artifact.digest, what)
            assert (origin.path, origin.source) == (b".launch/hello/lib/libssl.so.3", "libssl3 3.0")
        for what in ("libcrypto", "", "/", "lib", "..", "\0", "b3:", str(Digest.of(b"?"))):
            with pytest.raises(NotHeld):
                holders(opened, world.artifact.digest, what)
        assert {holder.tree for holder in opened.sources_with(ssl)} == {world.ssl.digest}
        assert {holder.path for holder in opened.with_name(b"LICENCE")} == {b"share/LICENCE"}


def test_a_tree_without_a_past(world: World) -> None:
    with world.store.batch() as batch:
        pulled = tree(batch, {"bin/x": b"from somewhere"})
        batch.add_manifest(pulled)
    artifacts.check_out(world.store, pulled, name="pulled", version="1")
    with index.opened(world.store) as opened:
        (origin,) = origins(opened, pulled.digest)
    assert (origin.how, origin.source) == ("imported", "unknown")


def test_steps_in_a_circle(world: World) -> None:
    # No builder makes such results, but a store may be given any.
    with world.store.batch() as batch:
        one, two = (tree(batch, {"a": b"1", "b": data}) for data in (b"x", b"y"))
        record(batch, Action("build", (("x", one.digest),), ()), "x", two)
        record(batch, Action("build", (("y", two.digest),), ()), "y", one)
    with index.opened(world.store) as opened:
        assert [origin.path for origin in origins(opened, one.digest)] == [b"a", b"b"]
    roots.add_named(world.store, "x", one.digest)
    collect.collect(world.store)
    assert world.store.holds(one)


def test_symlinks_are_followed_inside_a_tree(world: World) -> None:
    node = file_of(world.libc, b"usr/lib/ld.so")
    links = {b"a": b"b", b"b": b"c/../d/e", b"loop": b"loop", b"out": b"../x", b"abs": b"/d/e", b"dir": b"d", b"c/up": b"../d"}
    manifest = Manifest.with_parents([(b"d/e", node), *((path, Symlink(target)) for path, target in links.items())])
    assert follow(manifest, b"a") == follow(manifest, b"dir/e") == follow(manifest, b"c/up/e") == b"d/e"
    assert [follow(manifest, path) for path in (b"loop", b"out", b"abs", b"dir", b"missing", b"d/e/f")] == [None] * 6


# -- what a person says --


def test_ways_to_mean_an_artifact(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, digest = world.store, world.artifact.digest
    link = tmp_path / "result"
    roots.add_link(store, link, digest, world.path)
    (tmp_path / "chain").symlink_to("result")
    monkeypatch.chdir(tmp_path)
    specs = ["result", "./result", "chain", str(link), str(world.path), f"{world.path}/", world.path.name]
    for spec in [*specs, str(digest), f"b3:{digest.short}", f"b3:{digest.hex[:4]}", "hello", "hello-2.10"]:
        named = resolve(store, spec)
        assert (named.digest, named.path) == (digest, world.path), spec
    (tmp_path / "hello").mkdir()  # a folder of the same name, as when one builds beside sources
    assert resolve(store, "hello").digest == digest
    for spec in (
        "",
        "hell",
        "b3:",
        f"b3:{digest.hex[:3]}",
        "b3:zzzz",
        "..",
        "/",
        "result/bin",
        "a\0b",
        "x" * 5000,
        str(Digest.of(b"?")),
    ):
        with pytest.raises(NoArtifact):
            resolve(store, spec)


def test_the_newest_of_a_name(world: World) -> None:
    with world.store.batch() as batch:
        newer = tree(batch, {"bin/hello": b"newer"})
        record(batch, Action("pack", (), ("newer",)), "hello 2.9", newer, started=100)
    artifacts.check_out(world.store, newer, name="hello", version="2.9")
    assert resolve(world.store, "hello").digest == newer.digest
    assert resolve(world.store, "hello-2.10").digest == world.artifact.digest


def test_digits_that_two_artifacts_share(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", durable=False)
    seen: dict[str, Manifest] = {}
    for number in range(100_000):
        manifest = Manifest([(b"a", Symlink(b"%d" % number))])
        other = seen.setdefault(manifest.digest.hex[:4], manifest)
        if other is not manifest:
            break
    with store.batch() as batch:
        for version, made in enumerate((manifest, other)):
            batch.add_manifest(made)
            batch.commit()
            artifacts.check_out(store, made, name="x", version=str(version))
    with pytest.raises(Ambiguous) as caught:
        resolve(store, f"b3:{manifest.digest.hex[:4]}")
    assert manifest.digest.short in caught.value.message
    assert resolve(store, str(manifest.digest)).digest == manifest.digest


# -- clocks, and numbers that somebody else wrote --


@pytest.mark.parametrize("started", [0, -1, 1 << 40, MAX_TIME, -MAX_TIME])
def test_clocks_do_not_matter(world: World, started: int) -> None:
    """A result from a machine whose clock is wrong is a result like any other."""
    with world.store.batch() as batch:
        record(batch, world.pack, "hello 2.10", world.artifact, started=started)
        record(batch, world.check, "hello 2.10", world.artifact, started=started)
    assert world.store.read_result(world.pack.digest) is not None
    with index.opened(world.store) as opened:
        (artifact,) = opened.artifacts()
        assert artifact.started == started
        assert opened.with_name(b"libssl.so.3")
    assert resolve(world.store, "hello").digest == world.artifact.digest
    roots.add_named(world.store, "keep", world.artifact.digest)
    collect.collect(world.store)
    assert check(world.store) == []
    assert world.store.read_result(world.pack.digest) is not None


def test_times_and_sizes_that_nothing_has(world: World) -> None:
    huge = Manifest([(b"%d" % number, File(Digest.of(b"%d" % number), MAX_SIZE, False)) for number in range(9)])
    with world.store.batch() as batch:
        record(batch, Action("import", (), ("huge",)), "huge", huge)
        record(batch, Action("import", (), ("late",)), "late", world.libc, started=(1 << 64) - 1)
    with index.opened(world.store) as opened:
        assert opened.is_source(huge.digest)
        assert opened.sizes()
        assert opened.artifacts()
    assert world.store.read_result(Action("import", (), ("late",)).digest) is None


def test_many_ask_while_others_write_and_make_it_again(world: World) -> None:
    """Nobody is ever told of a lock, a missing table or a damaged file."""

    def work(number: int) -> None:
        for turn in range(25):
            if number < 2:
                with world.store.batch() as batch:
                    label = f"{number}-{turn}"
                    output = tree(batch, {"bin/x": label.encode()})
                    record(batch, Action("pack", (), (label,)), label, output)
                artifacts.check_out(world.store, output, name="x", version=f"{number}.{turn}")
            elif number == 2 and turn % 5 == 0:
                with index.opened(world.store) as opened:
                    opened.rebuild()
            else:
                with index.opened(world.store) as opened:
                    assert opened.graph()
                    assert any(artifact.name == "hello" for artifact in opened.artifacts())
                    assert opened.with_name(b"libssl.so.3")

    children = [start(lambda number=number: work(number)) for number in range(8)]  # type: ignore[misc]
    assert [status(child) for child in children] == [0] * 8
    with index.opened(world.store) as opened:
        assert len(opened.artifacts()) == 51
