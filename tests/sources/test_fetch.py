from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.fetch import Download, Fetcher, FetchFailed, WrongHash
from builder.mirrors import BadPlace, Mirrors, NoMirror
from builder.progress import Silent, Task
from store.store import Store
from tests.sources.server import Server

DATA = random.Random(7).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def fetch(fetcher: Fetcher, *places: str, sha256: str = SHA256, size: int | None = len(DATA), gone: str = "") -> bytes:
    ((_, path),) = fetcher.fetch([Download("thing", places, sha256, size, gone)])
    assert path.name == sha256
    return path.read_bytes()


def left(store: Store) -> list[str]:
    return sorted(os.listdir(store.root / "downloads"))


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_file_is_fetched_once(fetcher: Fetcher, server: Server, store: Store, size: int | None) -> None:
    server.files["/x"] = DATA
    for _ in range(2):
        assert fetch(fetcher, server.base + "/x", size=size) == DATA
    assert len(server.log) == 1
    assert left(store) == [SHA256]


@pytest.mark.parametrize("size", [len(DATA), None])
@pytest.mark.parametrize("trick", ["cut", "reset", "500", "503", "429"])
def test_a_place_gets_another_chance(fetcher: Fetcher, server: Server, store: Store, trick: str, size: int | None) -> None:
    server.files["/x"] = DATA
    server.tricks["/x"] = [trick, trick]
    assert fetch(fetcher, server.base + "/x", size=size) == DATA
    assert len(server.log) == 3
    assert left(store) == [SHA256]


def test_it_goes_on_where_it_broke_off(fetcher: Fetcher, server: Server) -> None:
    server.files["/x"] = DATA
    server.tricks["/x"] = ["cut"]
    assert fetch(fetcher, server.base + "/x") == DATA
    again = server.requests("/x")[1]
    assert again["Range"] == f"bytes={len(DATA) // 2}-"
    assert again["If-Range"] == '"1"'


