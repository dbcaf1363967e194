from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.archives import BadArchive, read_deb, read_tar, usr_merged
from builder.streams import Bounds
from store.digest import Digest
from store.manifest import DIRECTORY, BadEntry, File, Manifest, Symlink
from tests.sources.helpers import COMPRESSIONS, ar, contents, deb, folder, link, member, taken, taken_deb, tar


class Nowhere:
    """A sink that keeps nothing."""

    def add_bytes(self, data: bytes, *, executable: bool = False) -> File:
        return File(Digest.of(data), len(data), executable)

    def add_stream(self, chunks: Iterable[bytes], *, executable: bool = False, limit: int = 1 << 40) -> File:
        return self.add_bytes(b"".join(chunks), executable=executable)


GOOD = (
    folder("./"),
    folder("./bin"),
    member("./bin/run", b"#!/bin/sh\n", mode=0o4755),
    member("./bin/data", b"data", mode=0o640),
    link("./bin/link", "../etc/passwd"),
    member("./bin/same", kind=tarfile.LNKTYPE, target="./bin/run"),
    folder("./empty"),
    member("./nothing", b""),
    member("./large", bytes(3 << 20) + b"end"),
)
EXPECTED = {
    "bin": None,
    "bin/run": ("x", b"#!/bin/sh\n"),
    "bin/data": b"data",
    "bin/link": "-> ../etc/passwd",
    "bin/same": ("x", b"#!/bin/sh\n"),
    "empty": None,
    "nothing": b"",
    "large": bytes(3 << 20) + b"end",
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_becomes_a_tree(tmp_path: Path, compression: str, form: int) -> None:
    data = COMPRESSIONS[compression](tar(*GOOD, form=form))
    assert contents(taken(data, tmp_path), tmp_path) == EXPECTED


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_package_becomes_a_tree(tmp_path: Path, compression: str) -> None:
    found = taken_deb(deb(*GOOD, compression=compression, name="hello", version="1:2-3", architecture="all"), tmp_path)
    assert (found.package, found.version, found.architecture) == ("hello", "1:2-3", "all")
    assert contents(found.tree, tmp_path) == EXPECTED


def test_leading_components_are_left_out(tmp_path: Path) -> None:
    data = tar(folder("hello-1/"), member("hello-1/configure", b"x", mode=0o755), member("hello-1/src/deep/a.c", b"int a;"))
    assert contents(taken(data, tmp_path, strip=1), tmp_path) == {
        "configure": ("x", b"x"),
        "src": None,
        "src/deep": None,
        "src/deep/a.c": b"int a;",
    }
    linked = tar(member("a-1/x", b"x"), member("a-1/y", kind=tarfile.LNKTYPE, target="a-1/x"))
    assert contents(taken(linked, tmp_path, strip=1), tmp_path) == {"x": b"x", "y": b"x"}


def test_a_file_that_would_lose_its_whole_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="nothing is left of its name"):
        taken(tar(member("README", b"x"), member("a-1/x", b"x")), tmp_path, strip=1)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tmp_path: Path, form: int) -> None:
    name, target = "d" * 120 + "/" + "f" * 200, "t" * 300
    data = tar(member(name, b"x"), link("link", target), form=form)
    assert contents(taken(data, tmp_path), tmp_path) == {"d" * 120: None, name: b"x", "link": f"-> {target}"}


def test_identical_directories_are_one(tmp_path: Path) -> None:
    assert contents(taken(tar(folder("a"), member("a/x", b""), folder("./a/")), tmp_path), tmp_path) == {"a": None, "a/x": b""}


