"""Pushing: trees, and what is said of them, to a remote.

Everything is there before its name is: parcels before the inventory that lists them, and before the waybill that needs them;
trees before the results that give them, and those before the names. So a push that breaks off leaves nothing that is not whole,
and the next one finds what came across.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import zstandard
from blake3 import blake3

from store import codec, remote
from store.artifacts import Folder
from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.manifest import File
from store.parcels import CHUNK, LEVEL, MAX_OBJECT, SIZE, Condemned, Inventory, Place, Waybill, compress, unique
from store.remote import Lying, Remote, RemoteError
from store.signing import Signed
from store.store import Store

Report = Callable[[int], None]
THREADS = 8
CHECKPOINT = 4  # parcels, after which an inventory says that they are there
MOST_ROUNDS = 5


@dataclass(slots=True)
class Pushed:
    """What a push moved: bytes, parcels and blobs that the remote did not have, and how many blobs it had."""

    bytes: int = 0
    parcels: int = 0
    blobs: int = 0
    known: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What to push: trees with their blobs, each under a folder's name; trees without; and signed results.

    ``pointers`` are signed results that ``pull NAME`` finds, and have to be among ``results``.
    """

    trees: Sequence[tuple[Folder, Digest]]
    manifests: Sequence[Digest] = ()
    results: Sequence[Signed] = ()
    pointers: Sequence[Signed] = ()


def check_mark(place: Remote, *, make: bool = False) -> None:
    """Raises RemoteError unless ``place`` is a remote that this builder can use; with ``make`` an empty one becomes one."""
    data = place.read(remote.MARK, 1024)
    if data is None:
        if make:
            place.write(remote.MARK, codec.encode("remote", []))
            return
        raise RemoteError(place.name, "there is no remote yet", hint="The first `builder push` makes it. Is its address right?")
    try:
        codec.decode("remote", data, 0)
    except BadRecord as error:
        raise RemoteError(place.name, f"not a remote of this builder: {error.message}", hint="Is its address right?") from None


def push(store: Store, place: Remote, load: Load, *, again: bool = False, report: Report = lambda _: None) -> Pushed:
    """Bring ``load`` to a remote, without what it has. ``report`` gets the bytes of blobs that are dealt with.

    ``again`` sends everything, whatever the remote says it has. Raises RemoteError, MissingManifest, MissingBlob.
    """
    check_mark(place, make=True)
    done = Pushed()
    manifests = [(folder, store.read_manifest(tree)) for folder, tree in load.trees]
    with ThreadPoolExecutor(THREADS) as pool, store.workspace() as folder:
        known = {} if again else inventory(place, pool)
        sender = _Sender(store, place, folder, done, report, again=again)
        wanted = {node.blob: node for _, manifest in manifests for node in unique(manifest)}
        places: dict[Digest, Place] = {}
        for _ in range(MOST_ROUNDS):
            # Not only at the start: what is condemned after the last look is safe for longer than the rest takes.
            lost = (set() if again else set(read_condemned(place))) | _gone(
                place, {known[blob].parcel for blob in wanted if blob in known}
            )
            places = {blob: known[blob] for blob in wanted if blob in known and known[blob].parcel not in lost}
            if len(places) == len(wanted):
                break
            known |= sender.send([node for blob, node in wanted.items() if blob not in places], avoid=lost)
        else:
            raise RemoteError(place.name, "its garbage is collected faster than this push goes")
        done.known = len(wanted) - done.blobs
        waybills = [
            (folder, Waybill(folder.name, folder.version, tree, tuple(places[node.blob] for node in unique(tree))))
            for folder, tree in manifests
        ]
        _all(pool, [partial(sender.write, remote.waybill_key(folder.base32), bill.encode()) for folder, bill in waybills])
        _all(pool, [partial(_manifest, store, sender, tree) for tree in load.manifests])
        _all(pool, [partial(_result, sender, signed) for signed in load.results])
        _all(pool, [partial(_pointer, sender, signed, newest) for signed in load.pointers for newest in (False, True)])
    return done


def _gone(place: Remote, listed: set[Digest]) -> set[Digest]:
    """The parcels that an inventory lists and that are not there any more."""
    every = sorted(listed, key=lambda parcel: parcel.raw)
    there = place.has([remote.parcel_key(parcel) for parcel in every])
    return {parcel for parcel, is_there in zip(every, there, strict=True) if not is_there}


def _all(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], None]]) -> None:
    for future in [pool.submit(job) for job in jobs]:
        future.result()


def _manifest(store: Store, sender: _Sender, tree: Digest) -> None:
    key = remote.manifest_key(tree)
    if sender.again or not sender.place.has([key])[0]:
        sender.write(key, compress(store.read_manifest(tree).encode()))


def _result(sender: _Sender, signed: Signed) -> None:
    sender.write(remote.result_key(signed.statement.result.action, signed.signer), signed.encode())


def _pointer(sender: _Sender, signed: Signed, newest: bool) -> None:
    said = signed.statement
    version = None if newest else Folder.of(said.result.output, said.name, said.version).version
    sender.write(remote.name_key(said.name, said.platform, version, signed.signer), signed.encode())


def inventory(place: Remote, pool: ThreadPoolExecutor) -> dict[Digest, Place]:
    """What the remote says it has, and where. Raises RemoteError. A damaged list counts as none: then more is sent."""

    def read(key: str) -> Inventory:
        data = place.read(key, MAX_OBJECT)
        try:
            return Inventory(()) if data is None else Inventory.decode(data)
        except BadRecord:
            return Inventory(())

    known: dict[Digest, Place] = {}
    for found in pool.map(read, [item.key for item in place.objects(remote.INVENTORIES)]):
        known.update(found.places)
    return known


