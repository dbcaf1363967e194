"""Images: read by skopeo, unpacked by umoci and as engines do, and run, as an ordinary user."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder import oci, programs, runtime
from store.digest import Digest
from store.manifest import DIRECTORY, File, Manifest, Node, Symlink
from store.store import Store
from tests.conftest import Builder
from tests.exports.conftest import Tools
from tests.store.helpers import take_in

Programs = tuple[dict[str, str], dict[str, str]]


def needed(builder: Builder, built: dict[str, str]) -> Manifest:
    """What running needs of an artifact."""
    store = Store(builder.store)
    return runtime.tree_of(store, store.read_manifest(Digest.parse(built["digest"])))


def read(layout: Path, digest: str) -> bytes:
    """A blob, which has to be what it is called."""
    data = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest.removeprefix("sha256:")
    return data


def documents(layout: Path) -> tuple[Any, Any, Any]:
    """The index, the manifest and the configuration."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(read(layout, index["manifests"][0]["digest"]))
    return index, manifest, json.loads(read(layout, manifest["config"]["digest"]))


@pytest.fixture(scope="session")
def images(builder: Builder, programs: Programs, tools: Tools) -> tuple[Path, Path]:
    """The layouts of jq and of hello."""
    layouts = tuple(tools.home.parent / f"{item['name']}.oci" for item in programs)
    for item, layout in zip(programs, layouts, strict=True):
        done = json.loads(builder("export", item["digest"], "-o", layout, "--json", "--label", "a.b=c=d").stdout)
        assert done["image"] == documents(layout)[0]["manifests"][0]["digest"]
        assert done["sha256"] is None
    return layouts[0], layouts[1]


def test_skopeo_reads_what_an_image_says(builder: Builder, images: tuple[Path, Path], programs: Programs, tools: Tools) -> None:
    said = json.loads(tools.skopeo("inspect", f"oci:{images[0]}:jq:1.7.1"))
    assert (said["Architecture"], said["Os"], said["Created"]) == ("amd64", "linux", "1980-01-01T00:00:00Z")
    assert said["Labels"] == {
        "a.b": "c=d",
        "builder.artifact": str(needed(builder, programs[0]).digest),
        "org.opencontainers.image.title": "jq",
        "org.opencontainers.image.version": "1.7.1",
    }
    config = json.loads(tools.skopeo("inspect", "--config", f"oci:{images[0]}:jq:1.7.1"))
    assert config["config"]["Entrypoint"] == ["/pkg/bin/jq"]
    assert config["config"]["WorkingDir"] == "/"
    assert config["config"]["Env"][0].startswith("PATH=/pkg/bin:")
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"]) == len(said["Layers"])