HOSTILE = {
    "an absolute name": ((member("/etc/passwd", b"x"),), "an absolute name"),
    "a way out": ((member("a/../../x", b"x"),), "leads out"),
    "a file twice": ((member("a", b"1"), member("./a", b"1")), "twice"),
    "a file over a directory": ((folder("a"), member("a", b"1")), "twice"),
    "an entry under a symlink": ((link("a", "/etc"), member("a/passwd", b"x")), "not a directory"),
    "an entry under a file": ((member("a", b""), member("a/b", b"x")), "not a directory"),
    "a device": ((member("null", kind=tarfile.CHRTYPE),), "a device"),
    "a disk": ((member("sda", kind=tarfile.BLKTYPE),), "a device"),
    "a pipe": ((member("pipe", kind=tarfile.FIFOTYPE),), "a named pipe"),
    "a hard link to the outside": ((member("a", kind=tarfile.LNKTYPE, target="/etc/passwd"),), "absolute"),
    "a hard link out": ((member("a", kind=tarfile.LNKTYPE, target="../passwd"),), "leads out"),
    "a hard link to what comes later": ((member("a", kind=tarfile.LNKTYPE, target="b"), member("b", b"")), "no file before it"),
    "a hard link to a directory": ((folder("b"), member("a", kind=tarfile.LNKTYPE, target="b")), "no file before it"),
    "a symlink to nothing": ((link("a", ""),), "a symlink whose target is empty"),
    "a name that is too long": ((member("x" * 256, b""),), "longer than 255"),
    "a deep name": ((member("a/" * 200 + "b", b""),), "more than 128 components"),
    "an unknown kind": ((member("a", kind=b"V"),), "unknown kind"),
    "a sparse file": ((member("a", kind=b"S"),), "sparse"),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_hostile_members_are_refused_by_name(tmp_path: Path, what: str, form: int) -> None:
    members, message = HOSTILE[what]
    with pytest.raises(BadArchive, match=message) as caught:
        taken(tar(*members, form=form), tmp_path)
    assert caught.value.entry
    assert str(caught.value).startswith("some.tar: ")
    with pytest.raises(BadArchive, match=message):
        taken_deb(deb(*members), tmp_path)
    assert not any(path.is_file() for path in (tmp_path / "blobs").rglob("*"))


@pytest.mark.parametrize("size", [(1 << 64) - 1, 1 << 63, 1 << 40, (1 << 88) - 1])
def test_a_member_that_claims_to_be_huge(tmp_path: Path, size: int) -> None:
    header = bytearray(tar(member("a", b"x"))[:512])
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    with pytest.raises(BadArchive, match="are the most that is taken"):
        taken(_summed(header) + b"x" * 512, tmp_path)


def test_a_member_of_negative_size(tmp_path: Path) -> None:
    header = bytearray(tar(member("a", b"x"))[:512])
    header[124:136] = (-1).to_bytes(12, "big", signed=True)
    with pytest.raises(BadArchive, match="negative"):
        taken(_summed(header) + bytes(1024), tmp_path)


def _summed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


def _pax(records: bytes, kind: bytes = b"x") -> bytes:
    header = bytearray(tar(member("PaxHeader", records, kind=tarfile.REGTYPE))[:512])
    header[156:157] = kind
    return _summed(header) + records + bytes(-len(records) % 512)


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n"
    size = next(size for size in range(len(body), 99) if len(f"{size}{body}") == size)
    return f"{size}{body}".encode()


def test_pax_headers(tmp_path: Path) -> None:
    rest = tar(member("short", b"four"))
    assert contents(taken(_pax(_record("path", "a/b/c") + _record("comment", "")) + rest, tmp_path), tmp_path) == {
        "a": None,
        "a/b": None,
        "a/b/c": b"four",
    }
    assert contents(taken(_pax(_record("comment", "abcd"), b"g") + rest, tmp_path), tmp_path) == {"short": b"four"}
    for records, kind, message in (
        (_record("path", "/x"), b"x", "absolute"),
        (_record("path", "../a"), b"x", "leads out"),
        (_record("path", "a\0b"), b"x", "NUL"),
        (_record("size", str((1 << 64) - 1)), b"x", "the most that is taken"),
        (_record("size", "-123"), b"x", "no number"),
        (b"99 path=a\n", b"x", "pax header is damaged"),
        (b"path=a\n", b"x", "pax header is damaged"),
        (b"0 path=a\n", b"x", "pax header is damaged"),
        (b"9 path=ab\n", b"x", "pax header is damaged"),
        (_record("path", "a"), b"g", "global header"),
        (_record("GNU.sparse.major", "1"), b"x", "sparse"),
    ):
        with pytest.raises(BadArchive, match=message):
            taken(_pax(records, kind) + rest, tmp_path)


def test_endless_headers_are_not_taken_into_memory(tmp_path: Path) -> None:
    long = _pax(_record("comment", "abcd")) * 4000 + tar(member("a", b""))
    with pytest.raises(BadArchive, match="names and attributes"):
        taken(long, tmp_path)
    header = bytearray(_pax(b"")[:512])
    header[124:136] = b"\x80" + (1 << 62).to_bytes(11, "big")
    with pytest.raises(BadArchive, match="names and attributes"):
        taken(_summed(header), tmp_path)


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
def test_bombs(tmp_path: Path, compression: str) -> None:
    data = COMPRESSIONS[compression](tar(member("zeros", bytes(20 << 20))))
    with pytest.raises(BadArchive, match="times its own size"):
        taken(data, tmp_path, bounds=Bounds(ratio=10, free=1 << 20))
    with pytest.raises(BadArchive, match="unpacks to more than"):
        taken(data, tmp_path, bounds=Bounds(total=1 << 20))
    with pytest.raises(BadArchive, match="are the most that is taken"):
        taken(data, tmp_path, bounds=Bounds(file=1 << 20))
    with pytest.raises(BadArchive, match="more than 3 entries"):
        taken(tar(*(folder(f"d{n}") for n in range(4))), tmp_path, bounds=Bounds(entries=3))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_truncation_is_seen(compression: str) -> None:
    noise = random.Random(1).randbytes(3000)
    whole = COMPRESSIONS[compression](tar(member("a", noise), link("b", "a")).rstrip(b"\0") + bytes(1024))
    read_tar(io.BytesIO(whole), Nowhere(), "t")
    # The end of a tar is a block of zeros: without compression, a cut in zeros behind it cannot be seen, and does no harm.
    last = len(whole) - (1024 if compression == "plain" else 0)
    for cut in range(0, last, 7):
        with pytest.raises(BadArchive):
            read_tar(io.BytesIO(whole[:cut]), Nowhere(), "t")
    package = deb(member("a", noise), compression=compression)
    for cut in range(0, len(package) - (10240 if compression == "plain" else 2), 7):
        with pytest.raises(BadArchive):
            read_deb(io.BytesIO(package[:cut]), Nowhere(), "t")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_follows_the_end_is_an_error(tmp_path: Path, compression: str) -> None:
    whole = COMPRESSIONS[compression](tar(member("a", b"x")))
    with pytest.raises(BadArchive, match="something else follows"):
        taken(whole + b"garbage", tmp_path)
    with pytest.raises(BadArchive, match="damaged"):
        taken_deb(deb(member("a", b"x")) + b"garbage", tmp_path)


def test_two_streams_are_one(tmp_path: Path) -> None:
    data = tar(member("a", bytes(range(256)) * 40))
    for pack in COMPRESSIONS.values():
        assert contents(taken(pack(data[:3000]) + pack(data[3000:]), tmp_path), tmp_path) == {"a": bytes(range(256)) * 40}


def test_packages_of_a_wrong_form(tmp_path: Path) -> None:
    data, control = tar(member("a", b"x")), tar(member("control", b"Package: a\nVersion: 1\nArchitecture: all\n"))
    start = ("debian-binary", b"2.0\n")
    for parts, message in (
        ((start, ("data.tar", data)), "its part data.tar"),
        ((start, ("control.tar", control)), "no data.tar"),
        ((("debian-binary", b"3.0\n"), ("control.tar", control), ("data.tar", data)), "format 2"),
        ((start, ("control.tar", tar(member("control", b"Package: a\n"))), ("data.tar", data)), "no field Version"),
        ((start, ("control.tar", tar(member("control", bytes(2 << 20)))), ("data.tar", data)), "more than 1048576 bytes"),
        ((start, ("control.tar", tar(member("x", b""))), ("data.tar", data)), "no field Package"),
        ((start, ("evil", b""), ("control.tar", control), ("data.tar", data)), "its part evil"),
    ):
        with pytest.raises(BadArchive, match=message):
            taken_deb(ar(*parts), tmp_path)
    for data in (b"", b"PK\3\4", b"!<arch>\nxyz"):
        with pytest.raises(BadArchive):
            taken_deb(data, tmp_path)
    # deb(5): parts behind data.tar, and parts with a leading underscore, are left alone.
    extra = ar(start, ("_x", b"1"), ("control.tar", control), ("data.tar", tar(member("a", b"x"))), ("_y", b"123"))
    assert contents(taken_deb(extra, tmp_path).tree, tmp_path) == {"a": b"x"}


NAMES = st.sampled_from(["a", "b", "a/b", "./a", "a/", "../a", "/a", "a/b/c", "", ".", "é", "x" * 101, "a//b", "y" * 300])
MEMBERS = st.lists(
    st.builds(
        member,
        NAMES,
        kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE]),
        mode=st.integers(0, 0o7777),
        target=NAMES,
    ),
    max_size=6,
)


