from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from builder.archives import BadArchive
from builder.fetch import Fetcher, FetchFailed
from builder.imports import Import, import_archives
from builder.lockfile import LockedPackage
from builder.progress import Silent
from builder.recipe import Source
from store.digest import Digest
from store.manifest import Manifest
from store.result import Result
from store.store import Store
from tests.sources.helpers import contents, deb, folder, link, member, tar
from tests.sources.server import Server


def package(server: Server, name: str, data: bytes, version: str = "1.0-1") -> Import:
    path = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
    server.files[f"/debian/{path}"] = data
    return Import.of_package(LockedPackage(name, version, "amd64", path, len(data), hashlib.sha256(data).hexdigest()))


def source(server: Server, name: str, data: bytes, *, strip: int = 1, unpack: bool = True) -> Import:
    server.files[f"/{name}"] = data
    sha256 = hashlib.sha256(data).hexdigest()
    return Import.of_source(Source(f"{server.base}/{name}", sha256=sha256, strip=strip, unpack=unpack))


def run(store: Store, fetcher: Fetcher, *items: Import) -> list[dict[str, object]]:
    trees = import_archives(store, fetcher, items, Silent())
    return [contents(store.read_manifest(tree), store.root) for tree in trees]


def test_archives_become_trees(store: Store, fetcher: Fetcher, server: Server) -> None:
    items = [
        package(server, "one", deb(folder("./"), member("./bin/one", b"1", mode=0o755), name="one")),
        package(server, "two", deb(link("./two", "one"), name="two", compression="zst")),
        source(server, "three.tar", tar(member("three-1/x", b"3"))),
        source(server, "four.txt", b"4", unpack=False),
    ]
    expected = [
        {"bin": None, "bin/one": ("x", b"1")},
        {"two": "-> one"},
        {"x": b"3"},
        {"four.txt": b"4"},
    ]
    assert run(store, fetcher, *items) == expected
    asked = len(server.log)
    assert run(store, fetcher, *reversed(items)) == expected[::-1]
    assert len(server.log) == asked
    result = store.read_result(items[0].action.digest)
    assert result is not None
    assert result.label == "one 1.0-1"


def test_keys_do_not_change_unnoticed(server: Server) -> None:
    one = LockedPackage("a", "1", "amd64", "pool/a", 1, "ab" * 32)
    other = Source("http://x/y", sha256="ab" * 32)
    keys = {
        Import.of_package(one).action.digest.hex,
        Import.of_source(other).action.digest.hex,
        Import.of_source(Source("http://x/y", sha256="ab" * 32, strip=0)).action.digest.hex,
        Import.of_source(Source("http://x/y", sha256="ab" * 32, unpack=False)).action.digest.hex,
    }
    assert len(keys) == 4
    # Where something lies is no part of what it is.
    assert Import.of_source(other).action == Import.of_source(Source("http://z/w", sha256="ab" * 32)).action


def test_equal_files_are_one_blob(store: Store, fetcher: Fetcher, server: Server) -> None:
    data = b"x" * 5000
    run(
        store,
        fetcher,
        package(server, "one", deb(member("a", data), name="one")),
        package(server, "two", deb(member("b", data), member("c", data, mode=0o755), name="two")),
    )
    sizes = [path.stat().st_size for path in (store.root / "blobs").rglob("*") if path.is_file()]
    assert sizes == [5000, 5000]  # with and without the right to be executed


def test_the_same_archive_in_two_ways(store: Store, fetcher: Fetcher, server: Server) -> None:
    data = tar(member("a/b/x", b"1"))
    items = [source(server, "x.tar", data, strip=n) for n in (0, 1, 2)]
    assert run(store, fetcher, *items) == [{"a": None, "a/b": None, "a/b/x": b"1"}, {"b": None, "b/x": b"1"}, {"x": b"1"}]
    assert len(server.log) == 1


