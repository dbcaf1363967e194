"""Every kind of damage is found, named and placed; collections keep what they should."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from store import artifacts, collect, roots
from store.action import Action
from store.check import Finding, Kind, check
from store.errors import Error
from store.manifest import Manifest
from store.store import Damaged, MissingManifest, Store
from tests.store.helpers import World, file_of, record, tree


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


def blob(world: World, path: bytes) -> Path:
    node = file_of(world.artifact, path)
    return world.store.blob_path(node.blob, executable=node.executable)


def overwrite(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(data)
    os.chmod(path, mode)


def inside(path: Path, change: Callable[[Path], object]) -> None:
    """Change something in a read-only directory of a checked-out tree."""
    os.chmod(path.parent, 0o755)
    change(path)
    os.chmod(path.parent, 0o555)


def only(findings: list[Finding], kind: Kind, path: Path) -> Finding:
    assert [(finding.kind, finding.path) for finding in findings] == [(kind, path)]
    return findings[0]


def test_a_good_store(world: World) -> None:
    reports: list[tuple[int, int]] = []
    assert check(world.store, lambda done, total: reports.append((done, total))) == []
    total = sum(path.stat().st_size for path in (world.store.root / "blobs").glob("*/*"))
    assert reports[0] == (0, total)
    assert reports[-1] == (total, total)
    assert reports == sorted(reports)


def test_an_empty_store(tmp_path: Path) -> None:
    assert check(Store(tmp_path / "store")) == []


def test_a_corrupt_blob(world: World) -> None:
    path = blob(world, b"share/LICENCE")
    overwrite(path, b"D")
    finding = only(check(world.store), Kind.CORRUPT_BLOB, path)
    assert path.name[:12] in finding.detail
    with pytest.raises(Damaged):
        world.store.read_blob(file_of(world.artifact, b"share/LICENCE").blob)


def test_a_blob_cut_off(world: World) -> None:
    path = blob(world, b"bin/hello")
    os.truncate(path, 3)
    only(check(world.store), Kind.CORRUPT_BLOB, path)


def test_a_missing_blob(world: World) -> None:
    path = blob(world, b"bin/hello")
    path.unlink()
    finding = only(check(world.store), Kind.MISSING_BLOB, path)
    assert "bin/hello" in finding.detail


def test_a_blob_that_only_an_input_had(world: World) -> None:
    # A tree that is known and not held is in order.
    world.store.blob_path(file_of(world.source, b"hello/main.c").blob, executable=False).unlink()
    assert check(world.store) == []
    roots.add_named(world.store, "source", world.source.digest)
    assert [finding.kind for finding in check(world.store)] == [Kind.MISSING_BLOB]


def test_wrong_modes(world: World) -> None:
    path = blob(world, b"bin/hello")
    os.chmod(path, 0o755)
    only(check(world.store), Kind.WRONG_MODE, path)
    os.chmod(path, 0o555)
    manifest = world.store.manifest_path(world.artifact.digest)
    os.chmod(manifest, 0o600)
    only(check(world.store), Kind.WRONG_MODE, manifest)


def test_a_corrupt_manifest(world: World) -> None:
    path = world.store.manifest_path(world.root.digest)
    overwrite(path, b"\x00")
    only(check(world.store), Kind.CORRUPT_MANIFEST, path)
    # With the right digest, and no manifest all the same.
    data = b"\x93\x01\xa8manifest\xc0"
    from store.digest import Digest

    foreign = world.store.manifest_path(Digest.of(data))
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_bytes(data)
    os.chmod(foreign, 0o444)
    assert {finding.path for finding in check(world.store)} == {path, foreign}


def test_a_missing_manifest(world: World) -> None:
    world.store.manifest_path(world.root.digest).unlink()
    findings = check(world.store)
    assert [finding.kind for finding in findings] == [Kind.DANGLING_RESULT] * 2
    assert "toolchain 12" in findings[0].detail
    world.store.manifest_path(world.artifact.digest).unlink()
    roots.add_named(world.store, "keep", world.artifact.digest)
    assert {Kind.MISSING_MANIFEST, Kind.DANGLING_RESULT} == {finding.kind for finding in check(world.store)}
    with pytest.raises(MissingManifest):
        collect.collect(world.store)
    assert world.path.exists()


def test_a_corrupt_result(world: World) -> None:
    path = world.store.result_path(world.pack.digest)
    overwrite(path, b"\x00")
    only(check(world.store), Kind.CORRUPT_RESULT, path)
    assert world.store.read_result(world.pack.digest) is None


def test_a_result_under_another_name(world: World) -> None:
    path = world.store.result_path(world.pack.digest)
    path.unlink()
    shutil.copy(world.store.result_path(world.build.digest), path)
    only(check(world.store), Kind.CORRUPT_RESULT, path)
    assert world.store.read_result(world.pack.digest) is None


def test_changed_trees(world: World) -> None:
    place = world.path

    def replaced(path: Path) -> None:
        path.unlink()
        path.write_bytes(b"do as I like!!")
        os.chmod(path, 0o444)

    inside(place / "share/LICENCE", replaced)
    inside(place / "share/added", lambda path: path.write_bytes(b""))
    inside(place / "bin/openssl", os.unlink)
    inside(place / "lib/libssl.so", lambda path: (path.unlink(), path.symlink_to("/lib/libssl.so")))
    found = {finding.path: finding.detail for finding in check(world.store)}
    assert found == {
        place / "share/LICENCE": "its content was changed",
        place / "share/added": "it was added",
        place / "bin/openssl": "it is missing",
        place / "lib/libssl.so": "it leads to /lib/libssl.so instead of ../.launch/hello/lib/libssl.so.3",
    }


def test_changed_kinds_and_modes(world: World) -> None:
    place = world.path

    def copied(path: Path) -> None:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        os.chmod(path, 0o444)

    inside(place / "share/LICENCE", copied)
    assert check(world.store) == []  # a copy is as good: a file system may have no room for another link
    os.chmod(place / "share/LICENCE", 0o644)
    inside(place / "bin/hello", lambda path: (path.unlink(), path.mkdir()))
    inside(place / "lib/libssl.so", lambda path: (path.unlink(), path.write_bytes(b"")))
    os.chmod(place / "bin", 0o755)
    found = {finding.path: finding.detail for finding in check(world.store)}
    assert found == {
        place / "share/LICENCE": "its mode is 0644 instead of 0444",
        place / "bin/hello": "it is not a file any more",
        place / "lib/libssl.so": "it is not a symlink any more",
        place / "bin": "a directory that can be written to",
    }


def test_an_artifact_that_is_a_symlink(world: World) -> None:
    world.path.rename(world.path.with_name("elsewhere"))
    world.path.symlink_to("elsewhere")
    assert {finding.kind for finding in check(world.store)} == {Kind.CHANGED_TREE, Kind.FOREIGN}


def test_what_is_not_ours(world: World) -> None:
    top = world.store.root
    (top / "blobs/README").write_text("x")
    (top / "blobs/00").mkdir(exist_ok=True)
    (top / "blobs/00/x").write_text("x")
    (top / "blobs/00" / ("f" * 64)).write_text("x")
    (top / "blobs/00" / ("0" * 64 + ".y")).write_text("x")
    (top / "tmp/file").write_text("x")
    (top / "artifacts/hello").mkdir()
    findings = check(world.store)
    assert {finding.kind for finding in findings} == {Kind.FOREIGN}
    assert len(findings) == 6


def test_a_damaged_root_stops_a_collection(world: World) -> None:
    roots.add_named(world.store, "keep", world.artifact.digest)
    (file,) = (world.store.root / "roots").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    only(check(world.store), Kind.BAD_ROOT, file)
    with pytest.raises(roots.BadRoot):
        collect.collect(world.store)
    assert world.path.exists()


# -- collections --


def names(store: Store, kind: str) -> set[str]:
    return {path.name for path in (store.root / kind).glob("*/*")}


def blobs_of(*manifests: Manifest) -> set[str]:
    return {
        node.blob.hex + (".x" if node.executable else "") for manifest in manifests for _, node in manifest.files
    }  # fmt: skip


def test_what_a_root_keeps(world: World, tmp_path: Path) -> None:
    store = world.store
    with store.batch() as batch:
        other = tree(batch, {"bin/other": b"other", "share/LICENCE": b"do as you like"})
        record(batch, Action("pack", (("output", world.output.digest),), ("other",)), "other 1", other)
    place = artifacts.check_out(store, other, name="other", version="1")
    for folder in ("downloads", "logs"):
        (store.root / folder / "x").write_bytes(b"12345")
    store.log_path(world.build.digest).write_bytes(b"log")
    (store.root / "tmp/kept-other").mkdir()
    roots.add_link(store, tmp_path / "result", world.artifact.digest, world.path)
    results, manifests = names(store, "results"), names(store, "manifests")

    would = collect.collect(store, dry_run=True)
    assert place.exists()
    assert (names(store, "results"), names(store, "manifests")) == (results, manifests)
    did = collect.collect(store)
    assert (did.artifacts, did.results, did.manifests, did.blobs, did.size) == (
        would.artifacts,
        would.results,
        would.manifests,
        would.blobs,
        would.size,
    )
    assert [str(folder) for folder in did.artifacts] == [place.name]
    assert (did.results, did.manifests) == (1, 1)
    assert names(store, "blobs") == blobs_of(world.artifact)
    assert len(names(store, "results")) == len(results) - 1
    assert not place.exists()
    assert os.listdir(store.root / "downloads") == os.listdir(store.root / "tmp") == []
    assert os.listdir(store.root / "logs") == [world.build.digest.hex]
    assert check(store) == []

    # A build finds all its keys, and no input's bytes.
    for action in (world.pack, world.build, world.check):
        assert store.read_result(action.digest) is not None
    assert store.holds(world.artifact)
    assert not store.holds(world.input_root)

    # What is missing is written again when it is added again, although its manifest never left.
    with store.batch() as batch:
        again = tree(batch, {"usr/lib/ld.so": b"loader", "usr/lib/libc.so.6": b"libc", "usr/share/empty": b""})
        batch.add_manifest(again)
    assert again == world.libc
    assert store.holds(world.libc)
    assert collect.collect(store).blobs == 1  # libc.so.6; the artifact has the others


def test_inputs_are_kept_on_request(world: World) -> None:
    roots.add_named(world.store, "keep", world.artifact.digest)
    collected = collect.collect(world.store, collect.Keep(inputs=True))
    assert collected.blobs == 0
    assert world.store.holds(world.input_root)
    assert collect.collect(world.store).blobs > 0


def test_after_the_last_root_is_gone_the_store_is_empty(world: World, tmp_path: Path) -> None:
    link = tmp_path / "result"
    roots.add_link(world.store, link, world.artifact.digest, world.path)
    from store import index

    with index.opened(world.store) as opened:
        assert opened.artifacts()
    roots.remove(world.store, str(link))
    assert not os.path.lexists(link)
    collected = collect.collect(world.store)
    assert [path for path in world.store.root.rglob("*") if not path.is_dir() and path.parent.name != "locks"] == []
    assert collected.blobs == len(blobs_of(world.input_root, world.output, world.artifact, world.libc, world.ssl))
    assert world.store.read_result(world.pack.digest) is None
    with index.opened(world.store) as opened:
        assert opened.artifacts() == []


def test_a_kept_folder_that_somebody_is_in(world: World) -> None:
    from store import files

    kept = world.store.root / "tmp/kept-hello"
    kept.mkdir()
    with files.directory(kept) as fd:
        assert files.try_lock(fd, shared=True)
        collect.collect(world.store)
        assert kept.exists()
    collect.collect(world.store)
    assert not kept.exists()


def test_a_damaged_artifact_stops_a_collection(world: World) -> None:
    roots.add_named(world.store, "keep", world.artifact.digest)
    overwrite(world.store.manifest_path(world.artifact.digest), b"\x00")
    with pytest.raises(Error):
        collect.collect(world.store)
    assert len(names(world.store, "blobs")) > 5


# -- keeping more, and removing less --


def packed(world: World, name: str, content: bytes, *, started: int) -> Path:
    with world.store.batch() as batch:
        manifest = tree(batch, {"share/own": content})
        record(batch, Action("pack", (("output", world.output.digest),), (name, started)), name, manifest, started=started)
    return artifacts.check_out(world.store, manifest, name=name, version=str(started))


def test_the_newest_and_the_young_are_kept(world: World) -> None:
    roots.add_named(world.store, "keep", world.artifact.digest)
    old, new = packed(world, "a", b"old", started=10), packed(world, "a", b"new", started=20)
    other = packed(world, "b", b"other", started=5)
    young = packed(world, "c", b"young", started=int(time.time()) - 60)
    (packed(world, "c", b"younger", started=int(time.time()))).exists()
    did = collect.collect(world.store, collect.Keep(newest=1, younger=3600))
    assert [str(folder) for folder in did.artifacts] == [old.name]
    assert all(place.exists() for place in (new, other, young, world.path))
    assert check(world.store) == []
    did = collect.collect(world.store, collect.Keep(younger=3600))
    assert {str(folder) for folder in did.artifacts} == {new.name, other.name}
    assert {str(folder)[33:34] for folder in collect.collect(world.store).artifacts} == {"c"}


def test_no_more_is_removed_than_asked_for(world: World) -> None:
    roots.add_named(world.store, "keep", world.artifact.digest)
    collect.collect(world.store)
    oldest = packed(world, "a", b"1" * 1000, started=10)
    middle = packed(world, "a", b"2" * 1000, started=20)
    newest = packed(world, "b", b"3" * 1000, started=30)
    download = world.store.root / "downloads/x"
    download.write_bytes(b"x" * 50)
    did = collect.collect(world.store, collect.Keep(free=0))
    assert (did.size, did.artifacts) == (0, ()) or did.blobs == 0
    assert download.exists()
    did = collect.collect(world.store, collect.Keep(free=40))
    assert (did.artifacts, download.exists()) == ((), False)
    would = collect.collect(world.store, collect.Keep(free=900), dry_run=True)
    assert oldest.exists()
    did = collect.collect(world.store, collect.Keep(free=900))
    assert would == did
    assert [str(folder) for folder in did.artifacts] == [oldest.name]
    assert check(world.store) == []

    def total() -> int:
        kinds = ("blobs", "manifests", "results")
        return sum(path.stat().st_size for kind in kinds for path in (world.store.root / kind).glob("*/*"))

    limit = total() - 500
    did = collect.collect(world.store, collect.Keep(max_size=limit))
    assert [str(folder) for folder in did.artifacts] == [middle.name]
    assert total() <= limit
    assert newest.exists()
    # Roots are stronger than any size.
    collect.collect(world.store, collect.Keep(max_size=0))
    assert not newest.exists()
    assert world.store.holds(world.artifact)
    assert check(world.store) == []
