"""What running needs: what exports and installs take of an artifact, and what the store knows of that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store import artifacts, collect, roots
from store.check import check
from store.digest import Digest
from store.manifest import Manifest
from store.resolve import resolve
from store.store import Store
from tests.behaviour.test_install import User, put
from tests.conftest import RECIPES, Builder, environment
from tests.store.helpers import take_in

LIBRARY: dict[str, bytes | str | None] = {
    "bin/one": b"#!/bin/sh\necho one\n",
    "include/one.h": b"int one(void);",
    "lib/libone.a": b"!<arch>\n",
    "lib/libone.so.1": b"a library",
    "lib/libone.so": "libone.so.1",
    "share/doc/one/COPYING": b"do as you like",
    "share/doc/one/README": b"read me",
    "share/man/man1/one.1": b".TH one 1",
    "share/man/man3/one.3": b".TH one 3",
}
LEFT_OUT = {"include/one.h", "lib/libone.a", "share/doc/one/README", "share/man/man3/one.3"}


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user with a store of small artifacts."""
    (tmp_path / "home").mkdir()
    return User(tmp_path / "home", tmp_path / "store", environment(tmp_path / "store"))


@pytest.fixture(scope="module")
def own(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user with a store that may be collected, where recipes can be built."""
    # On the shared store's file system, so that the downloads are links.
    place = builder.store.parent / f"runtime-{os.getpid()}"
    (place / "store").mkdir(parents=True)
    (place / "home").mkdir()
    shutil.copytree(builder.store / "downloads", place / "store" / "downloads", copy_function=os.link)
    yield User(place / "home", place / "store", environment(place / "store"))
    subprocess.run(["chmod", "-R", "u+w", str(place)], check=False)
    shutil.rmtree(place)


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_symlink() or path.is_file()}


def exported(command: Builder | User, spec: str, place: Path, *options: str) -> dict[str, Any]:
    done: dict[str, Any] = json.loads(command("export", spec, "--format", "dir", "-o", place, "--json", *options).stdout)
    return done


def test_an_export_of_a_library_has_what_running_needs(builder: Builder, tmp_path: Path) -> None:
    (built,) = builder.build(RECIPES / "zlib.py")
    small = exported(builder, built["digest"], tmp_path / "small")
    everything = exported(builder, built["digest"], tmp_path / "all", "--all")
    assert everything["digest"] == built["digest"] != small["digest"]
    assert files(tmp_path / "all") - files(tmp_path / "small") == {
        "include/zconf.h", "include/zlib.h", "lib/libz.a", "lib/pkgconfig/zlib.pc", "share/man/man3/zlib.3",
    }  # fmt: skip
    assert {"lib/libz.so", "lib/libz.so.1", "bin/minigzip"} < files(tmp_path / "small")
    program = tmp_path / "small" / "bin" / "minigzip"
    packed = subprocess.run([program], input=b"to and fro", env={}, capture_output=True, check=True).stdout
    assert subprocess.run([program, "-d"], input=packed, env={}, capture_output=True, check=True).stdout == b"to and fro"
    # What it is called is what came out, and of that again everything is needed.
    store = Store(builder.store)
    assert str(take_in(store, tmp_path / "small").digest) == small["digest"]
    assert exported(builder, small["digest"], tmp_path / "again")["digest"] == small["digest"]


def test_the_store_knows_where_an_export_came_from(builder: Builder, tmp_path: Path) -> None:
    (built,) = builder.build(RECIPES / "jq.py")
    digest = exported(builder, built["digest"], tmp_path / "jq")["digest"]

    def told(*words: str) -> Any:
        return json.loads(builder(*words, "--json").stdout)

    before = {row["path"]: (row["how"], row["source"]) for row in told("tree", built["digest"])["files"]}
    now = {row["path"]: (row["how"], row["source"]) for row in told("tree", digest)["files"]}
    assert {"bin/jq", ".launch/x86_64-linux-gnu/ld.so"} < now.keys() < files(tmp_path / "jq")
    assert now.items() < before.items()
    for name in "libonig", "bin/jq":
        ((of_whole,), (why,)) = (told("why", spec, name) for spec in (built["digest"], digest))
        assert why["steps"][0] == {**of_whole["steps"][0], "kind": "runtime"}
        assert why["steps"][1:] == of_whole["steps"]
        assert why["how"] == of_whole["how"] == "built"
    assert told("diff", built["digest"], digest)["added"] == []
    steps = {step["kind"]: step for step in told("graph", digest)["steps"]}
    assert [one["tree"] for one in steps["runtime"]["inputs"]] == [built["digest"]]
    # Both bills have the same parts; what was in the artifact is in here too.
    bills = [json.loads(builder("sbom", spec).stdout) for spec in (built["digest"], digest)]
    parts = [{(part["name"], part["scope"]) for part in bill["components"]} for bill in bills]
    assert parts[0] == parts[1]
    assert bills[0]["metadata"]["timestamp"] == bills[1]["metadata"]["timestamp"]
    said = json.loads(builder("provenance", digest).stdout)
    assert said["subject"][0]["digest"]["blake3"] == digest.removeprefix("b3:")
    definition = said["predicate"]["buildDefinition"]
    assert {"runtime", "pack", "build"} <= set(definition["internalParameters"]["actions"])
    assert "autoreconf" in definition["externalParameters"]["command"][3]


def test_the_name_means_the_whole_artifact(user: User, tmp_path: Path) -> None:
    store = Store(user.builder.store)
    whole = artifacts.Folder.parse(put(store, "one", LIBRARY))
    assert whole is not None
    small = exported(user, "one", tmp_path / "a")["digest"]
    assert files(tmp_path / "a") == LIBRARY.keys() - LEFT_OUT
    assert resolve(store, "one").digest == artifacts.digest_of(store, whole)
    assert exported(user, "one", tmp_path / "b")["digest"] == small
    # A part that was taken later is no newer artifact.
    put(store, "one", {"bin/one": b"2"}, "2")
    (first, second) = (resolve(store, spec).digest for spec in ("one-1", "one-2"))
    for number, digest in enumerate((second, first)):
        record_made(store, digest, number)
    roots.add_named(store, "small", Digest.parse(small))
    roots.add_named(store, "second", second)
    collect.collect(store)
    assert resolve(store, "one").digest == second
    assert resolve(store, "one-1").digest == Digest.parse(small)
    said = user("export", "one-1", "--all", "--format", "dir", "-o", tmp_path / "c", status=1).stderr
    assert "only what running needs of one 1, and not all of it" in said
    assert str(first) in said
    assert exported(user, "one-1", tmp_path / "d")["digest"] == small
    assert check(store) == []


def record_made(store: Store, digest: Digest, age: int) -> None:
    """A step that gave an artifact, the younger the smaller ``age`` is."""
    from store.action import Action
    from store.result import Result

    with store.batch() as batch:
        batch.add_result(Result(Action("pack", (), (digest.raw,)).encode(), "one", digest, 100 - age, 1, "test"))


def test_what_is_for_building_only_is_not_exported(user: User, tmp_path: Path) -> None:
    put(
        Store(user.builder.store),
        "headers",
        {"include/x.h": b"int x;", "share/doc/x/COPYING": b"do", "share/man/man3/x.3": b"x"},
    )
    for words in (["export", "headers", "-o", tmp_path / "x.tar.zst"], ["install", "headers"]):
        said = user(*words, status=1).stderr
        assert "headers 1 has nothing that running needs" in said
        assert "--all" in said
        assert user(*words, "--all").returncode == 0
    assert [row["name"] for row in user.json("list")["packages"]] == ["headers"]


def test_an_install_takes_what_running_needs_and_remembers_if_it_was_to_take_all(user: User) -> None:
    store = Store(user.builder.store)
    folder = put(store, "one", LIBRARY)
    user("install", "one")
    row = user.json("list")["packages"][0]
    assert files(Path(row["path"])) == LIBRARY.keys() - LEFT_OUT
    assert user("install", "one").stdout == "nothing to do\n"
    assert user.started("one") == "one\n"
    assert not (user.home / ".local/share/man/man3").exists()
    user("install", "one", "--all")
    assert row["all"] is False
    assert user.json("list")["packages"][0]["all"] is True
    assert Path(user.json("list")["packages"][0]["path"]).name == folder
    assert (user.home / ".local/share/man/man3/one.3").is_file()
    user("rollback")
    assert user.json("list")["packages"][0]["digest"] == row["digest"]
    assert not os.path.lexists(user.home / ".local/share/man/man3")
    # What is installed is kept, of the rest no more than generations have.
    user("history", "--prune", "0")
    assert user.json("gc")["artifacts"] == [folder]
    assert user.started("one") == "one\n"
    assert not store.has_blob(next(n for p, n in _tree(store, row["digest"], LIBRARY).files if p == b"include/one.h"))
    user("check")


def _tree(store: Store, digest: str, content: dict[str, bytes | str | None]) -> Manifest:
    """The whole artifact, whose manifest is known as long as what is left of it is kept."""
    from store import graph

    whole = graph.Graph(graph.steps(store)).whole_of(Digest.parse(digest))
    assert whole is not None
    tree = store.read_manifest(whole)
    assert {path.decode() for path, _ in tree.files} | {"lib/libone.so"} == set(content)
    return tree


def test_a_profile_from_before_there_was_a_choice(user: User) -> None:
    store = Store(user.builder.store)
    first = put(store, "one", LIBRARY)
    user("install", "one", "--all")
    record = user.home / ".local/state/builder/profile/generations/1/generation.json"
    value = json.loads(record.read_text())
    assert value["packages"][0].pop() is True
    record.write_text(json.dumps(value))
    assert Path(user.json("list")["packages"][0]["path"]).name == first
    user("install", "one")
    assert user.started("one") == "one\n"
    user("rollback")
    assert Path(user.json("list")["packages"][0]["path"]).name == first
    user("uninstall", "one")


def test_a_collection_that_keeps_the_newest_counts_artifacts_once(user: User, tmp_path: Path) -> None:
    store = Store(user.builder.store)
    first, second = put(store, "one", LIBRARY), put(store, "one", {**LIBRARY, "share/new": b"new"}, "2")
    for age, name in enumerate((second, first)):
        record_made(store, resolve(store, name).digest, age)
    small = exported(user, second, tmp_path / "a")["digest"]
    exported(user, first, tmp_path / "b")
    did = collect.collect(store, collect.Keep(newest=1))
    assert {folder.version for folder in did.artifacts} == {"1"}
    assert resolve(store, small).digest == Digest.parse(small)
    assert resolve(store, "one").digest == resolve(store, second).digest


def test_what_was_pulled_is_exported_without_its_recipe(user: User, tmp_path: Path) -> None:
    store = Store(user.builder.store)
    content = {**LIBRARY, ".launch/runtime": b"development share/*/examples\nruntime include\n", "share/one/examples/x": b"x"}
    put(store, "one", content)
    pushed = json.loads(user("push", tmp_path / "shelf", "one", "--no-sign", "--json").stdout)
    other = Builder(tmp_path / "other", environment(tmp_path / "other"))
    other("pull", tmp_path / "shelf", pushed["artifacts"][0]["digest"], "--no-link")
    done = exported(other, "one", tmp_path / "a")
    assert files(tmp_path / "a") == content.keys() - LEFT_OUT - {"share/one/examples/x"} | {"include/one.h"}
    assert "does not know what" in other("sbom", done["digest"], status=1).stderr
    assert "does not know what" in other("provenance", done["digest"], status=1).stderr
    (why,) = json.loads(other("why", done["digest"], "libone.so.1", "--json").stdout)
    assert why["steps"][0]["kind"] == "runtime"
    assert exported(user, "one", tmp_path / "b")["digest"] == done["digest"]
    # A part travels too, and is all that there is of it where it arrives.
    user("push", tmp_path / "parts", done["digest"], "--no-sign")
    third = Builder(tmp_path / "third", environment(tmp_path / "third"))
    third("pull", tmp_path / "parts", done["digest"], "--no-link")
    for number, more in enumerate(((), ("--all",))):
        assert exported(third, "one", tmp_path / f"c{number}", *more)["digest"] == done["digest"]


def test_a_choice_that_is_not_understood_is_told(user: User, tmp_path: Path) -> None:
    put(Store(user.builder.store), "one", {**LIBRARY, ".launch/runtime": b"perhaps include\n"})
    said = user("export", "one", "-o", tmp_path / "x.tar.zst", status=1).stderr
    assert ".launch/runtime says 'perhaps include'" in said
    user("export", "one", "-o", tmp_path / "x.tar.zst", "--all")


def test_a_recipe_chooses(builder: Builder, write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    script = """
        mkdir -p "$OUT$PREFIX/include" "$OUT$PREFIX/share/x/examples"
        cd "$OUT$PREFIX"
        touch include/x.h share/x/data share/x/examples/a
    """
    more = "development=('share/*/examples',), runtime=('include',)"
    (plain,) = builder.build(write_recipe("chooses", script))
    (built,) = builder.build(write_recipe("chooses", script, more=more))
    # The build is the same one: it is only packed again.
    place = Path(built["path"])
    assert files(place) == {"include/x.h", "share/x/data", "share/x/examples/a", ".launch/runtime"}
    assert (place / ".launch/runtime").read_text() == "development share/*/examples\nruntime include\n"
    log = [json.loads(builder("graph", one["digest"], "--json").stdout)["steps"] for one in (plain, built)]
    assert len({step["action"] for steps in log for step in steps if step["kind"] == "build"}) == 1
    exported(builder, built["digest"], tmp_path / "a")
    assert files(tmp_path / "a") == {"include/x.h", "share/x/data", ".launch/runtime"}
    exported(builder, plain["digest"], tmp_path / "b")
    assert files(tmp_path / "b") == {"share/x/data", "share/x/examples/a"}


def test_upgrades_build_nothing_again_after_a_collection(own: User) -> None:
    own("install", RECIPES / "zlib.py")
    (row,) = own.json("list")["packages"]
    removed = own.json("gc")["artifacts"]
    assert len([name for name in removed if "zlib" in name]) == 1
    # The compiler is gone too: to build zlib would mean to unpack a whole toolchain.
    before = sorted(os.listdir(own.builder.store / "artifacts"))
    assert own("upgrade").stdout == "nothing to do\n"
    assert own("install", RECIPES / "zlib.py").stdout == "nothing to do\n"
    assert sorted(os.listdir(own.builder.store / "artifacts")) == before
    own("check")
    # All of it is another matter; once asked for, an upgrade asks for it too.
    own("install", RECIPES / "zlib.py", "--all")
    (everything,) = own.json("list")["packages"]
    assert (Path(everything["path"]) / "include" / "zlib.h").is_file()
    assert own("upgrade").stdout == "nothing to do\n"
    own("rollback")
    assert own.json("list")["packages"][0]["digest"] == row["digest"]
    assert not (Path(row["path"]) / "include").exists()
    assert own("upgrade", "zlib").stdout == "nothing to do\n"
