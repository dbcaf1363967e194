"""Questions about references, on the command line: who has what, where it came from, how two artifacts differ, and papers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder import lockfile
from store import artifacts
from store.action import Action
from store.digest import Digest
from store.manifest import Manifest
from store.store import Store
from tests.conftest import RECIPES, Builder, environment
from tests.store.helpers import World, file_of, record, tree


def told(builder: Builder, *words: str | Path, **more: Any) -> Any:
    return json.loads(builder(*words, "--json", **more).stdout)


@pytest.fixture(scope="module")
def jq(builder: Builder) -> tuple[Builder, str]:
    """A real artifact: the builder, and the artifact's folder."""
    (built,) = builder.build(RECIPES / "jq.py")
    return builder, built["path"]


@pytest.fixture
def small(tmp_path: Path) -> tuple[Builder, World, Manifest]:
    """A store with two artifacts: hello, and a later hello whose libssl3 is another version."""
    world = World(tmp_path / "store")
    with world.store.batch() as batch:
        ssl = tree(batch, {"usr/lib/libssl.so.3": b"newer ssl", "usr/bin/openssl": b"newer tool"})
        record(batch, Action("import", (), ("newer ssl",)), "libssl3 3.1", ssl)
        parts = (("libc6 2.36", world.libc.digest), ("libssl3 3.1", ssl.digest))
        root = Manifest.with_parents([*world.libc.files, *ssl.files])
        record(batch, Action("root", parts, ()), "toolchain 13", root)
        merged = (("toolchain 13", root.digest), ("hello", world.source.digest))
        inputs = Manifest.with_parents([*root.files, *world.source.under(b"build").files])
        record(batch, Action("merge", merged, ()), "hello 2.11", inputs)
        output = tree(batch, {"bin/hello": b"newer program", "bin/openssl": b"newer tool", "share/LICENCE": b"do as you like"})
        record(batch, Action("build", (("input root", inputs.digest),), ("make",)), "hello 2.11", output)
        later = tree(
            batch,
            {
                "bin/hello": b"launcher of newer program",
                "bin/openssl": b"launcher of newer tool",
                "share/LICENCE": b"do as you like",
                "share/new": b"new",
                ".launch/hello/ld.so": b"loader",
                ".launch/hello/lib/libssl.so.3": b"newer ssl",
                "lib/libssl.so": "../.launch/hello/lib/libssl.so.3",
            },
        )
        packed = (("output", output.digest), ("input root", inputs.digest))
        record(batch, Action("pack", packed, ()), "hello 2.11", later, started=20)
    artifacts.check_out(world.store, later, name="hello", version="2.11")
    return Builder(world.store.root, environment(world.store.root)), world, later


def own_bytes(manifest: Manifest, other: Manifest) -> int:
    """How many bytes of a tree are in no file of another."""
    theirs = {node.blob for _, node in other.files}
    return sum(node.size for _, node in manifest.files if node.blob not in theirs)


# -- who-has --


def test_who_has_a_library(jq: tuple[Builder, str]) -> None:
    command, path = jq
    digest = told(command, "info", path)["digest"]
    for what in ("libonig", "libonig.so.5", ".launch/x86_64-linux-gnu/lib/libonig.so.5"):
        (row,) = (row for row in told(command, "who-has", what) if row["artifact"] == digest)
        assert (row["name"], row["how"], row["source"]) == ("jq", "built", "oniguruma 6.9.8")
        assert row["path"] == ".launch/x86_64-linux-gnu/lib/libonig.so.5"
    on_disk = Path(path) / row["path"]
    for what in (row["digest"], row["digest"][:15], row["digest"].removeprefix("b3:"), str(on_disk)):
        rows = told(command, "who-has", what)
        assert digest in {one["artifact"] for one in rows}
        assert {one["digest"] for one in rows} == {row["digest"]}
    # A symlink stands for the file that it leads to.
    (row,) = (row for row in told(command, "who-has", "libjq.so.1") if row["artifact"] == digest)
    assert (row["path"], row["bytes"]) == ("lib/libjq.so.1", (Path(path) / "lib/libjq.so.1").stat().st_size)
    (row,) = (row for row in told(command, "who-has", "libgcc_s.so.1") if row["artifact"] == digest)
    assert (row["how"], row["source"].split()[0]) == ("imported", "libgcc-s1")


