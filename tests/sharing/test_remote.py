"""Pushing to and pulling from a directory, which may do whatever a bad remote does."""

from __future__ import annotations

import os
import random
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.remotes.directory import DirectoryRemote
from store import artifacts, pull, push, remote, remote_gc, signatures
from store.check import Kind, check
from store.errors import Error
from store.manifest import File
from store.parcels import Place, Waybill
from store.push import Load
from store.remote import Lying, NotThere, RemoteError
from store.repair import repair
from store.store import Store
from tests.sharing.helpers import ANNA, CONTENT, files_of, fill, folder, get, send, statement
from tests.store.helpers import start, status


@pytest.fixture
def here(tmp_path: Path) -> Store:
    return Store(tmp_path / "here", durable=False)


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store(tmp_path / "there", durable=False)


@pytest.fixture
def place(tmp_path: Path) -> DirectoryRemote:
    return DirectoryRemote("shelf", tmp_path / "shelf")


def test_a_tree_comes_across(here: Store, there: Store, place: DirectoryRemote) -> None:
    tree = fill(here, CONTENT)
    pushed = send(here, place, tree)
    assert pushed.known == 0
    pulled = get(there, place, tree)
    assert there.read_manifest(tree.digest) == tree
    assert there.holds(tree)
    assert check(there) == []
    # Many files in few requests; the bytes that are there twice, with both modes, came once.
    assert pulled.requests <= 4
    assert pulled.blobs == pushed.blobs == len({node.blob for _, node in tree.files})


def test_what_is_there_does_not_travel_again(here: Store, there: Store, place: DirectoryRemote) -> None:
    tree = fill(here, CONTENT)
    first = send(here, place, tree)
    again = send(here, place, tree)
    assert (again.parcels, again.blobs, again.known) == (0, 0, first.blobs)
    changed = fill(here, {**CONTENT, "lib/big.so": b"another big one" * 9999})
    update = send(here, place, changed)
    assert update.blobs == 1
    assert update.bytes < first.bytes / 100
    get(there, place, tree)
    pulled = get(there, place, changed)
    assert pulled.blobs == 1
    assert pulled.bytes < 20_000
    assert there.holds(changed)


def test_one_changed_file_in_a_full_parcel_is_one_short_request(here: Store, there: Store, place: DirectoryRemote) -> None:
    noise = random.Random(1)
    many: dict[str, bytes | str | None] = {f"{n:03}": noise.randbytes(40_000) for n in range(150)}
    tree = fill(here, many)
    send(here, place, tree)
    get(there, place, tree)
    node = tree[b"077"]
    os.unlink(there.blob_path(node.blob, executable=False))  # type: ignore[union-attr]
    pulled = get(there, place, tree)
    assert (pulled.requests, pulled.blobs) == (1, 1)
    assert pulled.bytes < 41_000


def test_what_is_not_there_is_said(here: Store, place: DirectoryRemote) -> None:
    with pytest.raises(RemoteError, match="there is no remote yet"):
        push.check_mark(place)
    tree = fill(here, CONTENT)
    send(here, place, fill(here, {"other": b"x"}))
    with pytest.raises(NotThere):
        pull.waybill(place, tree.digest.base32)
    assert pull.manifest(place, tree.digest) is None


def test_another_format_is_refused(here: Store, place: DirectoryRemote) -> None:
    place.write(remote.MARK, b"\x93\x02\xa6remote")
    with pytest.raises(RemoteError, match="not a remote of this builder"):
        send(here, place, fill(here, CONTENT))


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone", "swap"])
def test_a_damaged_remote_gives_an_error_and_nothing_wrong(
    harm: str, here: Store, there: Store, place: DirectoryRemote, tmp_path: Path
) -> None:
    """Each object in turn is damaged. The pull says so, or did not need it; the store stays clean; a whole push mends it."""
    tree = fill(here, CONTENT)
    other = fill(here, {**CONTENT, "more": b"more"})
    send(here, place, tree, other)
    choice = random.Random(harm)
    failed = 0
    for file in files_of(place.top):
        if file.name == remote.MARK:
            continue
        data = file.read_bytes()
        os.chmod(file, 0o644)
        match harm:
            case "flip":
                for at in choice.sample(range(len(data)), min(3, len(data))):
                    data = data[:at] + bytes([data[at] ^ 1 << choice.randrange(8)]) + data[at + 1 :]
                file.write_bytes(data)
            case "cut":
                file.write_bytes(data[: choice.randrange(len(data))])
            case "empty":
                file.write_bytes(b"")
            case "gone":
                file.unlink()
            case _:
                peers = [one for one in files_of(file.parent.parent) if one != file]
                file.write_bytes(peers[0].read_bytes() if peers else b"")
        store = Store(tmp_path / f"victim-{file.name}", durable=False)
        try:
            get(store, place, tree)
            assert store.holds(store.read_manifest(tree.digest))
        except RemoteError:
            failed += 1
            assert not store.manifest_path(tree.digest).exists()
        assert check(store) == []
        push.push(here, place, Load([(folder(one), one.digest) for one in (tree, other)]), again=True)
        get(store, place, tree)
        assert store.holds(tree)
        shutil.rmtree(store.root, ignore_errors=True)
    assert failed >= 3


