"""Garbage collection on a remote: removing what no waybill needs, while others may be pushing.

A push finds blobs in parcels that are there and then writes a waybill that relies on them, and no lock keeps the two together.
So parcels go in two steps. One collection writes the list of those that nothing needs, ``condemned``. A push that reads it
sends such blobs again, in other parcels; one that read it before has ``grace`` seconds to write its waybill. A later collection
looks anew, and removes those that are condemned for so long and still not needed. Times are the remote's own, of its objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from store import codec, pull, push, remote
from store.digest import Digest
from store.errors import Error
from store.graph import Graph, Step, step_of
from store.parcels import MAX_OBJECT, Condemned, Inventory, Waybill
from store.remote import Lying, NotThere, Object, Remote, RemoteError
from store.result import Result
from store.signing import Signed

THREADS = 8


@dataclass(frozen=True, slots=True)
class Gone:
    """What a collection removed, or would remove; ``size`` in bytes. ``condemned`` parcels go next time."""

    waybills: tuple[str, ...]
    results: int
    manifests: int
    parcels: int
    size: int
    condemned: int


def collect(place: Remote, *, keep_newest: int | None = None, grace: float, dry_run: bool = False) -> Gone:
    """Remove what nothing needs; with ``keep_newest`` also all but so many artifacts of each name and platform.

    Raises RemoteError; nothing is removed when something cannot be read, for it may need anything.
    """
    push.check_mark(place)
    return _Collection(place, keep_newest, grace, dry_run=dry_run).run()


class _Collection:
    def __init__(self, place: Remote, keep_newest: int | None, grace: float, *, dry_run: bool) -> None:
        self.place = place
        self.keep_newest = keep_newest
        self.grace = grace
        self.dry_run = dry_run
        self.size = 0

    def run(self) -> Gone:
        place = self.place
        with ThreadPoolExecutor(THREADS) as pool:
            # The remote's clock, by an object that is written now.
            place.write(remote.CLOCK, codec.encode("clock", []))
            now = next((item.modified for item in place.objects("") if item.key == remote.CLOCK), None)
            if now is None:
                raise RemoteError(place.name, "it does not list what was written just now")
            waybills = {item.key: item for item in place.objects(remote.WAYBILLS)}
            bills = dict(zip(waybills, pool.map(self.waybill, waybills), strict=True))
            results = list(place.objects(remote.RESULTS))
            signed = dict(
                zip((item.key for item in results), pool.map(self.signed, (item.key for item in results)), strict=True)
            )
            names = [item.key for item in place.objects(remote.NAMES)]
            pointers = dict(zip(names, pool.map(self.signed, names), strict=True))

            kept, old = self.newest(bills, waybills, signed.values())
            living = {bill.manifest.digest for key, bill in bills.items() if key in kept}
            trees, way = _SignedGraph(signed.values()).behind(living)
            actions = {step.action for step in way}
            # Results first, then trees, then parcels: what is left is whole at any moment.
            dead_names = [key for key, one in pointers.items() if one.statement.result.output not in living]
            fresh = now - self.grace
            dead_results = [
                item for item in results if signed[item.key].statement.result.action not in actions and item.modified < fresh
            ]
            manifests = [
                item
                for item in place.objects(remote.MANIFESTS)
                if item.key.rpartition("/")[2] not in {tree.hex for tree in trees} and item.modified < fresh
            ]
            dead_bills = [waybills[key] for key in old]
            self.remove(dead_names)
            self.remove_objects([*dead_results, *manifests, *dead_bills])
            needed = {where.parcel for key in kept for where in bills[key].places}
            parcels, condemned = self.parcels(needed, now, pool)
        return Gone(
            tuple(f"{bills[key].name}-{bills[key].version}" for key in old),
            len(dead_results), len(manifests), parcels, self.size, condemned,
        )  # fmt: skip

    def waybill(self, key: str) -> Waybill:
        return pull.waybill(self.place, key.rpartition("/")[2])

    def signed(self, key: str) -> Signed:
        data = self.place.read(key, MAX_OBJECT)
        if data is None:
            raise NotThere(self.place.name, key)
        try:
            return Signed.decode(data)
        except Error as error:
            raise Lying(self.place.name, key, error.message) from None

    def newest(
        self, bills: dict[str, Waybill], objects: dict[str, Object], signed: Iterable[Signed]
    ) -> tuple[set[str], list[str]]:
        """The waybills that stay, and those that go."""
        if self.keep_newest is None:
            return set(bills), []
        groups: dict[tuple[str, bool], list[str]] = {}
        # A raw output has its artifact's name, and the two are counted apart.
        artifacts = {one.statement.result.output for one in signed if one.statement.version != remote.NO_VERSION}
        for key, bill in bills.items():
            groups.setdefault((bill.name, bill.manifest.digest in artifacts), []).append(key)
        kept: set[str] = set()
        for keys in groups.values():
            keys.sort(key=lambda key: (objects[key].modified, key), reverse=True)
            kept.update(keys[: self.keep_newest])
        return kept, sorted(set(bills) - kept)

    def parcels(self, needed: set[Digest], now: float, pool: ThreadPoolExecutor) -> tuple[int, int]:
        """Remove the parcels whose time has come, and condemn others. Gives how many of each."""
        place = self.place
        before = next((item.modified for item in place.objects("") if item.key == remote.CONDEMNED), None)
        written = before is not None
        try:
            condemned = set(push.read_condemned(place))
        except Lying:
            # Nobody can have relied on what it said. It is written anew, and its time begins now.
            condemned, before = set(), None
        due = before is not None and before <= now - self.grace
        gone: list[Object] = []
        waiting: list[Digest] = []
        for item in place.objects(remote.PARCELS):
            digest = Digest.parse(item.key.rpartition("/")[2])
            if digest in needed:
                continue
            # One that was written after the list was has come anew.
            if due and digest in condemned and before is not None and item.modified <= before:
                gone.append(item)
            else:
                waiting.append(digest)
        if not self.dry_run:
            self.forget({Digest.parse(item.key.rpartition("/")[2]) for item in gone}, pool)
        self.remove_objects(gone)
        if not self.dry_run and (due or before is None) and (waiting or written):
            place.write(remote.CONDEMNED, Condemned(tuple(sorted(waiting, key=lambda parcel: parcel.raw))).encode())
        return len(gone), len(waiting)

    def forget(self, gone: set[Digest], pool: ThreadPoolExecutor) -> None:
        """Write the inventories anew that list parcels which go, as one."""
        if not gone:
            return
        keys = [item.key for item in self.place.objects(remote.INVENTORIES)]
        rows = dict(push.inventory(self.place, pool))
        left = Inventory(tuple((blob, where) for blob, where in rows.items() if where.parcel not in gone))
        key = f"{remote.INVENTORIES}{Digest.of(data := left.encode()).hex}"
        self.place.write(key, data)
        self.place.remove([old for old in keys if old != key])

    def remove(self, keys: list[str]) -> None:
        if not self.dry_run:
            self.place.remove(keys)

    def remove_objects(self, items: list[Object]) -> None:
        self.size += sum(item.size for item in items)
        self.remove([item.key for item in items])


class _SignedGraph(Graph):
    """The graph of signed results. Only what is walked to has to be readable: anybody may have put more there."""

    def __init__(self, signed: Iterable[Signed]) -> None:
        super().__init__(())
        self._results: dict[Digest, list[Result]] = {}
        for one in signed:
            self._results.setdefault(one.statement.result.output, []).append(one.statement.result)

    def gave(self, tree: Digest) -> list[Step]:
        return [step_of(result) for result in self._results.get(tree, [])]
