"""Folders and archives: what comes out of them is what went in, and the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import export, tarball
from builder.archives import read_tar
from builder.commands import export as export_command
from store import artifacts, files
from store.digest import Digest
from store.manifest import DIRECTORY, BadEntry, File, Manifest, Node, Symlink
from store.store import Damaged, Store
from tests.behaviour.test_users import as_nobody
from tests.conftest import Builder, environment
from tests.exports.conftest import Tools
from tests.store.helpers import start, status, take_in, tree
from tests.store.test_crashes import mount_small

# Of the archive of CONTENT, before it is compressed: published archives have to stay what they are.
GOLDEN = "ca6b0d252c3cf48239ac453acc6e1d5067d9973e166c7e5606ab41b8d4f1682a"

LONG = "/".join(["a-folder-with-a-long-name"] * 12)

CONTENT: dict[str, bytes | str | None] = {
    "bin/odd": b"#!/bin/sh\necho odd\n",
    "empty": b"",
    "nothing": None,
    "share/large": bytes(range(256)) * 20_000,
    "share/latin-\udce4": b"a name that is no UTF-8",
    "share/block": b"x" * 512,
    f"{LONG}/file": b"deep",
    f"{LONG}/link": "file",
    "share/" + "n" * 255: b"a long name",
    "share/" + "m" * 94: b"a name of 100 bytes",
    "share/" + "m" * 95: b"a name of 101 bytes",
    "to-deep": f"{LONG}/file",
    "bin/dangling": "nowhere",
}


@pytest.fixture
def odd(tmp_path: Path) -> tuple[Store, Manifest]:
    """A store with an artifact of unusual names."""
    store = Store(tmp_path / "store", durable=False)
    with store.batch() as batch:
        manifest = tree(batch, CONTENT)
        batch.add_manifest(manifest)
    artifacts.check_out(store, manifest, name="odd", version="1.0")
    return store, manifest


def job(odd: tuple[Store, Manifest], *, threads: int = 1) -> export.Export:
    return export.Export(*odd, "odd", "1.0", threads=threads)


def command(odd: tuple[Store, Manifest]) -> Builder:
    return Builder(odd[0].root, environment(odd[0].root))


def same(store: Store, place: Path, manifest: Manifest) -> None:
    """The folder has what the manifest says, and each file the one mode that exports have."""
    assert take_in(store, place).digest == manifest.digest
    for path in place.rglob("*"):
        mode = path.lstat().st_mode
        if not path.is_symlink():
            assert stat.S_IMODE(mode) == (0o755 if stat.S_ISDIR(mode) or b"/bin/" in os.fsencode(path) else 0o644)
            # busybox gives folders that hold others no time.
            assert path.is_dir() or path.stat().st_mtime == files.EPOCH


@pytest.mark.parametrize("unpacking", ["tar", "busybox"])
def test_an_archive_unpacks_to_the_artifact(odd: tuple[Store, Manifest], tools: Tools, unpacking: str) -> None:
    done = json.loads(command(odd)("export", "odd", "--json", "-o", tools.home.parent / f"{unpacking}.tar.zst").stdout)
    archive = Path(done["path"])
    assert done["format"] == "tar.zst"
    assert done["bytes"] == archive.stat().st_size
    assert done["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    tools.run("busybox", "mkdir", unpacking)
    if unpacking == "tar":
        tools.run("tar", "-C", "tar", "-xf", archive)
    else:
        tools.run("zstd", "-q", "-d", archive, "-o", "busybox.tar")
        tools.run("busybox", "tar", "-C", "busybox", "-xf", "busybox.tar")
    assert os.listdir(tools.home / unpacking) == ["odd-1.0"]
    same(odd[0], tools.home / unpacking / "odd-1.0", odd[1])


def test_an_archive_says_nothing_of_who_made_it(odd: tuple[Store, Manifest]) -> None:
    data = b"".join(tarball.stream(odd[1], job(odd).contents, top=b"odd-1.0"))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
    assert [os.fsencode(member.name) for member in members[1:]] == [b"odd-1.0/" + path for path in odd[1]]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", files.EPOCH)}
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_the_same_bytes_however_many_threads_there_are_and_wherever_the_store_is(
    odd: tuple[Store, Manifest], tmp_path: Path
) -> None:
    other = Store(tmp_path / "other", durable=False)
    with other.batch() as batch:
        assert tree(batch, CONTENT) == odd[1]
    for kind, ending in ("tar.zst", ".tar.zst"), ("oci", ".oci.tar"):
        # An image has to have some machine code.
        given_to = [job(with_program(it), threads=threads) for it, threads in ((odd, 1), ((other, odd[1]), 3))]
        first, second = (export.write(it, kind, tmp_path / f"{n}{ending}") for n, it in enumerate(given_to))
        assert first.sha256 == second.sha256
        assert first.sha256 is not None


def with_program(item: tuple[Store, Manifest]) -> tuple[Store, Manifest]:
    header = b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little") + bytes(44)
    with item[0].batch() as batch:
        node = batch.add_bytes(header, executable=True)
    return item[0], Manifest([*item[1].entries, (b"bin/odd2", node)])


def test_a_folder_is_a_copy_that_its_owner_may_change(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    done = command(odd)("export", "odd", "--format", "dir", "-o", "copy", cwd=tmp_path)
    assert done.stdout == f"{tmp_path / 'copy'}\n"
    same(odd[0], tmp_path / "copy", odd[1])
    (tmp_path / "copy" / "bin" / "odd").write_text("changed")
    assert next(iter(odd[0].read_blob(n.blob) for p, n in odd[1].files if p == b"bin/odd")) == CONTENT["bin/odd"]
    shutil.rmtree(tmp_path / "copy")


def test_a_program_runs_from_an_export(builder: Builder, programs: tuple[dict[str, str], ...], tmp_path: Path) -> None:
    builder("export", programs[0]["digest"], "--format", "dir", "-o", tmp_path / "moved")
    done = subprocess.run(
        [tmp_path / "moved" / "bin" / "jq", "-n", "1 + 1"], env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"


@pytest.mark.parametrize(("kind", "name"), [("dir", "x"), ("tar.zst", "x.tar.zst"), ("oci", "x.oci"), ("oci", "x.oci.tar")])
def test_nothing_is_replaced_and_nothing_is_left(odd: tuple[Store, Manifest], tmp_path: Path, kind: str, name: str) -> None:
    store, manifest = with_program(odd)
    path = tmp_path / "out" / name
    path.parent.mkdir()
    path.symlink_to("nowhere")
    with pytest.raises(export.InTheWay):
        export.write(job((store, manifest)), kind, path)
    assert os.listdir(path.parent) == [name]
    path.unlink()
    # A byte of the library that was flipped on the disk.
    blob = store.blob_path(next(node.blob for path, node in manifest.files if path == b"share/large"), executable=False)
    blob.chmod(0o644)
    with open(blob, "r+b") as file:
        file.seek(3_000_000)
        file.write(b"!")
    with pytest.raises(Damaged, match=blob.name):
        export.write(job((store, manifest)), kind, path)
    assert os.listdir(path.parent) == []


def test_a_name_that_says_no_format(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    builder = command(odd)
    for name in "odd-1.0", "odd.tar", "odd.zip":
        assert "does not say what format" in builder("export", "odd", "-o", tmp_path / name, status=1).stderr
    said = builder("export", "odd", "-o", tmp_path / "a.tar.zst", "--entrypoint", "odd", status=1).stderr
    assert "--entrypoint is of images and of one file" in said
    assert "--label is of images" in builder("export", "odd", "-o", tmp_path / "a.run", "--label", "a=b", status=1).stderr
    assert "is not KEY=VALUE" in builder("export", "odd", "-o", "a.oci", "--label", "x", status=2).stderr
    assert "No such file" in builder("export", "odd", "-o", tmp_path / "no" / "a.tar.zst", status=1).stderr
    said = builder("export", "odd", "-o", tmp_path / "a.run", "--all", status=1).stderr
    assert "nothing in the artifact is machine code" in said
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_the_command_knows_every_format() -> None:
    assert set(export_command.FORMATS) == set(export.FORMATS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_stopped_leaves_nothing(odd: tuple[Store, Manifest], tmp_path: Path, number: int) -> None:
    store, manifest = odd
    with store.batch() as batch:
        node = batch.add_bytes(os.urandom(30 << 20))
        larger = Manifest([*manifest.entries, (b"zzz", node)])
        batch.add_manifest(larger)
    artifacts.check_out(store, larger, name="larger", version="1")
    folder = tmp_path / "out"
    folder.mkdir()
    process = command(odd).start("export", "larger", "-o", folder / "a.tar.zst")
    while not any(folder.glob(".*/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 130
    assert os.listdir(folder) == []


def test_a_full_disk_is_told_and_left_as_it_was(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    store, manifest = with_program(odd)
    with store.batch() as batch:
        node = batch.add_bytes(os.urandom(5 << 20))
    larger = (store, Manifest([*manifest.entries, (b"zzz", node)]))
    (disk := tmp_path / "disk").mkdir()

    def work() -> None:
        mount_small(disk, 4 << 20)
        for kind, name in ("dir", "x"), ("tar.zst", "x.tar.zst"), ("oci", "x.oci"), ("oci", "x.oci.tar"):
            with pytest.raises(files.NoSpace):
                export.write(job(larger), kind, disk / name)
            assert os.listdir(disk) == []

    assert status(start(work)) == 0


def test_an_ordinary_user_exports_the_same_bytes(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="builder-exports-", dir="/var/tmp"))
    try:
        shutil.copytree(odd[0].root, place / "store", symlinks=True)
        for kind, name in ("tar.zst", "x.tar.zst"), ("dir", "x"):
            mine = export.write(job(odd), kind, tmp_path / name)
            done = as_nobody(place, ["export", "odd", "--format", kind, "-o", str(place / name), "--json"])
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["sha256"] == mine.sha256
        # What the user's umask forbids others is of the file, and not of what is exported.
        assert (place / "x.tar.zst").stat().st_mode & 0o777 == 0o640
        same(odd[0], place / "x", odd[1])
    finally:
        with files.directory(place.parent) as fd:
            files.remove_tree(place.name, at=fd)


# -- the writer --

names = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
contents = (
    st.binary(max_size=2000) | st.none() | st.binary(min_size=1, max_size=300).filter(lambda t: b"\0" not in t).map(Symlink)
)


class Memory:
    """Blobs in memory."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}

    def add_bytes(self, data: bytes, *, executable: bool = False) -> File:
        self.blobs[Digest.of(data)] = data
        return File(Digest.of(data), len(data), executable)

    def add_stream(self, chunks: object, *, executable: bool = False, limit: int = 0) -> File:
        raise AssertionError("a small file")