def test_who_has_names_every_artifact_with_its_origin(small: tuple[Builder, World, Manifest], tmp_path: Path) -> None:
    command, world, _ = small
    rows = told(command, "who-has", "libssl")
    assert [(row["version"], row["path"], row["how"], row["source"]) for row in rows] == [
        ("2.11", ".launch/hello/lib/libssl.so.3", "imported", "libssl3 3.1"),
        ("2.11", "lib/libssl.so", "imported", "libssl3 3.1"),
        ("2.10", ".launch/hello/lib/libssl.so.3", "imported", "libssl3 3.0"),
        ("2.10", "lib/libssl.so", "imported", "libssl3 3.0"),
    ]
    (tmp_path / "copy").write_bytes(b"ssl")
    (row,) = told(command, "who-has", "./copy", cwd=tmp_path)
    assert (row["version"], row["artifact"]) == ("2.10", str(world.artifact.digest))
    assert told(command, "who-has", tmp_path / "copy") == [row]
    # Without a path in front it is a name, also when there is such a file.
    command("who-has", "copy", cwd=tmp_path, status=1)
    assert told(command, "who-has", "bin/openssl")[0]["how"] == "changed"
    assert len(told(command, "who-has", "/share/LICENCE")) == 2
    assert "hello 2.11" in command("who-has", "share/new").stdout
    for nothing in ("libcrypto", "", "/", "b3:", "b3:000", "b3:0000", "0" * 64, "lib", "..", "/dev/zero", "main.c"):
        assert "no artifact holds" in command("who-has", nothing, status=1).stderr


def test_the_index_tells_the_same_origins_as_the_whole_way(jq: tuple[Builder, str]) -> None:
    command, path = jq
    digest = told(command, "info", path)["digest"]
    of_source = {row["source"]: row for row in told(command, "tree", path)["files"] if row["bytes"]}
    assert len(of_source) > 4
    for row in of_source.values():
        found = told(command, "who-has", row["digest"])
        (one,) = (one for one in found if (one["artifact"], one["path"]) == (digest, row["path"]))
        assert (one["how"], one["source"]) == (row["how"], row["source"])


# -- origins, graph --


def test_origins_are_grouped_with_sizes(jq: tuple[Builder, str]) -> None:
    command, path = jq
    whole, listed = told(command, "origins", path), told(command, "tree", path)["files"]
    rows = whole["origins"]
    assert sum(row["bytes"] for row in rows) == sum(file["bytes"] for file in listed)
    assert sorted(path for row in rows for path in row["paths"]) == sorted(file["path"] for file in listed)
    by_source = {(row["source"].split()[0], row["how"]): row for row in rows}
    libc = by_source["libc6", "imported"]
    assert (libc["name"], libc["input"].split()[0]) == ("libc6", "toolchain")
    assert libc["version"].startswith("2.36")
    assert by_source["oniguruma", "built"]["input"] == "oniguruma 6.9.8"
    assert by_source["jq", "built"]["input"] == ""
    source = by_source["jq_1.7.1.orig.tar.gz", "imported"]
    assert (source["name"], source["version"], source["input"]) == ("jq", "1.7.1", "jq_1.7.1.orig.tar.gz")
    assert [row["bytes"] for row in rows] == sorted((row["bytes"] for row in rows), reverse=True)
    assert "in toolchain" in command("origins", path).stdout


def test_graph_goes_back_to_packages(jq: tuple[Builder, str]) -> None:
    command, path = jq
    whole = told(command, "graph", path)
    by_tree = {step["tree"]: step for step in whole["steps"]}
    assert by_tree[whole["digest"]]["kind"] == "pack"
    kinds = {step["kind"] for step in whole["steps"]}
    assert kinds == {"pack", "strip", "build", "merge", "root", "import"}
    lock = lockfile.parse((RECIPES / "toolchain.lock").read_text(), "lock")
    labels = {step["label"] for step in whole["steps"] if step["kind"] == "import"}
    assert labels >= {f"{package.name} {package.version}" for package in lock.packages}
    assert "libonig_6.9.8.orig.tar.gz" in labels
    leaves = {one["label"] for step in whole["steps"] for one in step["inputs"] if one["tree"] not in by_tree}
    assert leaves == {"skeleton"}
    text = command("graph", path).stdout.splitlines()
    assert text[0].startswith("pack jq 1.7.1")
    assert any(line.endswith("(*)") for line in text)
    dot = command("graph", path, "--dot").stdout
    assert (dot.startswith("digraph {"), dot.endswith("}\n")) == (True, True)
    assert dot.count(" -> ") == sum(len(step["inputs"]) for step in whole["steps"])


# -- diff, sizes --