def test_bytes_under_a_wrong_digest_get_no_name(here: Store, there: Store, place: DirectoryRemote) -> None:
    """A waybill that puts one blob in the place of another: whole frames, of the right size, with other bytes."""
    tree = fill(here, {"a": b"A" * 1000, "b": b"B" * 1000})
    send(here, place, tree)
    bill = pull.waybill(place, tree.digest.base32)
    swapped = Waybill(bill.name, bill.version, bill.manifest, (bill.places[1], bill.places[0]))
    with pytest.raises(Lying, match="instead of"):
        pull.pull(there, place, swapped)
    assert files_of(there.root / "blobs") == []
    with pytest.raises(RemoteError):
        far = Place(bill.places[0].parcel, 1 << 40, 10)
        pull.pull(there, place, Waybill(bill.name, bill.version, bill.manifest, (far, far)))
    assert check(there) == []


def test_a_waybill_of_another_tree_is_refused(here: Store, place: DirectoryRemote) -> None:
    one, two = fill(here, {"a": b"1"}), fill(here, {"a": b"2"})
    send(here, place, one, two)
    place.write(remote.waybill_key(one.digest.base32), (place.top / remote.waybill_key(two.digest.base32)).read_bytes())
    with pytest.raises(Lying):
        pull.waybill(place, one.digest.base32)


def test_a_result_under_another_keys_name_is_refused(here: Store, place: DirectoryRemote) -> None:
    tree = fill(here, {"a": b"1"})
    signed = ANNA.sign(statement(tree.digest, size=tree.size))
    push.push(here, place, Load([(folder(tree), tree.digest)], results=[signed], pointers=[signed]))
    action, key = signed.statement.result.action, ANNA.public().id
    assert pull.results(place, action, [key]) == [signed]
    assert pull.named(place, "hello", "x86_64-linux", None, [key]) == [signed]
    assert pull.named(place, "hello", "x86_64-linux", "2.10", [key]) == [signed]
    place.write(remote.result_key(action, "a" * 32), signed.encode())
    with pytest.raises(Lying):
        pull.results(place, action, ["a" * 32])
    # One that was signed for another name does not count under this one.
    place.write(remote.name_key("sudo", "x86_64-linux", None, key), signed.encode())
    assert pull.named(place, "sudo", "x86_64-linux", None, [key]) == []


def test_a_killed_push_and_a_killed_pull_go_on(here: Store, there: Store, tmp_path: Path, place: DirectoryRemote) -> None:
    noise = random.Random(2)
    tree = fill(here, {f"{n}": noise.randbytes(9 << 20) for n in range(12)})

    class Stops(DirectoryRemote):
        """Kills its own process at the ninth parcel."""

        def write(self, key: str, data: bytes | Path) -> None:
            if key.startswith(remote.PARCELS) and len(files_of(self.top / remote.PARCELS)) >= 8:
                os.kill(os.getpid(), signal.SIGKILL)
            super().write(key, data)

        def stream(self, key: str, start: int, length: int):  # type: ignore[no-untyped-def]
            if len(files_of(there.root / "blobs")) >= 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().stream(key, start, length)

    stops = Stops("shelf", place.top)
    assert status(start(lambda: send(here, stops, tree))) == -signal.SIGKILL
    assert not list((place.top / remote.WAYBILLS).glob("*/*")) if (place.top / remote.WAYBILLS).exists() else True
    rest = send(here, place, tree)
    assert 0 < rest.bytes < 9 * (9 << 20)
    # Blobs are saved every 128 MB; here by hand, as a slow line would have it.
    saved = pull.SAVE
    try:
        pull.SAVE = 1
        assert status(start(lambda: get(there, stops, tree))) == -signal.SIGKILL
        came = len(files_of(there.root / "blobs"))
        assert came >= 3
        assert not there.manifest_path(tree.digest).exists()
        assert all(finding.harmless for finding in check(there))
        assert get(there, place, tree).blobs == 12 - came
    finally:
        pull.SAVE = saved
    assert there.holds(tree)