def read_condemned(place: Remote) -> tuple[Digest, ...]:
    """The parcels that go at the next collection. Raises RemoteError."""
    data = place.read(remote.CONDEMNED, MAX_OBJECT)
    try:
        return () if data is None else Condemned.decode(data).parcels
    except BadRecord as error:
        raise Lying(place.name, remote.CONDEMNED, error.message) from None


@dataclass(slots=True)
class _Open:
    """A parcel that is being filled."""

    path: Path
    hasher: blake3 = field(default_factory=blake3)
    size: int = 0
    rows: list[tuple[Digest, int, int]] = field(default_factory=list)


class _Sender:
    def __init__(self, store: Store, place: Remote, folder: Path, done: Pushed, report: Report, *, again: bool) -> None:
        self.again = again
        self.store = store
        self.place = place
        self.folder = folder
        self.done = done
        self.report = report
        self.lock = threading.Lock()
        self.count = 0

    def write(self, key: str, data: bytes | Path, size: int | None = None) -> None:
        self.place.write(key, data)
        with self.lock:
            self.done.bytes += len(data) if isinstance(data, bytes) else size or 0

    def send(self, nodes: Sequence[File], *, avoid: set[Digest]) -> dict[Digest, Place]:
        """Put blobs there, in parcels that are no condemned ones. Gives where they are now."""
        places: dict[Digest, Place] = {}
        fresh: list[tuple[Digest, Place]] = []
        # Two at a time: one is compressed while another is on its way, and no more than two wait on this disk.
        with ThreadPoolExecutor(2) as pool:
            running: list[Future[list[tuple[Digest, Place]]]] = []
            since = 0
            for group in groups(nodes):
                running.append(pool.submit(self.parcel, group, avoid))
                if len(running) > 3:
                    fresh += running.pop(0).result()
                    since += 1
                if since >= CHECKPOINT:
                    self.list_parcels(fresh)
                    places.update(fresh)
                    fresh, since = [], 0
            for future in running:
                fresh += future.result()
        if fresh:
            self.list_parcels(fresh)
            places.update(fresh)
        return places

    def list_parcels(self, rows: list[tuple[Digest, Place]]) -> None:
        data = Inventory(tuple(rows)).encode()
        self.write(f"{remote.INVENTORIES}{Digest.of(data).hex}", data)

    def parcel(self, nodes: Sequence[File], avoid: set[Digest]) -> list[tuple[Digest, Place]]:
        """Make one parcel and put it there."""
        with self.lock:
            self.count += 1
            filling = _Open(self.folder / f"parcel-{self.count}")
        try:
            with open(filling.path, "xb") as file:
                for node in nodes:
                    self.fill(filling, node, file.write)
                digest = Digest(filling.hasher.digest())
                if digest in avoid:
                    # Under its old name it would be removed. A frame of no content changes the name and nothing else.
                    filler = (
                        b"\x50\x2a\x4d\x18\x08\x00\x00\x00" + blake3(digest.raw + bytes(str(self.count), "ascii")).digest()[:8]
                    )
                    file.write(filler)
                    filling.hasher.update(filler)
                    filling.size += len(filler)
                    digest = Digest(filling.hasher.digest())
            key = remote.parcel_key(digest)
            if self.again or not self.place.has([key])[0]:
                self.write(key, filling.path, filling.size)
        finally:
            filling.path.unlink(missing_ok=True)
        with self.lock:
            self.done.parcels += 1
            self.done.blobs += len(nodes)
        return [(blob, Place(digest, offset, length)) for blob, offset, length in filling.rows]

    def fill(self, filling: _Open, node: File, write: Callable[[bytes], int]) -> None:
        start = filling.size
        hasher = blake3()
        for piece in self.frame(node, hasher):
            write(piece)
            filling.hasher.update(piece)
            filling.size += len(piece)
        if Digest(hasher.digest()) != node.blob:
            # Nobody is to get what this disk has lost.
            raise Error(f"the blob {node.blob.short} of this store is damaged", hint="`builder check --repair` mends it.")
        filling.rows.append((node.blob, start, filling.size - start))
        self.report(node.size)

    def frame(self, node: File, hasher: blake3) -> Iterator[bytes]:
        # A large one has a parcel of its own, for which no other core may have anything to do.
        threads = -1 if node.size >= SIZE else 0
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True, threads=threads)
        with self.store.open_blob(node.blob) as file:
            if node.size <= CHUNK:
                data = file.read()
                hasher.update(data)
                yield compressor.compress(data)
                return
            stream = compressor.compressobj(size=node.size)
            while piece := file.read(CHUNK):
                hasher.update(piece)
                try:
                    yield stream.compress(piece)
                except zstandard.ZstdError:  # more bytes than there should be
                    return
            yield stream.flush()


def groups(nodes: Iterable[File]) -> Iterator[list[File]]:
    """Blobs as they go into parcels: neighbours together, large ones alone. The same blobs are the same parcels every time."""
    group: list[File] = []
    size = 0
    for node in nodes:
        if node.size >= SIZE:
            yield [node]
            continue
        # Without compression it is full at twice its size: what that comes to is not known before.
        if group and size + node.size > 2 * SIZE:
            yield group
            group, size = [], 0
        group.append(node)
        size += node.size
    if group:
        yield group
