"""Exports read back: the artifact that was exported and nothing else, or a message and nothing at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from builder import export, onefile, onefile_read, readback, tarball
from builder.archives import BadArchive
from store import artifacts, codec, files
from store.digest import Digest
from store.manifest import File, Manifest
from store.store import Store
from tests.behaviour.test_users import as_nobody
from tests.conftest import Builder, environment
from tests.exports.test_archives import CONTENT, with_program
from tests.sources.helpers import folder, link, member, tar
from tests.store.helpers import start, status, tree
from tests.store.test_crashes import mount_small
from tests.test_docs import documented_json, shape

FILES = (("tar.zst", "x.tar.zst"), ("run", "x.run"), ("oci", "x.oci.tar"), ("oci", "x.oci"))


@pytest.fixture
def odd(tmp_path: Path) -> tuple[Store, Manifest]:
    """A store with an artifact of unusual names, whose own name and version have each a dash and digits."""
    store = Store(tmp_path / "store", durable=False)
    with store.batch() as batch:
        made = tree(batch, CONTENT)
    artifact = with_program((store, made))[1]
    with store.batch() as batch:
        batch.add_manifest(artifact)
    artifacts.check_out(store, artifact, name="odd-2", version="1.0-rc-3")
    return store, artifact


@pytest.fixture
def other(tmp_path: Path) -> Builder:
    """The command line with an empty store."""
    return Builder(tmp_path / "other", environment(tmp_path / "other"))


def exported(odd: tuple[Store, Manifest], name: str, kind: str = "tar.zst") -> Path:
    place = odd[0].root.parent / name
    named = artifacts.folders(odd[0])[0]
    export.write(export.Export(*odd, named.name, named.version, threads=1, entrypoint="odd2"), kind, place)
    return place


def kept(store: Path) -> list[str]:
    """What is in a store: blobs, manifests, artifacts, and whatever is left of work."""
    kinds = ("blobs", "manifests", "results", "signatures", "artifacts", "tmp")
    return [str(path) for kind in kinds for path in (store / kind).rglob("*") if kind in ("artifacts", "tmp") or path.is_file()]


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_what_comes_back_is_the_artifact_that_was_exported(
    odd: tuple[Store, Manifest], other: Builder, tmp_path: Path, kind: str, name: str
) -> None:
    path = exported(odd, name, kind)
    # Neither the name of the file nor where it lies says anything.
    path = path.rename(tmp_path / "renamed")
    done = json.loads(other("import", path, "--json", "-o", tmp_path / "result").stdout)
    shape(documented_json("build"), done, "build")
    (row,) = done["artifacts"]
    assert row["digest"] == str(odd[1].digest)
    assert [os.path.basename(row["path"])] == os.listdir(odd[0].root / "artifacts")
    assert (row["name"], row["version"]) == ("odd-2", "1.0_rc_3")
    assert os.path.realpath(tmp_path / "result") == row["path"]
    there = [path for path in kept(other.store) if "/blobs/" in path]
    assert len(there) == len({(node.blob, node.executable) for _, node in odd[1].files})
    # Twice is once; and what is in the store can be exported again, to the same bytes.
    assert other("import", path, "--no-link").stdout == f"{row['path']}\n"
    again = exported((Store(other.store), odd[1]), "again.tar.zst")
    assert again.read_bytes() == exported(odd, "y.tar.zst").read_bytes()
    assert other("check").stdout.startswith("0 damaged, 0 left over")
    assert "does not know what" in other("sbom", "odd-2", status=1).stderr
    assert other.store.joinpath("results").is_dir() and not list(other.store.glob("results/*/*"))
    (tmp_path / "result").unlink()
    other("gc")
    assert kept(other.store) == []


def test_another_compression_is_the_same_archive(odd: tuple[Store, Manifest], other: Builder) -> None:
    path = exported(odd, "x.tar.zst")
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    path.write_bytes(zstandard.ZstdCompressor(level=1).compress(plain))
    (row,) = json.loads(other("import", path, "--no-link", "--json").stdout)["artifacts"]
    assert row["digest"] == str(odd[1].digest)


def test_several_files_get_a_link_each(odd: tuple[Store, Manifest], other: Builder, tmp_path: Path) -> None:
    other("import", exported(odd, "x.tar.zst"), exported(odd, "x.oci.tar", "oci"), cwd=tmp_path)
    assert (tmp_path / "result-odd-2" / "bin" / "odd").is_file()


def test_anybody_installs_a_program_from_a_file(builder: Builder, programs: tuple[dict[str, str], ...]) -> None:
    """With an empty store and an empty home, each file of jq in turn; and at the end nothing is left of it."""
    place = Path(tempfile.mkdtemp(prefix="builder-readback-", dir="/var/tmp"))
    try:
        place.chmod(0o755)
        for name in "jq.tar.zst", "jq.run", "jq.oci.tar", "jq.oci":
            written = json.loads(builder("export", programs[0]["digest"], "-o", place / name, "--json").stdout)
            done = as_nobody(place, ["install", str(place / name)])
            assert done.returncode == 0, done.stderr
            assert done.stdout == "installed jq 1.7.1\n"
            said = subprocess.run([place / ".local/bin/jq", "-n", "1 + 1"], env={}, capture_output=True, text=True, check=True)
            assert said.stdout == "2\n"
            (row,) = json.loads(as_nobody(place, ["list", "--json"]).stdout)["packages"]
            assert (row["digest"], row["recipe"]) == (written["digest"], None)
            assert "was installed as an artifact" in as_nobody(place, ["upgrade", "jq"]).stderr
            assert as_nobody(place, ["uninstall", "jq"]).returncode == 0
            assert as_nobody(place, ["history", "--prune", "0"]).returncode == 0
            assert as_nobody(place, ["gc"]).returncode == 0
            assert kept(place / "store") == []
            assert not (place / ".local/bin").exists()
    finally:
        with files.directory(place.parent) as fd:
            files.remove_tree(place.name, at=fd)


def test_what_a_word_of_install_means(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    """A file that holds an export is that; any other does not hide an artifact of its name; a recipe is a recipe."""
    (tmp_path / "home").mkdir()
    user = Builder(odd[0].root, {**environment(odd[0].root), "HOME": str(tmp_path / "home"), "XDG_STATE_HOME": ""})
    (tmp_path / "odd-2").write_bytes(Path("/proc/self/exe").read_bytes())
    assert user("install", "odd-2").stdout == "installed odd-2 1.0_rc_3\n"
    assert "odd-2 is a file of another kind" in user("install", "./odd-2", status=1).stderr
    path = exported(odd, "x.tar.zst")
    path.rename(tmp_path / "odd-2")
    assert user("install", "odd-2").stdout == "nothing to do\n"
    path = (tmp_path / "odd-2").rename(tmp_path / "x.py")
    assert "x.py" in user("install", path, status=1).stderr
    (tmp_path / "folder").mkdir()
    assert "no artifact is called" in user("install", tmp_path / "folder", status=1).stderr
    assert "no artifact is called" in user("install", "no.tar.zst", status=1).stderr
    user("uninstall", "odd-2")


# -- what is refused --


def refused(store: Path, path: Path, message: str) -> None:
    """The file is refused with this, a hint, and nothing of it in the store."""
    command = Builder(store, environment(store))
    said = command("import", path, "--no-link", status=1).stderr
    assert message in said, said
    assert str(path) in said
    assert "\nhint: " in said
    assert kept(store) == []
    assert command("check").stdout.startswith("0 damaged, 0 left over")


TOP = tarball.beginning(b"x-1")


def packed(*members: Any) -> bytes:
    """An archive that begins as ours do."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(TOP + tar(*members))