def test_diff_by_path_and_by_origin(small: tuple[Builder, World, Manifest]) -> None:
    command, world, later = small
    whole = told(command, "diff", "hello-2.10", "hello-2.11")
    assert [row["path"] for row in whole["added"]] == ["share/new"]
    assert [row["path"] for row in whole["removed"]] == ["share/empty"]
    assert [row["path"] for row in whole["changed"]] == [".launch/hello/lib/libssl.so.3", "bin/hello", "bin/openssl"]
    assert (whole["changed"][0]["before"]["bytes"], whole["changed"][0]["after"]["bytes"]) == (3, 9)
    assert whole["sources"] == [
        {"name": "hello", "before": "2.10", "after": "2.11"},
        {"name": "libssl3", "before": "3.0", "after": "3.1"},
    ]
    before, after = own_bytes(world.artifact, later), own_bytes(later, world.artifact)
    assert (whole["only_before"], whole["only_after"]) == (before, after)
    assert whole["shared"] == world.artifact.size - before == later.size - after > 0
    text = command("diff", "hello-2.10", "hello-2.11").stdout
    assert "~ source libssl3 3.0 -> 3.1" in text
    assert "+ share/new  (3 B)" in text
    assert command("diff", "hello-2.10", "hello-2.11", "--exit-code", status=1).stdout == text
    same = told(command, "diff", "hello-2.10", str(world.path), "--exit-code")
    assert (same["added"], same["removed"], same["changed"], same["sources"]) == ([], [], [], [])
    assert "no artifact" in command("diff", "hello", "nothing", "--exit-code", status=1).stderr


def test_diff_of_kinds(small: tuple[Builder, World, Manifest]) -> None:
    command, world, _ = small
    with world.store.batch() as batch:
        one = tree(batch, {"a": b"x", "b": "a", "c/d": b"y", "e": None, "bin/f": b"z"})
        two = tree(batch, {"a": "c", "b": "e", "c": b"y", "bin/f": b"z"})
        node = file_of(two, b"bin/f")
        two = Manifest.with_parents({**two.nodes, b"bin/f": batch.add_bytes(b"z")}.items())
        assert node.executable
        batch.add_manifest(one)
        batch.add_manifest(two)
    for name, manifest in (("one", one), ("two", two)):
        artifacts.check_out(world.store, manifest, name=name, version="1")
    whole = told(command, "diff", "one", "two")
    kinds = [(row["path"], row["before"]["kind"], row["after"]["kind"]) for row in whole["changed"]]
    assert kinds == [
        ("a", "file", "symlink"),
        ("b", "symlink", "symlink"),
        ("bin/f", "file", "file"),
        ("c", "directory", "file"),
    ]
    assert [row["path"] for row in whole["removed"]] == ["c/d"]
    assert "~ bin/f  (1 B, executable; now 1 B)" in command("diff", "one", "two").stdout


def test_sizes_alone_shared_and_unique(small: tuple[Builder, World, Manifest]) -> None:
    command, world, later = small
    before, after = own_bytes(world.artifact, later), own_bytes(later, world.artifact)
    whole = told(command, "du")
    assert [(row["version"], row["alone"], row["shared"], row["unique"]) for row in whole["artifacts"]] == [
        ("2.11", later.size, later.size - after, after),
        ("2.10", world.artifact.size, world.artifact.size - before, before),
    ]
    assert whole["bytes"] == later.size + before
    info = told(command, "info", "hello-2.10")
    assert (info["alone"], info["shared"], info["unique"]) == (world.artifact.size, world.artifact.size - before, before)
    # The other one goes: nothing is shared any more. It comes back: all is as it was.
    folder = artifacts.Folder.of(later.digest, "hello", "2.11")
    artifacts.remove(world.store, folder)
    (row,) = told(command, "du")["artifacts"]
    assert (row["shared"], row["unique"]) == (0, world.artifact.size)
    artifacts.check_out(world.store, later, name="hello", version="2.11")
    assert told(command, "du") == whole


def test_a_tree_that_is_an_artifact_and_an_input(tmp_path: Path) -> None:
    """It counts as an artifact as long as it is one, and as a source of others after that."""
    world = World(tmp_path / "store")
    command = Builder(world.store.root, environment(world.store.root))
    before = told(command, "du")
    path = artifacts.check_out(world.store, world.libc, name="libc", version="1")
    rows = told(command, "du")["artifacts"]
    assert {row["name"]: row["shared"] for row in rows} == {"libc": len(b"loader"), "hello": len(b"loader")}
    assert {row["name"] for row in told(command, "who-has", "ld.so")} == {"libc", "hello"}
    artifacts.remove(world.store, artifacts.Folder.of(world.libc.digest, "libc", "1"))
    assert not path.exists()
    assert told(command, "du") == before
    assert told(command, "who-has", "ld.so")[0]["source"] == "libc6 2.36"


