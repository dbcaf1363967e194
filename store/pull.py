"""Pulling: trees from a remote into the store. Nothing gets a name here before its digest was compared."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, cast

from store import artifacts, parcels, remote
from store.artifacts import Folder
from store.batch import Batch, WrongBytes
from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest
from store.parcels import CHUNK, MAX_OBJECT, Place, Span, Waybill, expand
from store.remote import Lying, NotThere, Remote
from store.signing import Signed
from store.store import Store

Report = Callable[[int], None]
THREADS = 6
SAVE = 1 << 25  # bytes after which what came is given its names, so that a pull that breaks off goes on from there


@dataclass(slots=True)
class Pulled:
    """What a pull moved: bytes over the network, requests, blobs that came, and blobs that were here."""

    bytes: int = 0
    requests: int = 0
    blobs: int = 0
    known: int = 0


def waybill(place: Remote, base32: str) -> Waybill:
    """The waybill of the tree whose digest begins with ``base32``. Raises RemoteError: NotThere, or Lying."""
    data = place.read(remote.waybill_key(base32), MAX_OBJECT)
    if data is None:
        raise NotThere(place.name, f"the artifact {base32}")
    try:
        bill = Waybill.decode(data)
        Folder.of(bill.manifest.digest, bill.name, bill.version)  # or nothing can be called so
    except Error as error:
        raise Lying(place.name, f"the waybill {base32}", error.message) from None
    if bill.manifest.digest.base32 != base32:
        raise Lying(place.name, f"the waybill {base32}", f"it is of the tree {bill.manifest.digest.short}")
    return bill


def manifest(place: Remote, tree: Digest) -> Manifest | None:
    """A manifest that lies on the remote without its blobs, or None. Raises RemoteError."""
    data = place.read(remote.manifest_key(tree), MAX_OBJECT)
    if data is None:
        return None
    try:
        raw = expand("manifest", data)
        if Digest.of(raw) != tree:
            raise BadRecord("manifest", "its bytes have another digest")
        return Manifest.decode(raw)
    except Error as error:
        raise Lying(place.name, f"the manifest {tree.short}", error.message) from None


def results(place: Remote, action: Digest, signers: Iterable[str]) -> list[Signed]:
    """What the keys ``signers`` say came of an action; not verified yet. Raises RemoteError."""
    return [
        signed
        for signer in signers
        if (signed := _signed(place, remote.result_key(action, signer), signer)) and signed.statement.result.action == action
    ]


def named(place: Remote, name: str, platform: str, version: str | None, signers: Iterable[str]) -> list[Signed]:
    """What the keys ``signers`` say is the newest of a name, and of a version if one is given; not verified yet."""
    return [
        signed
        for signer in signers
        if (signed := _signed(place, remote.name_key(name, platform, version, signer), signer))
        and (signed.statement.name, signed.statement.platform) == (name, platform)
    ]


def _signed(place: Remote, key: str, signer: str) -> Signed | None:
    data = place.read(key, MAX_OBJECT)
    if data is None:
        return None
    try:
        signed = Signed.decode(data)
    except Error as error:
        raise Lying(place.name, key, error.message) from None
    if signed.signer != signer:
        raise Lying(place.name, key, "it was signed with another key than its name says")
    return signed


def pull(store: Store, place: Remote, bill: Waybill, *, report: Report = lambda _: None) -> Pulled:
    """Bring a tree into the store, without the blobs that are here. ``report`` gets the bytes of blobs that are dealt with.

    Raises RemoteError; then what came is kept, and no manifest.
    """
    done = Pulled()
    nodes = list({node: None for _, node in bill.manifest.files})
    # Before it is looked which are here: a collection may go on.
    store.use("blobs", *(store.blob_path(node.blob, executable=x).name for node in nodes for x in (False, True)))
    missing = [node for node in nodes if not store.has_blob(node)]
    done.known = len(nodes) - len(missing)
    report(sum(node.size for node in nodes) - sum(node.size for node in missing))
    distant = {node.blob for node in missing if not _is_here(store, node)}
    with store.batch() as batch:
        puller = _Puller(place, batch, done, report)
        puller.run(parcels.spans((node, where) for node, where in bill.where() if node.blob in distant))
        batch.commit()
        # One inode has one mode: a blob that is wanted with both is two files, of which one came.
        for node in missing:
            if not store.has_blob(node):
                with store.open_blob(node.blob) as file:
                    batch.add_expected(iter(lambda: file.read(CHUNK), b""), node)
        batch.commit()
        batch.add_manifest(bill.manifest)
    return done


def _is_here(store: Store, node: File) -> bool:
    """Whether the bytes are here, with the other mode."""
    return os.path.exists(store.blob_path(node.blob, executable=not node.executable))


def source(store: Store, place: Remote) -> Callable[[Digest], BinaryIO | None]:
    """The remote as something that may have the bytes of a digest: of what the artifacts in ``store`` are made of.

    What it gives raises RemoteError, and BadRecord for damage.
    """
    trees: dict[Digest, Manifest] = {}
    places: dict[Digest, tuple[File, Place]] = {}

    def look() -> None:
        for folder in artifacts.folders(store):
            with contextlib.suppress(NotThere):
                bill = waybill(place, folder.base32)
                trees[bill.manifest.digest] = bill.manifest
                places.update((node.blob, (node, where)) for node, where in bill.where())

    def give(digest: Digest) -> BinaryIO | None:
        if not trees:
            look()
        tree = trees.get(digest) or (None if digest in places else manifest(place, digest))
        if tree is not None:
            return io.BytesIO(tree.encode())
        if digest not in places:
            return None
        node, where = places[digest]
        pieces = _Pieces(place.stream(remote.parcel_key(where.parcel), where.offset, where.length))
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=store.root / "tmp"))
        for chunk in parcels.expanded(pieces.part(where.length), node.size):
            file.write(chunk)
        file.seek(0)
        return file

    return give


class _Puller:
    def __init__(self, place: Remote, batch: Batch, done: Pulled, report: Report) -> None:
        self.place = place
        self.batch = batch
        self.done = done
        self.report = report
        self.lock = threading.Lock()
        self.unsaved = 0
        self.stopped = threading.Event()

    def run(self, wanted: list[Span]) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(self.take, span) for span in wanted]
            try:
                for future in futures:
                    future.result()
            except BaseException as error:
                # One parcel that is damaged says nothing of those that are on their way.
                if not isinstance(error, (Lying, NotThere)):
                    self.stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                # What came is whole: the next attempt does not need to ask for it.
                self.batch.commit()
                raise

    def take(self, span: Span) -> None:
        with self.lock:
            self.done.requests += 1
        source = _Pieces(self.until_stopped(self.place.stream(remote.parcel_key(span.parcel), span.start, span.length)))
        for node, where in span.wanted:
            if self.stopped.is_set():
                return
            try:
                source.skip_to(where.offset - span.start)
                self.batch.add_expected(parcels.expanded(source.part(where.length), node.size), node)
                source.skip_to(where.offset - span.start + where.length)
            except (BadRecord, WrongBytes, EOFError) as error:
                reason = "it is cut off" if isinstance(error, EOFError) else error.message
                raise Lying(self.place.name, f"the parcel {span.parcel.short}", reason) from None
            self.save(node, source)

    def until_stopped(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """So that Ctrl-C, or another thread's failure, does not wait for the rest of a large blob."""
        for piece in pieces:
            if self.stopped.is_set():
                return
            yield piece

    def save(self, node: File, source: _Pieces) -> None:
        self.report(node.size)
        with self.lock:
            self.done.blobs += 1
            self.done.bytes += source.new()
            self.unsaved += node.size
            due = self.unsaved > SAVE
            if due:
                self.unsaved = 0
        if due:
            self.batch.commit()


class _Pieces:
    """A stream of pieces, read by position."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.rest = memoryview(b"")
        self.position = 0
        self.counted = 0

    def take(self, size: int) -> bytes:
        """At most ``size`` bytes, and at least one. Raises EOFError."""
        while not self.rest:
            piece = next(self.pieces, None)
            if piece is None:
                raise EOFError
            self.rest = memoryview(piece)
        taken = bytes(self.rest[:size])
        self.rest = self.rest[len(taken) :]
        self.position += len(taken)
        return taken

    def skip_to(self, position: int) -> None:
        while self.position < position:
            self.take(position - self.position)

    def part(self, length: int) -> _Part:
        return _Part(self, length)

    def new(self) -> int:
        """How many bytes were read since this was last asked."""
        count, self.counted = self.position - self.counted, self.position
        return count


class _Part:
    """The next bytes of a stream, and no more."""

    def __init__(self, pieces: _Pieces, length: int) -> None:
        self.pieces = pieces
        self.left = length

    def read(self, size: int, /) -> bytes:
        if not self.left:
            return b""
        taken = self.pieces.take(min(size if size > 0 else self.left, self.left))
        self.left -= len(taken)
        return taken
