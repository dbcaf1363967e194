"""Formats: pinned bytes and digests, one encoding a value, and bytes from anywhere."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store import codec
from store.action import Action
from store.codec import BadRecord
from store.digest import BadDigest, Digest
from store.errors import Error
from store.manifest import DIRECTORY, BadEntry, File, Manifest, Node, Symlink
from store.result import Result

BLOB = Digest.of(b"Hello, world!\n")
MANIFEST = Manifest(
    [
        (b"bin/hello", File(BLOB, 14, True)),
        (b"bin", DIRECTORY),
        (b"bin/hi", Symlink(b"hello")),
        (b"bin-2", DIRECTORY),
        (b"caf\xe9\n", File(Digest.of(b""), 0, False)),
    ]
)
ACTION = Action(
    "build", (("input root", MANIFEST.digest),), (1, "x86_64-linux", ["/bin/sh", "-c", "make"], b"\x00", True, None)
)
RESULT = Result(ACTION.encode(), "hello 2.10", MANIFEST.digest, 1_700_000_000, 1234, "builder 0.1.0", Digest.of(b"log"))

GOLDEN = {
    "empty": "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    "blob": "b3:94f1675bac4f8bc3c593c63dbf5fe78a0bfda01082af85d5b41a65096db56bff",
    "manifest": "b3:86e27552a7bcb3cdc6f1fdc2974b291619c25ab7a90dd214817391e8e9f1d275",
    "no entries": "b3:c4ecc7a1040613201c349f6fec930858335bdd78748f32cf525827fd25e8f9a6",
    "action": "b3:7c74e3045130beaaa9f2660b8339d71de133ffaa78553912f0a8f12cb5871c1c",
    "result": "b3:382508b22f70ab011b8c6b8491fca79c00499bc48f07dfa3e8e2cebb43eacc2d",
    "folder": "stywow5mj6f4hrmtyy636x7hrif73iaq",
}


def test_digests_are_pinned() -> None:
    # If this fails, every key and every name in every store changes: raise codec.FORMAT, and say so in the CHANGELOG.
    assert {
        "empty": str(Digest.of(b"")),
        "blob": str(BLOB),
        "manifest": str(MANIFEST.digest),
        "no entries": str(Manifest([]).digest),
        "action": str(ACTION.digest),
        "result": str(Digest.of(RESULT.encode())),
        "folder": BLOB.base32,
    } == GOLDEN


def test_a_record_is_readable_by_any_msgpack() -> None:
    assert msgpack.unpackb(Manifest([(b"a", DIRECTORY)]).encode()) == [1, "manifest", [[b"a", 0]]]
    assert msgpack.unpackb(Action("merge", (), ("x",)).encode()) == [1, "action", "merge", [], ["x"]]


def test_entries_are_in_the_order_of_a_walk() -> None:
    # Plain byte order would put "bin-2" between "bin" and what is in it.
    assert list(MANIFEST.nodes) == [b"bin", b"bin/hello", b"bin/hi", b"bin-2", b"caf\xe9\n"]


# -- round trips --

names = st.binary(min_size=1, max_size=8).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b".."))
digests = st.binary(min_size=32, max_size=32).map(Digest)
file_nodes = st.builds(File, digests, st.integers(0, 1 << 60), st.booleans())
links = st.builds(Symlink, st.binary(min_size=1, max_size=20).filter(lambda target: b"\0" not in target))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    nodes: dict[bytes, Node] = {}
    folders = [b""]
    for name, node in draw(st.lists(st.tuples(names, st.just(DIRECTORY) | file_nodes | links), max_size=12)):
        path = draw(st.sampled_from(folders)) + name
        if path not in nodes:
            nodes[path] = node
            if node == DIRECTORY:
                folders.append(path + b"/")
    order = draw(st.permutations(list(nodes.items())))
    return Manifest(order)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
leaves = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | texts | st.binary(max_size=12)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
labels = texts.filter(bool)
actions = st.builds(
    Action,
    st.sampled_from(["import", "root", "merge", "bare-root"]),
    st.lists(st.tuples(labels, digests), max_size=4).map(tuple),
    st.lists(values, max_size=4).map(tuple),
)
results = st.builds(
    Result, st.binary(max_size=40), texts, digests, st.integers(0, 1 << 40), st.integers(0, 1 << 40), texts, st.none() | digests
)


@given(manifests())
def test_manifest_round_trip(manifest: Manifest) -> None:
    again = Manifest.decode(manifest.encode())
    assert again == manifest
    assert list(again.nodes) == list(manifest.nodes)
    assert again.digest == manifest.digest


@given(actions)
def test_action_round_trip(action: Action) -> None:
    again = Action.decode(action.encode())
    assert again == action
    assert again.encode() == action.encode()


@given(results)
def test_result_round_trip(result: Result) -> None:
    assert Result.decode(result.encode()) == result


@given(values)
def test_values_of_another_type_have_another_encoding(value: codec.Value) -> None:
    assert codec.decode("x", codec.encode("x", [value]), 1) == [value]
    if value is not True:
        assert codec.encode("x", [value]) != codec.encode("x", [True])


# -- bytes from anywhere --

DECODERS: list[Callable[[bytes], Manifest | Action | Result]] = [Manifest.decode, Action.decode, Result.decode]


def agrees(data: bytes) -> None:
    """Each decoder refuses ``data`` with one of our errors, or encodes it the same."""
    for decode in DECODERS:
        try:
            value = decode(data)
        except (BadRecord, BadEntry):
            continue
        assert value.encode() == data


@given(st.binary(max_size=200))
@example(b"\x93\x01\xa8manifest" + b"\x91" * 1021 + b"\x90")
@example(b"\x93\x01\xa8manifest" + b"\x91" * 100_000)
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x93\x01\xa8manifest\xdd\xff\xff\xff\xff")
@example(b"\x93\x01\xa8manifest\xc6\xff\xff\xff\xff")
@example(b"\x93\x01\xa8manifest\xc7\x00\x01")
@example(b"\x93\x01\xa8manifest\xd7\xff" + b"\xff" * 8)
@example(b"\x93\x01\xa8manifest\x91\x92\xa1\xff\x00")
@example(b"\x93\x01\xa8manifest\x80")
@example(b"\x93\x01\xa8manifest\xca\x7f\xc0\x00\x00")
def test_any_bytes(data: bytes) -> None:
    agrees(data)


@given(st.sampled_from([MANIFEST.encode(), ACTION.encode(), RESULT.encode()]), st.data())
def test_damaged_bytes(good: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 3)))
    agrees(good[:start] + data.draw(st.binary(max_size=4)) + good[end:])


# Any record of the right outer form: the fields are what is fuzzed.
@given(st.sampled_from(["manifest", "action", "result"]), st.lists(values, min_size=1, max_size=7))
def test_wrong_fields(kind: str, fields: list[codec.Value]) -> None:
    agrees(codec.encode(kind, fields))


rows = st.one_of(
    st.lists(values, max_size=5),
    st.tuples(names, st.integers(-1, 3)).map(list),
    st.tuples(names, st.just(1), st.binary(min_size=31, max_size=33), st.integers(-1, 1 << 61), st.booleans()).map(list),
    st.tuples(names, st.just(2), st.binary(max_size=3)).map(list),
)


@given(st.lists(rows, max_size=4))
def test_wrong_entries(entries: list[codec.Value]) -> None:
    agrees(codec.encode("manifest", [entries]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x93\xcc\x01\xa8manifest\x90", id="a longer form of 1"),
        pytest.param(b"\x93\xc3\xa8manifest\x90", id="True for 1"),
        pytest.param(b"\x93\x02\xa8manifest\x90", id="format 2"),
        pytest.param(b"\x93\x01\xd9\x08manifest\x90", id="a longer form of a text"),
        pytest.param(b"\x93\x01\xa8manifest\xdc\x00\x00", id="a longer form of a list"),
        pytest.param(b"\x93\x01\xa8manifest\x90\x00", id="bytes behind it"),
        pytest.param(b"\x93\x01\xa8manifest\x91\x92\xc4\x01b\x00"[:-1], id="cut off"),
        pytest.param(b"\x93\x01\xa8manifest\x92\x92\xc4\x01b\x00\x92\xc4\x01a\x00", id="out of order"),
        pytest.param(b"\x93\x01\xa8manifest\x92\x92\xc4\x01a\x00\x92\xc4\x01a\x00", id="twice"),
        pytest.param(b"\x93\x01\xa8manifest\x91\x92\xc4\x01a\xc2", id="False for 0"),
        pytest.param(b"\x93\x01\xa8manifest\x91\x92\xa1a\x00", id="a text for bytes"),
        pytest.param(b"\x93\x01\xa8manifest\x80", id="a map"),
        pytest.param(b"\x93\x01\xa6action\x90", id="another kind"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_there_is_one_encoding(data: bytes) -> None:
    with pytest.raises((BadRecord, BadEntry)):
        Manifest.decode(data)


def test_an_action_has_bounds() -> None:
    for bad in ("", "Build", "a b", "x" * 33):
        with pytest.raises(BadRecord):
            Action(bad, (), ())
    with pytest.raises(BadRecord):
        Action("build", (("", BLOB),), ())
    with pytest.raises(BadRecord):
        Action("build", (("x" * 1025, BLOB),), ())
    with pytest.raises(BadRecord):
        Action("build", (), (b"x" * (1 << 24),)).encode()


@pytest.mark.parametrize(
    "text", ["", "b3:", BLOB.hex.upper(), f"b3:b3:{BLOB.hex}", BLOB.hex[:-1], BLOB.hex + "0", " " * 64, "é" * 64]
)
def test_a_digest_has_one_spelling(text: str) -> None:
    with pytest.raises(BadDigest):
        Digest.parse(text)
    assert Digest.parse(BLOB.hex) == Digest.parse(str(BLOB)) == BLOB


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"./a", b"a\0b", b"x" * 256, b"/".join([b"x" * 255] * 17)],
)
def test_names_that_no_tree_has(path: bytes) -> None:
    with pytest.raises(BadEntry):
        Manifest.with_parents([(path, DIRECTORY)])


def test_trees_that_no_disk_could_hold() -> None:
    leaf = File(BLOB, 1, False)
    wrong: list[list[tuple[bytes, Node]]] = [
        [(b"a", leaf), (b"a", leaf)],
        [(b"a/b", leaf)],
        [(b"a", leaf), (b"a/b", leaf)],
        [(b"a", Symlink(b"b")), (b"a/b", leaf)],
    ]
    for entries in wrong:
        with pytest.raises(BadEntry):
            Manifest(entries)
    for target in (b"", b"a\0", b"x" * 4096):
        with pytest.raises(BadEntry):
            Symlink(target)
    for size in (-1, (1 << 60) + 1):
        with pytest.raises(BadEntry):
            File(BLOB, size, False)


def test_errors_are_for_people() -> None:
    with pytest.raises(Error) as caught:
        Manifest([(b"bad\x1b[31m\xffname/../x", DIRECTORY)])
    assert caught.value.message.isprintable()