def test_another_process_goes_on_too(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = DATA
    (store.root / "downloads" / f"{SHA256}.part").write_bytes(DATA[:1000])
    assert fetch(fetcher, server.base + "/x") == DATA
    assert server.log[0][1]["Range"] == "bytes=1000-"
    assert left(store) == [SHA256]


@pytest.mark.parametrize("size", [len(DATA), None])
@pytest.mark.parametrize(
    "part", [b"wrong", b"w" * len(DATA), b"w" * (len(DATA) + 5), DATA], ids=["start", "all", "more", "whole"]
)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_that_does_not_fit(
    fetcher: Fetcher, server: Server, store: Store, part: bytes, ranges: bool, size: int | None
) -> None:
    server.files["/x"], server.ranges = DATA, ranges
    (store.root / "downloads" / f"{SHA256}.part").write_bytes(part)
    assert fetch(fetcher, server.base + "/x", size=size) == DATA
    assert left(store) == [SHA256]


def test_a_file_that_changes_in_the_middle(fetcher: Fetcher, server: Server) -> None:
    server.files["/x"] = bytes(len(DATA))
    server.tricks["/x"] = ["cut"]

    def change(path: str) -> None:
        if len(server.log) == 2:
            server.files["/x"], server.etag = DATA, '"2"'

    server.on_request = change
    assert fetch(fetcher, server.base + "/x") == DATA
    assert len(server.log) == 2


def test_a_place_that_gives_another_part_than_asked_for(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = server.files["/y"] = DATA
    server.tricks["/x"] = ["cut", "wrong range"]
    assert fetch(fetcher, server.base + "/x", server.base + "/y") == DATA
    assert left(store) == [SHA256]


def test_a_damaged_file_in_the_cache_is_fetched_again(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = DATA
    (store.root / "downloads" / SHA256).write_bytes(bytes(len(DATA)))
    assert fetch(fetcher, server.base + "/x") == DATA


def test_a_wrong_hash_shows_both_and_keeps_the_file(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = wrong = DATA[:-1] + b"?"
    actual = hashlib.sha256(wrong).hexdigest()
    for size in (len(DATA), None):
        with pytest.raises(WrongHash) as caught:
            fetch(fetcher, server.base + "/x", size=size)
        assert SHA256 in str(caught.value)
        assert actual in str(caught.value)
        assert caught.value.path == store.root / "downloads" / actual
        assert caught.value.path.read_bytes() == wrong
        assert str(caught.value.path) in caught.value.hint
        assert left(store) == [actual]


def test_the_next_place_is_tried_first(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/wrong"], server.files["/short"], server.files["/x"] = b"?" * len(DATA), DATA[:100], DATA
    places = ["/wrong", "/gone", "/short", "/x"]
    assert fetch(fetcher, *(server.base + place for place in places)) == DATA
    assert SHA256 in left(store)
    assert [path for path, _ in server.log] == places


def test_every_place_is_named_with_its_reason(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/short"], server.files["/wrong"], server.files["/cut"] = DATA[:100], b"?" * len(DATA), DATA
    server.tricks = {"/bad": ["500"] * 9, "/cut": ["cut"] * 9, "/half": ["to /gone"], "/forbidden": ["403"]}
    places = ["/short", "/wrong", "/bad", "/cut", "/gone", "/half", "/forbidden"]
    with pytest.raises(FetchFailed) as caught:
        fetch(fetcher, *(server.base + place for place in places), "file:///nonexistent/x", "ftp://127.0.0.1/x")
    message = str(caught.value)
    for reason in (
        "/short: it has 100 bytes there, and not 3000000",
        "/wrong: its sha256 is ",
        "/bad: HTTP 500",
        "/cut: the connection broke off",
        "/gone: there is no such file (HTTP 404)",
        "/half: there is no such file (HTTP 404)",
        "/forbidden: HTTP 403",
        "/nonexistent/x: No such file or directory",
        "ftp://127.0.0.1/x: ftp addresses are not supported",
    ):
        assert reason in message
    assert SHA256 in message
    assert len(caught.value.reasons) == 9


def test_nobody_there(fetcher: Fetcher) -> None:
    with pytest.raises(FetchFailed, match="no connection"):
        fetch(fetcher, "http://127.0.0.1:1/x")
    with pytest.raises(FetchFailed, match="not an address"):
        fetch(fetcher, "http://[::1/x")


def test_more_bytes_than_the_lock_says_are_not_taken(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = DATA
    with pytest.raises(FetchFailed, match="it has 3000000 bytes there, and not 1000"):
        fetch(fetcher, server.base + "/x", size=1000)
    assert left(store) == []


def test_a_vanished_package_names_the_remedy(fetcher: Fetcher, server: Server) -> None:
    with pytest.raises(FetchFailed) as caught:
        fetch(fetcher, "mirror://debian/pool/x.deb", gone="The suite no longer holds it: `builder lock`.")
    assert "builder lock" in caught.value.hint
    server.tricks["/debian/pool/x.deb"] = ["403"]
    with pytest.raises(FetchFailed) as caught:
        fetch(fetcher, "mirror://debian/pool/x.deb", gone="The suite no longer holds it: `builder lock`.")
    assert "builder lock" not in caught.value.hint


def test_mirrors_and_files(fetcher: Fetcher, server: Server, tmp_path: Path) -> None:
    server.files["/debian/pool/x y.deb"] = DATA
    (tmp_path / "a b").write_bytes(DATA[:500])
    other = hashlib.sha256(DATA[:500]).hexdigest()
    assert fetch(fetcher, f"file://{tmp_path}/a%20b", sha256=other, size=500) == DATA[:500]
    (tmp_path / "c").write_bytes(b"")
    assert fetch(fetcher, f"{tmp_path}/c", sha256=hashlib.sha256().hexdigest(), size=0) == b""
    with pytest.raises(NoMirror, match="mirror://pypi/"):
        fetch(fetcher, "mirror://pypi/x")
    with pytest.raises(BadPlace, match="no plain path"):
        fetch(fetcher, "mirror://debian/../x")
    server.files["/x"] = DATA
    assert fetch(fetcher, "mirror://pypi/x", server.base + "/x") == DATA


def test_redirects(fetcher: Fetcher, server: Server) -> None:
    server.files["/x"] = DATA
    server.tricks = {"/a": ["to /b"], "/b": [f"to {server.base}/x"]}
    assert fetch(fetcher, server.base + "/a") == DATA
    server.tricks = {"/loop": ["to /loop"] * 50, "/file": ["to file:///etc/passwd"]}
    for place, message in (("/loop", "more than 10 redirects"), ("/file", "not as safe")):
        with pytest.raises(FetchFailed, match=message):
            fetch(fetcher, server.base + place, sha256="0" * 64)


def test_a_password_is_sent_and_not_shown(fetcher: Fetcher, server: Server) -> None:
    place = server.base.replace("//", "//me:secret@") + "/x"
    with pytest.raises(FetchFailed) as caught:
        fetch(fetcher, place)
    assert "secret" not in str(caught.value)
    assert server.log[0][1]["Authorization"] == "Basic bWU6c2VjcmV0"
    server.tricks["/x"] = [f"to {server.base.replace('127.0.0.1', 'localhost')}/y"]
    with pytest.raises(FetchFailed):
        fetch(fetcher, place)
    assert "Authorization" not in server.requests("/y")[0]


def test_a_proxy_is_used(store: Store, server: Server) -> None:
    # A proxy is asked for the whole address.
    server.files["http://mirror.example/debian/x"] = DATA
    mirrors = Mirrors({"debian": ("http://mirror.example/debian",)}, Path("c"), apt_proxies={"http": server.base})
    assert fetch(Fetcher(store, mirrors, Silent()), "mirror://debian/x") == DATA


def test_small_files(fetcher: Fetcher, server: Server) -> None:
    server.files["/x"] = DATA
    server.tricks["/x"] = ["cut", "500"]
    assert fetcher.fetch_bytes(server.base + "/x", len(DATA)) == DATA
    with pytest.raises(FetchFailed, match="more than 1000 bytes"):
        fetcher.fetch_bytes(server.base + "/x", 1000)
    with pytest.raises(FetchFailed, match="no such file"):
        fetcher.fetch_bytes("mirror://debian/none", 1000)


def test_many_at_once_and_each_is_told(store: Store, server: Server) -> None:
    datas = [bytes([n]) * 1000 * n for n in range(1, 40)]
    told: dict[str, int] = {}

    class Counting(Silent):
        def task(self, verb: str, label: str, *, total: int = 0) -> Task:
            task = super().task(verb, label)
            task.advance = lambda amount: told.update({label: told.get(label, 0) + amount})  # type: ignore[method-assign]
            return task

    downloads = []
    for n, data in enumerate(datas):
        server.files[f"/{n}"] = data
        server.tricks[f"/{n}"] = ["cut", "500"][: n % 3]
        downloads.append(Download(str(n), (f"{server.base}/{n}",), hashlib.sha256(data).hexdigest(), len(data)))
    fetcher = Fetcher(store, Mirrors({}, Path("c")), Counting(), jobs=6, pauses=(0.01, 0.01))
    found = {download.name: path.read_bytes() for download, path in fetcher.fetch(downloads)}
    assert found == {str(n): data for n, data in enumerate(datas)}
    assert told == {str(n): len(data) for n, data in enumerate(datas)}


def test_one_failure_ends_it_and_the_rest_can_go_on_later(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = DATA
    good = Download("good", (server.base + "/x",), SHA256, len(DATA))
    with pytest.raises(FetchFailed, match="cannot fetch bad"):
        list(fetcher.fetch([good, Download("bad", (server.base + "/none",), "0" * 64)]))
    assert fetch(fetcher, server.base + "/x") == DATA


def test_two_processes_do_not_write_to_one_file(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = DATA
    part = store.root / "downloads" / f"{SHA256}.part"
    asked = threading.Event()
    server.on_request = lambda path: asked.set()
    with open(part, "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=lambda: fetch(fetcher, server.base + "/x"))
        waiting.start()
        assert not asked.wait(0.3)
        # The other one is done.
        other.write(DATA)
        other.flush()
        os.rename(part, part.with_suffix(""))
    waiting.join()
    assert not asked.is_set()
    assert left(store) == [SHA256]


def test_a_kill_in_the_middle_costs_only_what_was_under_way(fetcher: Fetcher, server: Server, store: Store) -> None:
    server.files["/x"] = DATA
    server.tricks["/x"] = ["cut"]
    code = f"""if True:
        import os, sys
        from pathlib import Path
        from builder.fetch import Download, Fetcher
        from builder.mirrors import Mirrors
        from builder.progress import Silent
        from store.store import Store
        fetcher = Fetcher(Store(Path({str(store.root)!r})), Mirrors({{}}, Path("c")), Silent(), pauses=(60.0,))
        fetcher._attempts = lambda attempt, stopped, old=fetcher._attempts, **more: old(lambda: wrapped(attempt), stopped)
        def wrapped(attempt):
            try:
                attempt()
            except Exception:
                os.kill(os.getpid(), 9)
        list(fetcher.fetch([Download("x", ({server.base + "/x"!r},), {SHA256!r}, {len(DATA)})]))
    """
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert left(store) == [f"{SHA256}.part"]
    assert fetch(fetcher, server.base + "/x") == DATA
    assert server.log[-1][1]["Range"] == f"bytes={len(DATA) // 2}-"