# -- papers --


def test_cyclonedx_is_valid_and_complete(jq: tuple[Builder, str]) -> None:
    command, path = jq
    text = command("sbom", path).stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert command("sbom", path, "--format", "cyclonedx").stdout == text
    whole = json.loads(text)
    components = {(row["name"], row.get("version")): row for row in whole["components"]}
    lock = lockfile.parse((RECIPES / "toolchain.lock").read_text(), "lock")
    for package in lock.packages:
        row = components[package.name, package.version]
        assert row["hashes"] == [{"alg": "SHA-256", "content": package.sha256}]
        assert row["purl"].startswith(f"pkg:deb/debian/{package.name.replace('+', '%2B')}@")
        assert row["purl"].endswith(f"?arch={package.architecture}")
    used = {name for (name, _), row in components.items() if row["scope"] == "required"}
    assert used == {"jq", "libonig", "libc6", "libgcc-s1"}
    assert whole["metadata"]["component"]["name"] == "jq"
    (needs,) = (row["dependsOn"] for row in whole["dependencies"] if row["ref"] == whole["metadata"]["component"]["bom-ref"])
    assert len(needs) == 4


def test_spdx_is_valid_and_complete(jq: tuple[Builder, str], tmp_path: Path) -> None:
    command, path = jq
    place = tmp_path / "bill.spdx.json"
    for words in ((), ("--files",)):
        place.write_text(command("sbom", path, "--format", "spdx", *words).stdout)
        document = parse_file(str(place))
        assert validate_full_spdx_document(document) == []
        packages = {package.name: package for package in document.packages if package.spdx_id != "SPDXRef-artifact"}
        lock = lockfile.parse((RECIPES / "toolchain.lock").read_text(), "lock")
        assert {(p.name, p.sha256) for p in lock.packages} <= {
            (name, package.checksums[0].value) for name, package in packages.items() if package.checksums
        }
        kinds = {str(relation.relationship_type.name) for relation in document.relationships}
        assert kinds == {"DESCRIBES", "CONTAINS", "BUILD_DEPENDENCY_OF"}
    listed = {file.name.removeprefix("./"): file.checksums for file in document.files}
    assert set(listed) == {row["path"] for row in told(command, "tree", path)["files"]}
    sums = {str(one.algorithm.name): one.value for one in listed["bin/jq"]}
    assert sums["SHA256"] == hashlib.sha256((Path(path) / "bin/jq").read_bytes()).hexdigest()


def test_files_in_cyclonedx(jq: tuple[Builder, str]) -> None:
    command, path = jq
    text = command("sbom", path, "--files").stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (row,) = (row for row in json.loads(text)["components"] if row["name"] == "bin/jq")
    assert {one["alg"] for one in row["hashes"]} == {"BLAKE3", "SHA-256"}
    assert json.loads(text)["serialNumber"] != json.loads(command("sbom", path).stdout)["serialNumber"]


def test_papers_are_the_same_every_time(jq: tuple[Builder, str]) -> None:
    command, path = jq
    for words in (("sbom", path), ("sbom", path, "--format", "spdx", "--files"), ("provenance", path)):
        assert command(*words).stdout == command(*words).stdout
    fixed = Builder(command.store, {**command.environment, "SOURCE_DATE_EPOCH": "1000000000"})
    assert json.loads(fixed("sbom", path).stdout)["metadata"]["timestamp"] == "2001-09-09T01:46:40+00:00"
    assert json.loads(fixed("sbom", path, "--format", "spdx").stdout)["creationInfo"]["created"] == "2001-09-09T01:46:40Z"
    for wrong in ("", "now", "-1", "1.5", "9" * 13, "٣"):
        bad = Builder(command.store, {**command.environment, "SOURCE_DATE_EPOCH": wrong})
        assert "SOURCE_DATE_EPOCH" in bad("sbom", path, status=1).stderr