@given(st.dictionaries(paths, st.tuples(contents, st.booleans()), max_size=20))
def test_any_tree_is_read_back_as_it_was(content: dict[bytes, tuple[bytes | Symlink | None, bool]]) -> None:
    memory = Memory()
    entries: dict[bytes, Node] = {}
    for path, (value, executable) in content.items():
        node: Node = memory.add_bytes(value, executable=executable) if isinstance(value, bytes) else value or DIRECTORY
        try:
            entries = dict(Manifest.with_parents([*entries.items(), (path, node)]).entries)
        except BadEntry:
            continue  # below a file
    made = Manifest(entries.items())
    # In a folder, for a first name may begin as compressed data does.
    pieces = list(tarball.stream(made, lambda file: [memory.blobs[file.blob]], top=b"top"))
    for data in b"".join(pieces), b"".join(tarball.gzip(pieces)):
        assert read_tar(io.BytesIO(data), memory, "a test", strip=1) == made
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        there = {os.fsencode(member.name) for member in archive.getmembers()}
        assert there == {b"top"} | {b"top/" + path for path in made}


def test_a_file_of_more_than_8_gib_has_a_header() -> None:
    for size in 8**11 - 1, 8**11, 1 << 40:
        header = tarball._block(b"large", b"0", 0o644, size, b"")
        assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == size


def test_compressed_pieces_do_not_depend_on_how_they_were_cut() -> None:
    data = os.urandom(1 << 20) * 40  # more than one of zstd's jobs, and than one member of gzip
    for compress in (lambda pieces: tarball.zstd(pieces, threads=2)), tarball.gzip:
        whole = b"".join(compress([data]))
        assert b"".join(compress(data[n : n + 70_001] for n in range(0, len(data), 70_001))) == whole