def test_a_pull_that_fails_keeps_what_came(here: Store, there: Store, place: DirectoryRemote) -> None:
    noise = random.Random(3)
    tree = fill(here, {f"{n}": noise.randbytes(9 << 20) for n in range(4)})
    send(here, place, tree)
    victim = max(files_of(place.top / remote.PARCELS), key=lambda path: path.name)
    data = victim.read_bytes()
    victim.unlink()
    with pytest.raises(NotThere):
        get(there, place, tree)
    place.write(str(victim.relative_to(place.top)), data)
    assert get(there, place, tree).blobs <= 2


def test_many_push_at_once(here: Store, there: Store, place: DirectoryRemote) -> None:
    trees = [fill(here, {**CONTENT, "own": b"%d" % n}) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda tree: send(here, place, tree), trees))
    for tree in trees:
        get(there, place, tree)
        assert there.holds(tree)


# -- garbage --


def backdate(place: DirectoryRemote, seconds: float) -> None:
    """All that is there was written so much earlier."""
    for path in files_of(place.top):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def collect(place: DirectoryRemote, **options: int) -> remote_gc.Gone:
    return remote_gc.collect(place, grace=3600, **options)  # type: ignore[arg-type]


def test_garbage_goes_in_two_steps(here: Store, there: Store, place: DirectoryRemote) -> None:
    old, new = fill(here, {"a": b"old" * 999, "both": b"b"}), fill(here, {"a": b"new" * 999, "both": b"b"})
    send(here, place, old)
    backdate(place, 9999)
    send(here, place, new)
    parcels = len(files_of(place.top / remote.PARCELS))
    assert collect(place).waybills == ()
    gone = collect(place, keep_newest=1)
    assert (gone.waybills, gone.parcels) == (("hello-2.10",), 0)
    assert len(files_of(place.top / remote.PARCELS)) == parcels
    # The old parcel has a blob that the new tree needs: it stays, and nothing is condemned.
    assert gone.condemned == 0
    get(there, place, new)
    with pytest.raises(NotThere):
        get(there, place, old)


def test_condemned_parcels_go_when_their_time_has_come(here: Store, there: Store, place: DirectoryRemote) -> None:
    old, new = fill(here, {"a": b"old" * 999}), fill(here, {"a": b"new" * 999})
    send(here, place, old)
    backdate(place, 9999)
    send(here, place, new)
    assert collect(place, keep_newest=1).condemned == 1
    # Not yet.
    assert collect(place, keep_newest=1).parcels == 0
    assert len(files_of(place.top / remote.PARCELS)) == 2
    backdate(place, 9999)
    assert collect(place, keep_newest=1, dry_run=True).parcels == 1
    assert len(files_of(place.top / remote.PARCELS)) == 2
    gone = collect(place, keep_newest=1)
    assert (gone.parcels, gone.condemned) == (1, 0)
    assert len(files_of(place.top / remote.PARCELS)) == 1
    get(there, place, new)
    # The inventory forgot it too: what is pushed again is sent again.
    assert send(here, place, old).blobs == 1
    get(there, place, old)


def test_a_push_does_not_rely_on_what_is_condemned(here: Store, there: Store, place: DirectoryRemote) -> None:
    old, new = fill(here, {"a": b"old" * 999}), fill(here, {"a": b"new" * 999})
    send(here, place, old)
    backdate(place, 9999)
    send(here, place, new)
    collect(place, keep_newest=1)
    backdate(place, 9999)
    # Here comes the old tree again, before the parcel is removed and after it was condemned.
    assert send(here, place, old).blobs == 1
    assert collect(place).parcels == 1
    get(there, place, old)
    assert there.holds(old)


def test_a_push_that_began_before_loses_nothing(here: Store, there: Store, place: DirectoryRemote) -> None:
    """A collection condemns a parcel while a push that relies on it is under way, and another one comes at once."""
    old, new = fill(here, {"a": b"old" * 999}), fill(here, {"a": b"new" * 999})
    send(here, place, old)
    backdate(place, 9999)
    send(here, place, new)

    class Meanwhile(DirectoryRemote):
        """Collects before the first waybill is written."""

        def write(self, key: str, data: bytes | Path) -> None:
            if key.startswith(remote.WAYBILLS):
                collect(place, keep_newest=1)
                collect(place, keep_newest=1)
            super().write(key, data)

    again = send(here, Meanwhile("shelf", place.top), old)
    assert again.blobs == 0
    # A day later the parcel is needed, and so it is spared.
    backdate(place, 9999)
    assert collect(place).parcels == 0
    get(there, place, old)
    assert there.holds(old)