def _sized(size: int) -> bytes:
    info = tarfile.TarInfo("x-1/a")
    info.size = size
    return zstandard.ZstdCompressor().compress(TOP + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


BAD_ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "an absolute name": (lambda: packed(member("/etc/passwd", b"x")), "an absolute name"),
    "a way out": (lambda: packed(member("x-1/../../y", b"x")), "leads out"),
    "a file twice": (lambda: packed(member("x-1/a", b"1"), member("x-1/./a", b"2")), "there twice"),
    "a file below a symlink": (lambda: packed(link("x-1/a", "/etc"), member("x-1/a/b", b"1")), "is not a directory"),
    "beside the folder": (lambda: packed(folder("x-1/a"), member("y", b"1")), "it is not in x-1"),
    "a device": (lambda: packed(member("x-1/null", kind=tarfile.CHRTYPE)), "it is a device"),
    "a pipe": (lambda: packed(member("x-1/p", kind=tarfile.FIFOTYPE)), "it is a named pipe"),
    "a link out": (lambda: packed(member("x-1/a", kind=tarfile.LNKTYPE, target="/etc/passwd")), "an absolute name"),
    "a gigantic file": (lambda: _sized(1 << 50), "are the most that is taken"),
    "a size that is not there": (lambda: _sized(1 << 30), "it is cut off"),
    "something behind it": (lambda: packed(member("x-1/a", b"1")) + b"more", "something else follows"),
    "a second name that is no name": (lambda: packed(member("x-1/" + "a/" * 200 + "b", b"")), "more than 128 components"),
}


