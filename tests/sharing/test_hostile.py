"""Every record that may come from somebody else, with any part of it replaced: it is read, or refused in words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import lockfile
from store import codec, parcels, roots
from store.action import Action
from store.digest import Digest
from store.errors import Error
from store.manifest import DIRECTORY, File, Manifest, Symlink
from store.parcels import Condemned, Inventory, Place, Waybill
from store.result import Result
from store.signing import Signed, Statement, Trust
from store.store import Store
from tests.conftest import RECIPES
from tests.sharing.helpers import ANNA, statement

NAME = Digest.of(b"name")
TREE = Manifest([(b"a", DIRECTORY), (b"a/b", File(NAME, 5, True)), (b"c", Symlink(b"a"))])
ACTION = Action("build", (("input root", NAME),), ("x", 1, [["y", None]]))
SIGNED = ANNA.sign(statement(NAME))


def packed(record: type[Waybill | Inventory | Condemned]) -> Callable[[bytes], object]:
    return lambda data: record.decode(parcels.compress(data))


RECORDS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "manifest": (TREE.encode(), Manifest.decode),
    "action": (ACTION.encode(), Action.decode),
    "result": (SIGNED.statement.result.encode(), Result.decode),
    "statement": (SIGNED.statement.encode(), Statement.decode),
    "signed": (SIGNED.encode(), Signed.decode),
    "waybill": (parcels.expand("", Waybill("x", "1", TREE, (Place(NAME, 0, 9),)).encode()), packed(Waybill)),
    "inventory": (parcels.expand("", Inventory(((NAME, Place(NAME, 0, 9)),)).encode()), packed(Inventory)),
    "condemned": (parcels.expand("", Condemned((NAME,)).encode()), packed(Condemned)),
}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(max_size=8)
    | st.binary(max_size=40)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


def places(value: object, way: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """The way to each part of a record, and of the records that lie in it as bytes."""
    found = [way]
    if isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, (*way, number))
    elif isinstance(value, bytes):
        with contextlib.suppress(Exception):
            inner = msgpack.unpackb(value)
            if isinstance(inner, list):
                found += places(inner, (*way, -1))
    return found


def changed(value: Any, way: tuple[int, ...], to: object) -> Any:
    if not way:
        return to
    if way[0] == -1:
        return msgpack.packb(changed(msgpack.unpackb(value), way[1:], to))
    return [changed(inner, way[1:], to) if number == way[0] else inner for number, inner in enumerate(value)]


@pytest.mark.parametrize("kind", RECORDS)
@given(data=st.data())
def test_any_part_replaced(kind: str, data: st.DataObject) -> None:
    good, decode = RECORDS[kind]
    decode(good)
    record = msgpack.unpackb(good)
    way = data.draw(st.sampled_from(places(record)))
    other = msgpack.packb(changed(record, way, data.draw(VALUES)))
    try:
        read = decode(other)
    except Error as error:
        assert error.message
        return
    # What was read can be used: it has bytes, the same ones. (An inventory forgets parcels that hold nothing.)
    encoded = read.encode()  # type: ignore[attr-defined]
    if kind in ("waybill", "condemned", "inventory"):
        encoded = parcels.expand(kind, encoded)
    assert encoded == other or kind == "inventory"
    if isinstance(read, Signed):
        assert other == good or Trust({ANNA.public().id: ANNA.public()}).believed([read]) == []


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("depth", [300, 505, 515, 600, 1020, 1030, 100_000])
def test_lists_in_lists_without_end(kind: str, depth: int) -> None:
    """Deep enough to be read and too deep to be written, among others."""
    _, decode = RECORDS[kind]
    for start in (b"", b"\x93\x01" + msgpack.packb(kind), b"\x97\x01" + msgpack.packb(kind)):
        with pytest.raises(Error):
            decode(start + b"\x91" * depth + b"\x90")


@given(data=st.binary(max_size=100), at=st.integers(0, 200), kind=st.sampled_from(["link", "name", "other"]))
def test_roots(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, kind: str) -> None:
    store = Store(tmp_path_factory.mktemp("roots"), durable=False)
    key = data[:20]
    good = codec.encode("root", [kind, key, NAME.raw])
    for number, written in enumerate((data, good, good[:at] + data + good[at:])):
        place = store.root / "roots" / f"{kind}-{Digest.of(key).base32 if number else 'x'}"
        place.write_bytes(written)
        with contextlib.suppress(Error):
            roots.read(store, place.name)
        with contextlib.suppress(Error):
            roots.listed(store)


LOCK = (RECIPES / "toolchain.lock").read_text().splitlines(keepends=True)
SMALL = [line for line in LOCK if not line.startswith("package")] + [line for line in LOCK if line.startswith("package")][:3]


@given(line=st.integers(0, len(SMALL) - 1), at=st.integers(0, 90), text=st.text(max_size=9), drop=st.integers(0, 30))
def test_lock_files(line: int, at: int, text: str, drop: int) -> None:
    changed_line = SMALL[line][:at] + text + SMALL[line][at + drop :]
    try:
        lock = lockfile.parse("".join([*SMALL[:line], changed_line, *SMALL[line + 1 :]]), "x.lock")
    except Error:
        return
    for package in lock.packages:
        assert package.path.startswith("pool/")
        assert ".." not in Path(package.path).parts
        assert len(bytes.fromhex(package.sha256)) == 32