def test_licences_of_packages_that_are_held(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    copyright_file = b"Format: https://www.debian.org/doc/\n\nFiles: *\nLicense: MIT\n\nLicense: GPL-2+\n text\n"
    with world.store.batch() as batch:
        free = tree(batch, {"usr/share/doc/libfree/copyright": copyright_file, "usr/lib/free.so": b"free"})
        other = tree(batch, {"usr/share/doc/libother/copyright": b"It is free.\nLicense: none\n", "usr/lib/other.so": b"other"})
        settings = ((1, "deb", b"\1" * 32), (1, "deb", b"\2" * 32))
        for label, package, setting in (("libfree 1:2-3", free, settings[0]), ("libother 1", other, settings[1])):
            record(batch, Action("import", (), setting), label, package)
        both = Manifest.with_parents([*free.files, *other.files])
        record(batch, Action("pack", (("libfree 1:2-3", free.digest), ("libother 1", other.digest)), (1,)), "it 1", both)
    artifacts.check_out(world.store, both, name="it", version="1")
    command = Builder(world.store.root, environment(world.store.root))
    text = command("sbom", "it").stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    rows = {row["name"]: row for row in json.loads(text)["components"]}
    assert [one["license"]["name"] for one in rows["libfree"]["licenses"]] == ["GPL-2+", "MIT"]
    assert "licenses" not in rows["libother"]
    assert rows["libfree"]["purl"] == "pkg:deb/debian/libfree@1:2-3"
    place = tmp_path / "it.spdx.json"
    place.write_text(command("sbom", "it", "--format", "spdx").stdout)
    document = parse_file(str(place))
    assert validate_full_spdx_document(document) == []
    (declared,) = (str(package.license_declared) for package in document.packages if package.name == "libfree")
    assert declared == "LicenseRef-Debian-GPL-2- AND LicenseRef-Debian-MIT"


def test_provenance_says_how_it_was_built(jq: tuple[Builder, str]) -> None:
    command, path = jq
    whole = json.loads(command("provenance", path).stdout)
    assert (whole["_type"], whole["predicateType"]) == ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1")
    info = told(command, "info", path)
    (subject,) = whole["subject"]
    assert f"b3:{subject['digest']['blake3']}" == info["digest"]
    manifest = Store(command.store).read_manifest(Digest.parse(info["digest"]))
    assert subject["digest"]["sha256"] == hashlib.sha256(manifest.encode()).hexdigest()
    definition, details = whole["predicate"]["buildDefinition"], whole["predicate"]["runDetails"]
    assert "autoreconf" in definition["externalParameters"]["command"][-1]
    assert definition["externalParameters"]["variables"]["PREFIX"] == "/pkg"
    found = {row["name"]: row for row in definition["resolvedDependencies"]}
    lock = lockfile.parse((RECIPES / "toolchain.lock").read_text(), "lock")
    for package in lock.packages:
        assert found[f"{package.name} {package.version}"]["digest"] == {"sha256": package.sha256}
    assert found["jq_1.7.1.orig.tar.gz"]["uri"].startswith("pkg:generic/jq@1.7.1?checksum=sha256:")
    assert details["builder"]["version"].keys() == {"builder"}
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]
    assert told(command, "provenance", path) == whole


def test_provenance_of_what_came_without_a_past(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    with world.store.batch() as batch:
        pulled = tree(batch, {"bin/x": b"from somewhere"})
        batch.add_manifest(pulled)
    artifacts.check_out(world.store, pulled, name="pulled", version="1")
    command = Builder(world.store.root, environment(world.store.root))
    # A list of materials that has none would look like one that is complete.
    for paper in ("provenance", "sbom"):
        assert "this store does not know what" in command(paper, "pulled", status=1).stderr
    assert command("graph", "pulled").stdout.startswith("pulled 1")


@pytest.mark.parametrize("label", [" ", "\x1b[31mred\n 1", "a/../b 1/2?x#y", "@ ", '" -> "x'])
def test_labels_from_elsewhere(tmp_path: Path, label: str) -> None:
    """A result that was pulled may call a package anything."""
    world = World(tmp_path / "store")
    with world.store.batch() as batch:
        package = tree(batch, {"lib/odd.so": b"odd"})
        record(batch, Action("import", (), (1, "deb", b"\1" * 32)), label, package)
        made = Manifest.with_parents([*package.entries, (b"new", batch.add_bytes(b"new"))])
        record(batch, Action("pack", ((label, package.digest),), (1,)), "odd 1", made)
    artifacts.check_out(world.store, made, name="odd", version="1")
    command = Builder(world.store.root, environment(world.store.root))
    for words in (
        ("who-has", "odd.so"),
        ("origins", "odd"),
        ("diff", "odd", "hello"),
        ("graph", "odd"),
        ("graph", "odd", "--dot"),
    ):
        assert "\x1b" not in command(*words).stdout
    place = tmp_path / "odd.spdx.json"
    place.write_text(command("sbom", "odd", "--format", "spdx").stdout)
    assert validate_full_spdx_document(parse_file(str(place))) == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(command("sbom", "odd").stdout) is None
    (row,) = json.loads(command("provenance", "odd").stdout)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert row["digest"] == {"sha256": "01" * 32}