@pytest.mark.parametrize("what", BAD_ARCHIVES)
def test_a_bad_archive_is_refused(tmp_path: Path, what: str) -> None:
    made, message = BAD_ARCHIVES[what]
    path = tmp_path / "x.tar.zst"
    path.write_bytes(made())
    refused(tmp_path / "store", path, message)


FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "a file of another kind"),
    "a text": (lambda: b"a text\n" * 1000, "a file of another kind"),
    "an ELF file": (lambda: Path("/proc/self/exe").read_bytes()[:5000], "a file of another kind"),
    "a text in zstd": (lambda: zstandard.ZstdCompressor().compress(b"text" * 1000), "a compressed file"),
    "a source archive": (
        lambda: zstandard.ZstdCompressor().compress(tar(folder("x-1"), member("x-1/configure", b"x"))),
        "a compressed file",
    ),
    "another folder": (
        lambda: zstandard.ZstdCompressor().compress(tarball.beginning(b"No Name") + bytes(1024)),
        "an archive of",
    ),
    "no version": (lambda: zstandard.ZstdCompressor().compress(tarball.beginning(b"name") + bytes(1024)), "an archive of name"),
    "a tar": (lambda: tar(folder("x-1"), member("x-1/a", b"x")), "an archive"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_export_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.tar.zst"
    path.write_bytes(FOREIGN[what][0]())
    refused(tmp_path / "store", path, f"{path} is {FOREIGN[what][1]}")


def test_a_folder_that_is_no_image_is_told(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    refused(tmp_path / "s", exported(odd, "x", "dir"), "is a folder")
    command = Builder(tmp_path / "s", environment(tmp_path / "s"))
    assert f"error: {tmp_path}/no.run: No such file" in command("import", tmp_path / "no.run", status=1).stderr


@pytest.mark.parametrize(("kind", "name"), FILES[:3])
def test_a_file_that_is_cut_or_damaged_anywhere_is_refused(
    odd: tuple[Store, Manifest], tmp_path: Path, kind: str, name: str
) -> None:
    path = exported(odd, name, kind)
    whole = path.read_bytes()
    taken = 0
    with open(path, "rb") as file:
        ours = onefile_read.find(file) or 0
    store = Store(tmp_path / "store-0", durable=False)
    for number in range(1, 30):
        at = len(whole) * number // 30
        for data in whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]:
            path.write_bytes(data)
            try:
                found = readback.bring(store, path)
            except (readback.NotAnExport, readback.OtherArtifact, BadArchive) as error:
                assert error.hint
                assert kept(store.root) == []
            else:
                # What an image is called in its index, for example, has no hash, and says nothing to us; no more than the
                # code that unpacks one file does.
                assert len(data) == len(whole)
                assert kind == "oci" or at < ours
                assert found.digest == odd[1].digest
                taken += 1
                store = Store(tmp_path / f"store-{taken}", durable=False)
    assert taken < 4 or kind == "run"


STARTED = ("folder", "name", "version", "digest", "programs", "main")
CONTENTS = ("frames", "order", "tree")


def altered(path: Path, **fields: object) -> None:
    """Change fields of the records of one file, which are made whole again."""
    with open(path, "rb") as file:
        at = onefile_read.find(file)
        assert at is not None
    data = path.read_bytes()
    magic, first, _, second, _ = onefile.HEADER.unpack_from(data, at)
    rest = at + onefile.HEADER.size
    made, header = b"", [magic]
    for word, size, names in (("run", first, STARTED), ("contents", second, CONTENTS)):
        record = dict(zip(names, codec.decode(word, data[rest : rest + size], len(names)), strict=True))
        changed = codec.encode(word, [fields.get(name, value) for name, value in record.items()])  # type: ignore[misc]
        made += changed
        header += [len(changed), Digest.of(changed).raw]
        rest += size
    path.write_bytes(data[:at] + onefile.HEADER.pack(*header) + made + data[rest:])


BOMB = zstandard.ZstdCompressor().compress(bytes(onefile.FRAME))
BAD_RUNS: dict[str, tuple[dict[str, object], str]] = {
    "a name that is a path": ({"name": "../x"}, "no artifact can be called"),
    "a name without end": ({"name": "x" * 1_000_000}, "no artifact can be called"),
    "no name": ({"name": None}, "its name, version or tree is none"),
    "another digest": ({"digest": bytes(32)}, "another digest than it says"),
    "a tree that is none": ({"tree": b"tree"}, "manifest"),
    "no contents": ({"order": [], "frames": []}, "are not those of its files"),
    "contents of nothing": ({"order": [-1]}, "contents of what is no file"),
    "a frame without end": ({"frames": [[1, 1 << 60, 0, bytes(32)]]}, "a frame of an unknown form"),
    "a frame without bytes": ({"frames": [[0, 1, 0, bytes(32)]]}, "a frame of an unknown form"),
    "a change that is none": ({"frames": [[1, 1, 9, bytes(32)]]}, "a frame of an unknown form"),
    "too few frames": ({"frames": [[1, 1, 0, bytes(32)]]}, "not as large as its frames"),
    "frames that are no list": ({"frames": 7}, "not as large as its frames"),
}


@pytest.mark.parametrize("what", BAD_RUNS)
def test_a_bad_file_of_the_kind_that_starts_is_refused(odd: tuple[Store, Manifest], tmp_path: Path, what: str) -> None:
    path = exported(odd, "x.run", "run")
    altered(path, **BAD_RUNS[what][0])
    command = Builder(tmp_path / "s", environment(tmp_path / "s"))
    said = command("import", path, "--no-link", status=1).stderr
    assert BAD_RUNS[what][1] in said
    assert len(said) < 2000
    assert kept(tmp_path / "s") == []


def test_one_file_that_unpacks_to_too_much(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    """Small frames of zeros: told from the record, before anything is unpacked."""
    path = exported(odd, "x.run", "run")
    count = 20
    zeros = File(Digest.of(b""), count * onefile.FRAME, False)
    tree = Manifest([(b"zeros", zeros)])
    row = [len(BOMB), onefile.FRAME, onefile.NONE, Digest.of(BOMB).raw]
    altered(path, tree=tree.encode(), digest=tree.digest.raw, order=[0], frames=[row] * count)
    with pytest.raises(BadArchive, match="1000 times its own size"):
        readback.bring(Store(tmp_path / "s", durable=False), path)
    # A frame that asks for other memory than the record says.
    tree = Manifest([(b"zeros", File(Digest.of(bytes(7)), 7, False))])
    altered(path, tree=tree.encode(), digest=tree.digest.raw, frames=[[len(BOMB), 7, onefile.NONE, Digest.of(BOMB).raw]])
    data = path.read_bytes()
    with open(path, "rb") as file:
        at = onefile_read.find(file)
        assert at is not None
    _, first, _, second, _ = onefile.HEADER.unpack_from(data, at)
    path.write_bytes(data[: at + onefile.HEADER.size + first + second] + BOMB)
    with pytest.raises(BadArchive, match="another size than it says"):
        readback.bring(Store(tmp_path / "s", durable=False), path)


Change = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], None]