def test_the_same_image_as_one_file(
    builder: Builder, images: tuple[Path, Path], programs: Programs, tools: Tools, tmp_path: Path
) -> None:
    archive = tools.home.parent / "jq.oci.tar"
    builder("export", programs[0]["digest"], "-o", archive, "--label", "a.b=c=d")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    there = {path.relative_to(images[0]): path.read_bytes() for path in images[0].rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there
    # To make docker's kind of archive, skopeo unpacks every layer and compares what comes out with the configuration.
    tools.skopeo("copy", f"oci-archive:{archive}", "docker-archive:jq.docker.tar:jq:1.7.1")
    assert json.loads(tools.skopeo("inspect", "docker-archive:jq.docker.tar"))["Architecture"] == "amd64"


def test_an_image_is_unpacked_and_runs(builder: Builder, images: tuple[Path, Path], programs: Programs, tools: Tools) -> None:
    tools.run("umoci", "unpack", "--rootless", "--image", f"{images[0]}:jq:1.7.1", "jq")
    bundle = tools.home / "jq"
    assert tools.enter(bundle, "-n", "-c", '[$ENV.PATH, "\\(1 + 1)"]').startswith('["/pkg/bin:')
    tools.run("umoci", "unpack", "--rootless", "--image", f"{images[1]}:hello:2.10", "hello")
    assert tools.enter(tools.home / "hello") == "Hello, world!\n"
    unpacked = take_in(Store(builder.store), bundle / "rootfs" / "pkg")
    assert unpacked == needed(builder, programs[0])
    assert (bundle / "rootfs" / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert {path.name for path in (bundle / "rootfs").iterdir()} == {"etc", "pkg", "root", "tmp", "var"}


def test_layers_are_what_the_configuration_says(images: tuple[Path, Path], builder: Builder, programs: Programs) -> None:
    """Each layer unpacked over those before it, by their names alone, gives the artifact, and no layer hides anything."""
    for layout, program in zip(images, programs, strict=True):
        _, manifest, config = documents(layout)
        paths: list[str] = []
        for layer, plain in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
            data = gzip.decompress(read(layout, layer["digest"]))
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" == plain
            with tarfile.open(fileobj=io.BytesIO(data)) as opened:
                paths += [member.name for member in opened if not member.isdir()]
        expected = {f"pkg/{path.decode()}" for path, node in needed(builder, program).entries if node != DIRECTORY}
        assert set(paths) == expected | {"etc/group", "etc/nsswitch.conf", "etc/passwd"}
        assert len(paths) == len(set(paths))


def test_an_image_of_everything(builder: Builder, programs: Programs, tmp_path: Path) -> None:
    builder("export", programs[0]["digest"], "--all", "-o", tmp_path / "all.oci")
    _, _, config = documents(tmp_path / "all.oci")
    assert config["config"]["Labels"]["builder.artifact"] == programs[0]["digest"]


def test_images_share_the_layers_of_libraries_that_artifacts_share(images: tuple[Path, Path]) -> None:
    (_, one, config), (_, other, _) = documents(images[0]), documents(images[1])
    shared = {layer["digest"] for layer in one["layers"]} & {layer["digest"] for layer in other["layers"]}
    about = dict(zip([layer["digest"] for layer in one["layers"]], [h["created_by"] for h in config["history"]], strict=True))
    assert {about[digest] for digest in shared} == {
        "what programs expect of any root",
        "the C library of x86_64-linux-gnu",
        "libgcc_s.so.1",
    }
    # First the same ones in the same order: engines store a layer by all those below it.
    assert one["layers"][:3] == other["layers"][:3]


# -- what goes where --


def node(name: str, size: int) -> File:
    return File(Digest.of(name.encode()), size, False)


def test_there_are_never_too_many_layers() -> None:
    triplet = b".launch/x86_64-linux-gnu/"
    libraries = [(triplet + b"lib/lib%d.so" % n, node(f"lib{n}", 100_000 + n)) for n in range(1000)]
    more: list[tuple[bytes, Node]] = [
        (triplet + b"ld.so", node("ld.so", 200_000)),
        (triplet + b"lib/libc.so.6", node("libc", 1_900_000)),
        (triplet + b"lib/libdl.so.2", node("libdl", 14_000)),
        (triplet + b"lib/libalias.so", Symlink(b"lib1.so")),
        (triplet + b"gconv/A.so", node("a", 40_000)),
        (triplet + b"gconv/B.so", node("b", 40_000)),
        (b".launch/share/zoneinfo/UTC", node("utc", 114)),
        (b".launch/script/bin/x/bin/x", node("x", 114_000)),
        (b"bin/x", node("x", 900_000)),
    ]
    artifact = Manifest.with_parents([*libraries, *more])
    made = oci.layers(artifact)
    about = [layer.about for layer in made]
    assert len(made) == 3 + oci.MOST_OWN
    assert about[:2] == ["what programs expect of any root", "the C library of x86_64-linux-gnu"]
    # The largest have layers of their own, the C library and what follows it; gconv, of 80 kB, is not among them.
    assert about[2:-2] == sorted(f"lib{n}.so" for n in range(1000 - oci.MOST_OWN + 1, 1000))
    assert about[-2:] == ["smaller libraries", "the artifact's own files"]
    files = [path for layer in made[1:] for path, _ in layer.tree.files]
    assert sorted(files) == sorted(b"pkg/" + path for path, _ in artifact.files)
    assert set(made[-1].tree) >= {b"pkg/bin/x", b"pkg/.launch/script/bin/x/bin/x", b"pkg/" + triplet + b"lib/libalias.so"}
    few = oci.layers(Manifest.with_parents(more))
    assert [layer.about for layer in few][2:] == ["gconv", "smaller libraries", "the artifact's own files"]


HEADER = b"\x7fELF" + bytes(14) + (183).to_bytes(2, "little")


def settings(*programs: str, name: str = "x", entrypoint: str | None = None, head: bytes = HEADER) -> oci.Settings:
    program = File(Digest.of(b""), 0, True)
    artifact = Manifest.with_parents((path.encode(), program) for path in programs)
    return oci.settings(artifact, lambda _: head, name=name, version="1", entrypoint=entrypoint)


def test_the_program_that_an_image_starts() -> None:
    assert settings("bin/x", "bin/y").program == "x"
    assert settings("bin/z").program == "z"
    assert settings("bin/x", "bin/y", entrypoint="y").program == "y"
    assert settings("lib/y").program is None
    assert settings("bin/x").cpu == {"architecture": "arm64", "variant": "v8"}
    with pytest.raises(programs.NoEntrypoint, match="several programs"):
        settings("bin/y", "bin/z")
    with pytest.raises(programs.NoEntrypoint, match="no program q"):
        settings("bin/y", entrypoint="q")
    with pytest.raises(programs.NoMachine):
        settings("bin/x", head=b"#!/bin/sh")
    with pytest.raises(oci.Whiteout, match=r"share/\.wh\.x"):
        settings("bin/x", "share/.wh.x")


def test_names_and_tags() -> None:
    assert oci.repository("jq") == "jq"
    assert oci.repository("libstdc++-6.x_y") == "libstdc-6.x_y"
    assert oci.repository("a.-b+c++") == "a-b-c"
    assert oci.tag("1.7.1") == "1.7.1"
    assert oci.tag("1:2.3~rc1+b2") == "1_2.3_rc1_b2"
