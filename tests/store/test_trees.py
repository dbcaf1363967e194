"""Trees on disk: out and in again, odd names, odd files, link limits, and users who may do little."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import files
from store.errors import Error
from store.manifest import DIRECTORY, File, Manifest, Symlink
from store.store import MissingBlob, Store
from store.trees import NotATree
from tests.store.helpers import NOBODY, check_out, file_of, ordinary_folder, start, status, take_in, tree
from tests.store.test_formats import names

ODD = {
    "new\nline": b"1",
    " spaces ": b"2",
    "-rf": b"3",
    os.fsdecode(b"caf\xe9\xff"): b"4",
    "日本": b"5",
    "x" * 255: b"6",
    "deep/" * 60 + "file": b"7",
    "empty": None,
    "empty file": b"",
    "bin/tool": b"8",
    "outside": "../../../../etc/passwd",
    "absolute": "/nowhere/at all",
    "loop": "loop",
    "to/empty": "../empty",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", durable=False)


@pytest.mark.parametrize("copy", [False, True], ids=["links", "copies"])
@pytest.mark.parametrize("move", [False, True], ids=["copied in", "moved in"])
def test_out_and_in_again(store: Store, tmp_path: Path, copy: bool, move: bool) -> None:
    with store.batch() as batch:
        manifest = tree(batch, ODD)
    check_out(store, manifest, tmp_path / "out", copy=copy)
    assert take_in(store, tmp_path / "out", move=move) == manifest
    other = Store(tmp_path / "other", durable=False)
    check_out(store, manifest, tmp_path / "again", copy=True)
    assert take_in(other, tmp_path / "again", move=move) == manifest
    for _, node in manifest.files:
        assert other.read_blob(node.blob) == store.read_blob(node.blob)


contents = st.dictionaries(names, st.binary(max_size=30) | st.none(), max_size=6)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents, st.data())
def test_any_names(tmp_path: Path, content: dict[bytes, bytes | None], data: st.DataObject) -> None:
    store = Store(tmp_path / "store", durable=False)
    with store.workspace() as folder:
        with files.directory(folder) as fd:
            for name, value in content.items():
                if value is None:
                    os.mkdir(name, dir_fd=fd)
                else:
                    one = os.open(name, os.O_WRONLY | os.O_CREAT, data.draw(st.sampled_from([0o600, 0o755])), dir_fd=fd)
                    files.write_all(one, value)
                    os.close(one)
        manifest = take_in(store, folder, move=data.draw(st.booleans()))
    assert set(manifest.nodes) == set(content)
    with store.workspace() as folder:
        check_out(store, manifest, folder / "x")
        for name, value in content.items():
            path = os.fsencode(folder / "x") + b"/" + name
            if value is not None:
                with open(path, "rb") as file:
                    assert file.read() == value
        assert take_in(store, folder / "x") == manifest


def test_what_is_checked_out(store: Store, tmp_path: Path) -> None:
    with store.batch() as batch:
        manifest = tree(batch, {"bin/tool": b"same", "share/text": b"same", "link": "bin/tool"})
    check_out(store, manifest, tmp_path / "out")
    check_out(store, manifest, tmp_path / "copy", copy=True)
    tool, text = os.stat(tmp_path / "out/bin/tool"), os.stat(tmp_path / "out/share/text")
    # The same bytes with another mode are another inode.
    assert stat.S_IMODE(tool.st_mode) == 0o555
    assert stat.S_IMODE(text.st_mode) == 0o444
    assert os.path.samestat(tool, os.stat(store.blob_path(file_of(manifest, b"bin/tool").blob, executable=True)))
    assert os.path.samestat(text, os.stat(store.blob_path(file_of(manifest, b"share/text").blob, executable=False)))
    assert tool.st_mtime == text.st_mtime == os.stat(tmp_path / "out/bin").st_mtime == files.EPOCH
    copied = os.stat(tmp_path / "copy/bin/tool")
    assert stat.S_IMODE(copied.st_mode) == 0o755
    assert copied.st_nlink == 1


def test_a_tree_is_not_laid_over_another(store: Store, tmp_path: Path) -> None:
    with store.batch() as batch:
        manifest = tree(batch, {"a": b"1"})
    check_out(store, manifest, tmp_path / "out")
    with files.directory(tmp_path / "out") as fd, pytest.raises(FileExistsError):
        from store import trees

        trees.check_out(store, manifest, fd)


def test_a_symlink_in_the_way_is_not_followed(store: Store, tmp_path: Path) -> None:
    from store import trees

    with store.batch() as batch:
        manifest = tree(batch, {"a/b": b"1"})
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "victim")
    with files.directory(tmp_path / "out") as fd, pytest.raises(FileExistsError):
        trees.check_out(store, manifest, fd)
    assert os.listdir(tmp_path / "victim") == []


def test_a_missing_blob(store: Store, tmp_path: Path) -> None:
    with store.batch() as batch:
        manifest = tree(batch, {"a": b"1", "b": b"2"})
    gone = file_of(manifest, b"b")
    assert store.holds(manifest)
    os.unlink(store.blob_path(gone.blob, executable=False))
    assert not store.holds(manifest)
    with pytest.raises(MissingBlob) as caught:
        check_out(store, manifest, tmp_path / "out")
    assert caught.value.digest == gone.blob
    # The same bytes under the other mode are not what is asked for.
    assert not store.holds(Manifest([(b"a", File(file_of(manifest, b"a").blob, 1, True))]))


def test_more_hard_links_than_an_inode_can_have(store: Store, tmp_path: Path) -> None:
    # ext4 allows 65,000. A file system without such a limit links on, and the outcome has to be the same.
    with store.batch() as batch:
        manifest = tree(batch, {"bin/one": b"popular"})
    node = file_of(manifest, b"bin/one")
    source = store.blob_path(node.blob, executable=True)
    (tmp_path / "links").mkdir()
    with files.directory(tmp_path / "links") as fd:
        for number in range(65_100):
            try:
                os.link(source, str(number), dst_dir_fd=fd)
            except OSError as error:
                assert files.explain(error, "x")
                break
    check_out(store, manifest, tmp_path / "out")
    made = os.stat(tmp_path / "out/bin/one")
    assert stat.S_IMODE(made.st_mode) == 0o555
    assert made.st_mtime == files.EPOCH
    assert (tmp_path / "out/bin/one").read_bytes() == b"popular"


def test_hard_links_and_modes_of_what_is_taken_in(store: Store, tmp_path: Path) -> None:
    # Two names of one inode, and a third file with equal bytes and another mode: blobs must not share an inode with the
    # source, nor with each other.
    for move in (False, True):
        place = tmp_path / f"in-{move}"
        place.mkdir()
        (place / "a").write_bytes(b"linked")
        os.link(place / "a", place / "b")
        os.link(place / "a", tmp_path / f"elsewhere-{move}")
        (place / "c").write_bytes(b"linked")
        os.chmod(place / "c", 0o700)
        manifest = take_in(store, place, move=move)
        assert file_of(manifest, b"a") == file_of(manifest, b"b")
        assert not file_of(manifest, b"a").executable
        assert file_of(manifest, b"c").executable
        digest = file_of(manifest, b"a").blob
        plain, executable = (store.blob_path(digest, executable=mode).stat() for mode in (False, True))
        assert plain.st_ino != executable.st_ino
        assert (stat.S_IMODE(plain.st_mode), stat.S_IMODE(executable.st_mode)) == (0o444, 0o555)
        outside = tmp_path / f"elsewhere-{move}"
        assert outside.stat().st_ino not in (plain.st_ino, executable.st_ino)
        outside.write_bytes(b"changed later")
        assert store.read_blob(digest) == b"linked"


def test_setuid_is_forgotten(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, move in enumerate((False, True)):
        (tmp_path / "in/su").write_bytes(b"mine %d" % number)
        os.chmod(tmp_path / "in/su", 0o6755)
        node = file_of(take_in(store, tmp_path / "in", move=move), b"su")
        assert node.executable
        assert stat.S_IMODE(store.blob_path(node.blob, executable=True).stat().st_mode) == 0o555
        (tmp_path / "in/su").unlink(missing_ok=True)


def test_what_no_manifest_holds(store: Store, tmp_path: Path) -> None:
    places = [tmp_path / kind for kind in ("fifo", "socket")]
    for place in places:
        (place / "inner").mkdir(parents=True)
    os.mkfifo(places[0] / "inner/x")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(places[1] / "inner/x"))
    for place in places:
        for move in (False, True):
            with pytest.raises(NotATree) as caught:
                take_in(store, place, move=move)
            assert caught.value.path == b"inner/x"
            assert caught.value.hint
    # Nothing of a batch that failed is left.
    assert os.listdir(store.root / "tmp") == []


def test_large_files_and_streams_have_one_digest(store: Store, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 6 + b"tail"
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(data)
    with store.batch() as batch:
        streamed = batch.add_stream(data[start : start + 70_000] for start in range(0, len(data), 70_000))
        whole = batch.add_bytes(data)
    for move in (False, True):
        assert file_of(take_in(store, tmp_path / "in", move=move), b"a") == streamed == whole
    assert store.read_blob(whole.blob) == data


def test_as_an_ordinary_user(tmp_path: Path) -> None:
    """All that a build may leave to annoy who takes its output in: directories and files that even their owner cannot read."""

    def work(folder: Path) -> None:
        store = Store(folder / "store", durable=False)
        out = folder / "out"
        (out / "closed/inner").mkdir(parents=True)
        (out / "closed/inner/file").write_bytes(b"inside")
        (out / "secret").write_bytes(b"secret")
        (out / "bin").mkdir()
        (out / "bin/tool").write_bytes(b"tool")
        os.chmod(out / "bin/tool", 0o111)
        os.chmod(out / "secret", 0o000)
        for closed in ("closed/inner", "closed", "bin"):
            os.chmod(out / closed, 0o000)
        # A tree that is not ours to take is left as it is.
        with pytest.raises(Error, match="bin: Permission denied"):
            take_in(store, out)
        assert stat.S_IMODE(os.stat(out / "closed").st_mode) == 0
        os.chmod(out / "bin", 0o755)
        with pytest.raises(Error, match="bin/tool: Permission denied"):
            take_in(store, out)
        manifest = take_in(store, out, move=True)
        assert store.read_blob(file_of(manifest, b"secret").blob) == b"secret"
        assert store.read_blob(file_of(manifest, b"closed/inner/file").blob) == b"inside"
        assert file_of(manifest, b"bin/tool").executable
        assert not file_of(manifest, b"secret").executable
        with store.workspace() as workspace:
            check_out(store, manifest, workspace / "x")
            os.chmod(workspace / "x/closed/inner", 0o000)
            os.chmod(workspace / "x/closed", 0o111)
        assert os.listdir(store.root / "tmp") == []

    with ordinary_folder(tmp_path) as folder:
        assert status(start(lambda: work(folder), user=NOBODY)) == 0


def test_links_and_directories_alone(store: Store, tmp_path: Path) -> None:
    manifest = Manifest([(b"a", DIRECTORY), (b"a/b", DIRECTORY), (b"a/l", Symlink(b"\xff\n"))])
    check_out(store, manifest, tmp_path / "out")
    assert os.readlink(os.fsencode(tmp_path / "out/a/l")) == b"\xff\n"
    assert take_in(store, tmp_path / "out", move=True) == manifest
    check_out(store, Manifest([]), tmp_path / "nothing")
    assert take_in(store, tmp_path / "nothing") == Manifest([])