def changed(layout: Path, change: Change) -> None:
    """Change the documents of an image, which is made whole again: each is called by its hash."""

    def put(value: object) -> dict[str, Any]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def get(row: dict[str, Any]) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((layout / "blobs" / "sha256" / row["digest"].removeprefix("sha256:")).read_text())
        return value

    index = json.loads((layout / "index.json").read_text())
    manifest = get(index["manifests"][0])
    config = get(manifest["config"])
    change(index, manifest, config)
    if "config" in manifest:
        manifest["config"] = manifest["config"] | put(config)
    if len(index["manifests"]) == 1:
        index["manifests"][0] |= put(manifest)
    (layout / "index.json").write_text(json.dumps(index))


def _labels(config: dict[str, Any], **more: object) -> None:
    config["config"]["Labels"] |= {key.replace("_", "."): value for key, value in more.items()}


BAD_IMAGES: dict[str, tuple[Change, str]] = {
    "no label": (lambda i, m, c: c["config"]["Labels"].pop("builder.artifact"), "an image of other software"),
    "no labels": (lambda i, m, c: c["config"].pop("Labels"), "an image of other software"),
    "a layer less": (lambda i, m, c: m["layers"].pop(), "holds the artifact b3:"),
    "a layer twice": (lambda i, m, c: m["layers"].append(m["layers"][-1]), "it is there twice"),
    "no layers": (lambda i, m, c: m.pop("layers"), "is damaged"),
    "too many layers": (lambda i, m, c: m["layers"].extend(m["layers"] * 500), "more than 500 layers"),
    "another digest": (lambda i, m, c: _labels(c, builder_artifact="b3:" + "0" * 64), "says that it is b3:000"),
    "a digest of a megabyte": (lambda i, m, c: _labels(c, builder_artifact="b3:" + "\n" * 1000000), "says that it is b3:\\n"),
    "no name": (lambda i, m, c: _labels(c, org_opencontainers_image_title=7), "does not say its name"),
    "a name that is a path": (lambda i, m, c: _labels(c, org_opencontainers_image_title="../x"), "no artifact can be called"),
    "a digest that is a path": (lambda i, m, c: m["layers"][0].update(digest="sha256:../../x"), "a damaged digest"),
    "a digest that is not there": (lambda i, m, c: m["layers"][0].update(digest="sha256:" + "0" * 64), "it has no blobs/"),
    "a layer that is a document": (lambda i, m, c: m["layers"].append(m["config"]), "damaged"),
    "several images": (lambda i, m, c: i["manifests"].append(i["manifests"][0]), "a store of 2 images"),
    "a document that is a layer": (lambda i, m, c: m.update(config=m["layers"][0]) or c.clear(), "damaged"),
}


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_a_bad_image_is_refused(odd: tuple[Store, Manifest], tmp_path: Path, what: str) -> None:
    layout = exported(odd, "x.oci", "oci")
    changed(layout, BAD_IMAGES[what][0])
    command = Builder(tmp_path / "s", environment(tmp_path / "s"))
    said = command("import", layout, "--no-link", status=1).stderr
    assert BAD_IMAGES[what][1] in said
    assert len(said) < 2000
    assert kept(tmp_path / "s") == []


