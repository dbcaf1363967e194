"""Artifacts' folders, and the roots that keep them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import artifacts, collect, roots
from store.artifacts import BadName, Folder, Foreign
from store.check import check
from store.digest import Digest
from store.errors import Error
from store.roots import BadRootName, InTheWay, NoRoot
from store.store import MissingBlob, Store
from tests.store.helpers import NOBODY, World, file_of, ordinary_folder, start, status

DIGEST = Digest.of(b"x")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")


def test_what_is_in_artifacts(world: World) -> None:
    assert world.path.parent == world.store.root / "artifacts"
    assert world.path.name == f"{world.artifact.digest.base32}-hello-2.10"
    for folder, _, names in os.walk(world.path):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o555
        assert all(os.lstat(os.path.join(folder, name)).st_mode & 0o222 == 0 for name in names if name != "libssl.so")
    assert check(world.store) == []
    before = os.stat(world.path)
    assert artifacts.check_out(world.store, world.artifact, name="hello", version="2.10") == world.path
    assert os.stat(world.path) == before


def test_nothing_is_seen_of_an_artifact_whose_blobs_are_missing(world: World) -> None:
    os.unlink(world.store.blob_path(file_of(world.artifact, b"share/LICENCE").blob, executable=False))
    with pytest.raises(MissingBlob):
        artifacts.check_out(world.store, world.artifact, name="other", version="1")
    assert os.listdir(world.path.parent) == [world.path.name]
    assert os.listdir(world.store.root / "tmp") == []


def test_what_is_in_the_way(world: World) -> None:
    place = artifacts.path_of(world.store, world.artifact.digest, name="x", version="1")
    place.write_text("a file")
    with pytest.raises(Foreign):
        artifacts.check_out(world.store, world.artifact, name="x", version="1")
    place.unlink()
    place.symlink_to(world.path)
    with pytest.raises(Foreign):
        artifacts.check_out(world.store, world.artifact, name="x", version="1")
    assert place.is_symlink()


def test_removed_all_at_once(world: World) -> None:
    folder = Folder.parse(world.path.name)
    assert folder is not None
    artifacts.remove(world.store, folder)
    artifacts.remove(world.store, folder)
    assert os.listdir(world.path.parent) == os.listdir(world.store.root / "tmp") == []


def test_as_an_ordinary_user(tmp_path: Path) -> None:
    # Who owns a directory may still not move it when it is read-only; root may, so root sees nothing of that.
    def work(folder: Path) -> None:
        world = World(folder / "store")
        assert stat.S_IMODE(world.path.stat().st_mode) == 0o555
        roots.add_link(world.store, folder / "result", world.artifact.digest, world.path)
        collect.collect(world.store)
        assert (folder / "result/bin/hello").read_bytes() == b"launcher of program"
        os.unlink(folder / "result")
        collect.collect(world.store)
        assert not world.path.exists()
        assert check(world.store) == []

    with ordinary_folder(tmp_path) as folder:
        assert status(start(lambda: work(folder), user=NOBODY)) == 0


# -- names --

_good = st.from_regex(r"[a-z0-9][a-z0-9+._-]{0,20}", fullmatch=True)
_version = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9+.~_-]{0,20}", fullmatch=True)


@given(_good, _version)
def test_a_folder_name_has_its_parts(name: str, version: str) -> None:
    folder = Folder.of(DIGEST, name, version)
    assert Folder.parse(str(folder)) == folder
    assert (folder.base32, folder.name, folder.version) == (DIGEST.base32, name, version.replace("-", "_"))


@pytest.mark.parametrize("name", ["", "A", "a/b", "a\n", "../x", "é", "x" * 101, ".x", "a\0"])
def test_names_that_no_folder_has(name: str) -> None:
    with pytest.raises(BadName):
        Folder.of(DIGEST, name, "1")
    with pytest.raises(BadName):
        Folder.of(DIGEST, "x", name.lower() + "/")


@given(st.text(max_size=60))
def test_any_folder(text: str) -> None:
    folder = Folder.parse(text)
    assert folder is None or str(folder) == text


# -- roots --


def test_a_result_link(world: World, tmp_path: Path) -> None:
    link = tmp_path / "result"
    roots.add_link(world.store, link, world.artifact.digest, world.path)
    assert os.readlink(link) == str(world.path)
    (root,) = roots.listed(world.store)
    assert (root.name, root.kind, root.artifact, root.alive) == (str(link), "link", world.artifact.digest, True)
    record = os.stat(world.store.root / "roots" / root.file)
    roots.add_link(world.store, link, world.artifact.digest, world.path)
    assert os.stat(world.store.root / "roots" / root.file) == record

    # To another artifact.
    other = artifacts.check_out(world.store, world.output, name="raw", version="1")
    roots.add_link(world.store, link, world.output.digest, other)
    (root,) = roots.listed(world.store)
    assert (root.artifact, root.alive, os.readlink(link)) == (world.output.digest, True, str(other))
    assert sorted(os.listdir(tmp_path)) == ["result", "store"]

    # By hand, to the first again.
    link.unlink()
    link.symlink_to(world.path)
    assert roots.listed(world.store)[0].artifact == world.artifact.digest

    link.rename(tmp_path / "moved")
    assert not roots.listed(world.store)[0].alive
    (finding,) = check(world.store)
    assert finding.harmless


def test_what_a_result_link_does_not_replace(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "folder", "link", "dangling", ".", "store/.."):
        with pytest.raises(InTheWay) as caught:
            roots.add_link(world.store, tmp_path / name, world.artifact.digest, world.path)
        assert "-o" in caught.value.hint
    assert roots.listed(world.store) == []
    assert (tmp_path / "file").read_text() == "mine"
    assert os.readlink(tmp_path / "link") == "file"
    with pytest.raises(Error, match="No such file"):
        roots.add_link(world.store, tmp_path / "missing/result", world.artifact.digest, world.path)


def test_odd_link_names(world: World, tmp_path: Path) -> None:
    for name in ("a b", "new\nline", os.fsdecode(b"\xff"), "x" * 255):
        roots.add_link(world.store, tmp_path / name, world.artifact.digest, world.path)
        roots.add_link(world.store, tmp_path / name, world.output.digest, world.path)
        roots.remove(world.store, str(tmp_path / name))
        assert os.listdir(tmp_path) == ["store"]
    assert roots.listed(world.store) == []


def test_two_ways_to_one_link_are_one_root(world: World, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    for folder in ("real", "alias", "real/../alias"):
        roots.add_link(world.store, tmp_path / folder / "result", world.artifact.digest, world.path)
    (root,) = roots.listed(world.store)
    assert root.name == str(tmp_path / "real/result")


def test_named_roots(world: World) -> None:
    roots.add_named(world.store, "keep", world.output.digest)
    roots.add_named(world.store, "keep", world.artifact.digest)
    (root,) = roots.listed(world.store)
    assert (root.name, root.kind, root.artifact, root.alive) == ("keep", "name", world.artifact.digest, True)
    roots.remove(world.store, "keep")
    assert roots.listed(world.store) == []
    for name in ("keep", "/no/such/link", ""):
        with pytest.raises(NoRoot):
            roots.remove(world.store, name)
    for name in ("", "a/b", "..", "-x", "x\n"):
        with pytest.raises(BadRootName):
            roots.add_named(world.store, name, DIGEST)


def test_removing_a_root_leaves_what_is_not_our_link(world: World, tmp_path: Path) -> None:
    link = tmp_path / "result"
    roots.add_link(world.store, link, world.artifact.digest, world.path)
    link.unlink()
    link.write_text("mine")
    roots.remove(world.store, str(link))
    assert link.read_text() == "mine"


def test_a_link_into_another_store_keeps_nothing_here(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    link = tmp_path / "result"
    roots.add_link(world.store, link, world.artifact.digest, world.path)
    link.unlink()
    link.symlink_to(other.path)
    assert not roots.listed(world.store)[0].alive


def test_a_link_that_cannot_be_looked_at_counts(tmp_path: Path) -> None:
    def work(folder: Path) -> None:
        world = World(folder / "store")
        (folder / "home").mkdir()
        roots.add_link(world.store, folder / "home/result", world.artifact.digest, world.path)
        os.chmod(folder / "home", 0)
        assert roots.listed(world.store)[0].alive
        os.chmod(folder / "home", 0o755)

    with ordinary_folder(tmp_path) as folder:
        assert status(start(lambda: work(folder), user=NOBODY)) == 0


def test_a_store_by_another_name(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    (tmp_path / "alias").symlink_to("store")
    alias = Store(tmp_path / "alias", durable=False)
    place = artifacts.check_out(alias, world.artifact, name="hello", version="2.10")
    roots.add_link(alias, tmp_path / "result", world.artifact.digest, place)
    assert roots.listed(world.store)[0].alive