def test_a_bad_archive_is_named_and_the_others_stay(store: Store, fetcher: Fetcher, server: Server) -> None:
    good = package(server, "good", deb(member("x", b"1" * 100), name="good"))
    run(store, fetcher, good)
    bad = package(server, "bad", deb(member("../x", b"1"), name="bad"))
    with pytest.raises(BadArchive, match=r"bad 1\.0-1: \.\./x: a name that leads out"):
        run(store, fetcher, good, bad)
    assert store.read_result(bad.action.digest) is None
    assert run(store, fetcher, good) == [{"x": b"1" * 100}]
    assert os.listdir(store.root / "tmp") == []


def test_what_was_read_before_a_failure_is_not_read_again(store: Store, fetcher: Fetcher, server: Server) -> None:
    good = package(server, "good", deb(member("x", b"1"), name="good"))
    gone = package(server, "gone", deb(member("x", b"1"), name="gone"))
    path = f"/debian/{'pool/main/g/gone/gone_1.0-1_amd64.deb'}"
    data = server.files.pop(path)
    server.on_request = lambda asked: None
    with pytest.raises(FetchFailed) as caught:
        run(store, fetcher, good, gone)
    assert "gone 1.0-1" in str(caught.value)
    assert "builder lock" in caught.value.hint
    server.files[path] = data
    assert run(store, fetcher, good, gone) == [{"x": b"1"}, {"x": b"1"}]


@pytest.mark.parametrize(("name", "version"), [("other", "1.0-1"), ("one", "1.0-2")])
def test_a_package_has_to_be_the_one_that_was_locked(
    store: Store, fetcher: Fetcher, server: Server, name: str, version: str
) -> None:
    with pytest.raises(BadArchive, match=f"it says that it is {name} {version} amd64"):
        run(store, fetcher, package(server, "one", deb(member("x"), name=name, version=version)))


def test_downloads_may_be_thrown_away(store: Store, fetcher: Fetcher, server: Server) -> None:
    item = package(server, "one", deb(member("x", b"1"), name="one"))
    run(store, fetcher, item)
    for file in (store.root / "downloads").iterdir():
        file.unlink()
    assert run(store, fetcher, item) == [{"x": b"1"}]
    assert len(server.log) == 1


def test_blobs_that_are_gone_are_read_again(store: Store, fetcher: Fetcher, server: Server) -> None:
    item = package(server, "one", deb(member("x", b"1"), name="one"))
    run(store, fetcher, item)
    for file in (store.root / "blobs").rglob("*"):
        if file.is_file():
            file.unlink()
    assert run(store, fetcher, item) == [{"x": b"1"}]
    assert len(server.log) == 1


def test_many_archives_at_once(store: Store, fetcher: Fetcher, server: Server, tmp_path: Path) -> None:
    items = [
        package(server, f"p{n}", deb(*(member(f"d{n}/{m}", b"%d" % m * n) for m in range(30)), name=f"p{n}")) for n in range(40)
    ]
    found = run(store, fetcher, *items)
    assert found == [{f"d{n}": None, **{f"d{n}/{m}": b"%d" % m * n for m in range(30)}} for n in range(40)]


def test_what_is_added_during_a_commit_waits_for_the_next(store: Store) -> None:
    record = Import.of_package(LockedPackage("a", "1", "amd64", "pool/a", 1, "ab" * 32)).action.encode()
    with store.batch() as batch:
        batch.add_bytes(b"first")

        def meanwhile() -> None:
            batch._sync = lambda: None  # type: ignore[method-assign]
            tree = batch.add_manifest(Manifest([(b"x", batch.add_bytes(b"second"))]))
            batch.add_result(Result(record, "a", tree, 0, 0, "test"))

        batch._sync = meanwhile  # type: ignore[method-assign]
        batch.commit()
        assert store.read_result(Digest.of(record)) is None
        batch.commit()
        result = store.read_result(Digest.of(record))
        assert result is not None
        assert store.holds(store.read_manifest(result.output))