@pytest.mark.parametrize(
    "index", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"manifests": 7}', b'{"manifests": [7]}', b" " * (5 << 20)]
)
def test_an_index_that_is_none(odd: tuple[Store, Manifest], tmp_path: Path, index: bytes) -> None:
    layout = exported(odd, "x.oci", "oci")
    (layout / "index.json").write_bytes(index)
    with pytest.raises(BadArchive, match="document"):
        readback.bring(Store(tmp_path / "s", durable=False), layout)


def test_a_blob_with_other_bytes_than_its_name_says(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    layout = exported(odd, "x.oci", "oci")
    manifest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"].removeprefix("sha256:")
    place = layout / "blobs" / "sha256" / manifest
    layers = json.loads(place.read_text())["layers"]
    last, base = (layout / "blobs" / "sha256" / layers[at]["digest"].removeprefix("sha256:") for at in (-1, 0))
    last.write_bytes(base.read_bytes())
    with pytest.raises(BadArchive, match="other bytes than its name says"):
        readback.bring(Store(tmp_path / "s", durable=False), layout)
    assert kept(tmp_path / "s") == []
    # A symlink is not followed, wherever it leads.
    place.unlink()
    place.symlink_to("/etc/passwd")
    refused_link = Builder(tmp_path / "s", environment(tmp_path / "s"))("import", layout, status=1).stderr
    assert "symbolic links" in refused_link


def test_an_image_with_a_file_twice(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    layout = exported(odd, "x.oci", "oci")
    archive = tmp_path / "x.oci.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as out:
        for name in ("oci-layout", "index.json", "index.json"):
            out.add(layout / name, name)
    refused(tmp_path / "s", archive, "index.json: it is there twice")


def test_a_full_disk_is_told_and_nothing_is_left(odd: tuple[Store, Manifest], tmp_path: Path) -> None:
    with odd[0].batch() as batch:
        node = batch.add_bytes(os.urandom(5 << 20))
    larger = (odd[0], Manifest([*odd[1].entries, (b"zzz", node)]))
    paths = [exported(larger, name, kind) for kind, name in FILES]
    (disk := tmp_path / "disk").mkdir()

    def work() -> None:
        mount_small(disk, 4 << 20)
        store = Store(disk / "store", durable=False)
        for path in paths:
            with pytest.raises(files.NoSpace):
                readback.bring(store, path)
            assert kept(store.root) == []

    assert status(start(work)) == 0