@given(MEMBERS, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_is_taken_is_what_the_standard_library_sees(members: list[tuple[tarfile.TarInfo, bytes]], form: int) -> None:
    data = tar(*members, form=form)
    try:
        tree = read_tar(io.BytesIO(data), Nowhere(), "t")
    except BadArchive:
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        seen = {"/".join(part for part in info.name.split("/") if part not in ("", ".")): info for info in archive}
    seen.pop("", None)
    for name, info in seen.items():
        node = tree[name.encode()]
        assert isinstance(node, DIRECTORY.__class__) == info.isdir()
        if info.issym():
            assert node == Symlink(info.linkname.encode())
        if info.isreg():
            assert isinstance(node, File)
            assert node.executable == bool(info.mode & 0o111)
    implied = {name.rpartition("/")[0] for name in seen}
    assert {name.decode() for name in tree} <= {*seen, *implied, *(name.rpartition("/")[0] for name in implied)}


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(COMPRESSIONS)), st.data())
def test_damage_is_an_error_and_nothing_else(compression: str, data: st.DataObject) -> None:
    good = bytearray(deb(*GOOD[:-1], compression=compression))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_deb(io.BytesIO(bytes(good)), Nowhere(), "t")
        read_tar(io.BytesIO(bytes(good)), Nowhere(), "t")
    except BadArchive:
        pass