def test_what_cannot_be_read_stops_a_collection(here: Store, place: DirectoryRemote) -> None:
    send(here, place, fill(here, CONTENT))
    (bill,) = files_of(place.top / remote.WAYBILLS)
    bill.chmod(0o644)
    bill.write_bytes(b"rubbish")
    before = files_of(place.top / remote.PARCELS)
    with pytest.raises(Error):
        collect(place, keep_newest=1)
    assert files_of(place.top / remote.PARCELS) == before


def test_results_of_what_went_go_too(here: Store, place: DirectoryRemote) -> None:
    old, new = fill(here, {"a": b"old"}), fill(here, {"a": b"new"})
    for n, tree in enumerate((old, new)):
        signed = ANNA.sign(statement(tree.digest, size=tree.size, action=f"make {n}"))
        push.push(here, place, Load([(folder(tree), tree.digest)], results=[signed], pointers=[signed]))
        backdate(place, 9999)
    gone = collect(place, keep_newest=1)
    assert (gone.waybills, gone.results) == (("hello-2.10",), 1)
    assert len(files_of(place.top / remote.RESULTS)) == 1
    key = ANNA.public().id
    (left,) = pull.named(place, "hello", "x86_64-linux", None, [key])
    assert left.statement.result.output == new.digest


def test_a_condemned_list_that_is_damaged_is_said(here: Store, place: DirectoryRemote) -> None:
    tree = fill(here, CONTENT)
    send(here, place, tree)
    place.write(remote.CONDEMNED, b"rubbish")
    with pytest.raises(Lying):
        send(here, place, tree)
    collect(place)
    assert send(here, place, tree).blobs == 0
    assert push.read_condemned(place) == ()


def test_an_empty_tree_travels(here: Store, there: Store, place: DirectoryRemote) -> None:
    tree = fill(here, {"only": None})
    send(here, place, tree)
    get(there, place, tree)
    assert there.read_manifest(tree.digest) == tree


# -- repair --


def test_a_store_is_repaired_from_a_remote(here: Store, place: DirectoryRemote) -> None:
    """An artifact's blob has a flipped byte, and one is missing: the remote has them."""
    tree = fill(here, CONTENT)
    artifacts.check_out(here, tree, name="hello", version="2.10")
    send(here, place, tree)
    big, page = tree[b"lib/big.so"], tree[b"share/doc/5.txt"]
    assert isinstance(big, File)
    assert isinstance(page, File)
    # The artifact's file is the same inode.
    victim = here.blob_path(big.blob, executable=False)
    victim.chmod(0o644)
    with open(victim, "r+b") as file:
        file.write(b"?")
    victim.chmod(0o444)
    here.blob_path(page.blob, executable=False).unlink()
    folder = here.root / "artifacts" / str(artifacts.folders(here)[0])
    with pytest.raises(Error):
        here.read_blob(big.blob)
    (folder / "share/doc").chmod(0o755)
    (folder / "share/doc/5.txt").unlink()
    (folder / "share/doc").chmod(0o555)
    assert [finding for finding in check(here) if not finding.harmless]
    repaired = repair(here, [pull.source(here, place)])
    assert repaired.left == ()
    assert [finding for finding in check(here) if not finding.harmless] == []


def test_a_damaged_signature_is_found(here: Store) -> None:
    tree = fill(here, {"a": b"1"})
    signed = ANNA.sign(statement(tree.digest, size=tree.size))
    with here.batch() as batch:
        batch.add_result(signed.statement.result)
        batch.add_signature(signed)
    assert check(here) == []
    assert signatures.of_action(here, signed.statement.result.action) == [signed]
    path = here.signature_path(signed.statement.result.action, signed.signer)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    path.chmod(0o444)
    assert [finding.kind for finding in check(here)] == [Kind.CORRUPT_SIGNATURE]
    assert repair(here).left == ()
    assert check(here) == []


def test_every_changed_byte_of_a_result_is_found(here: Store) -> None:
    tree = fill(here, {"a": b"1"})
    result = statement(tree.digest).result
    with here.batch() as batch:
        batch.add_result(result)
    path = here.result_path(result.action)
    data = path.read_bytes()
    path.chmod(0o644)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert here.read_result(result.action) is None, at
    path.write_bytes(data)
    assert here.read_result(result.action) == result