@given(st.binary(max_size=2000))
def test_noise_is_an_error(noise: bytes) -> None:
    for start in (b"", b"!<arch>\n", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x1f\x8b\x08", b"BZh9"):
        for read in (read_tar, read_deb):
            with pytest.raises(BadArchive):
                read(io.BytesIO(start + noise), Nowhere(), "t")


def test_merging_usr() -> None:
    x = File(Digest.of(b"x"), 1, True)
    tree = Manifest.with_parents([(b"bin/sh", Symlink(b"dash")), (b"bin/dash", x), (b"lib64/ld.so", x), (b"usr/bin/env", x)])
    merged = usr_merged(tree)
    assert list(merged) == [
        b"usr",
        b"usr/bin",
        b"usr/bin/dash",
        b"usr/bin/env",
        b"usr/bin/sh",
        b"usr/lib64",
        b"usr/lib64/ld.so",
    ]
    assert usr_merged(merged) == merged
    both = Manifest.with_parents([(b"lib/x", x), (b"usr/lib/x", x)])
    assert list(usr_merged(both)) == [b"usr", b"usr/lib", b"usr/lib/x"]
    links = Manifest.with_parents([(b"lib", Symlink(b"usr/lib")), (b"usr/lib/x", x)])
    assert list(usr_merged(links)) == [b"usr", b"usr/lib", b"usr/lib/x"]
    with pytest.raises(BadEntry, match="beside it"):
        usr_merged(Manifest.with_parents([(b"lib/x", x), (b"usr/lib/x", Symlink(b"y"))]))
    with pytest.raises(BadEntry, match="no directory"):
        usr_merged(Manifest([(b"lib", x)]))
