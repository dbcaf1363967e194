from __future__ import annotations

import datetime
import hashlib
import lzma
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pysequoia
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import debian, lockfile, release
from builder.fetch import Fetcher, WrongHash
from builder.mirrors import Mirrors
from builder.progress import Silent
from builder.release import Untrusted, WrongRelease
from builder.resolve import BadIndex
from store.store import Store
from tests.sources.helpers import stanza
from tests.sources.server import Server

NOW = datetime.datetime.now(datetime.UTC)
SIGNER = pysequoia.Tsk.generate("Archive <archive@example>")
OTHER = pysequoia.Tsk.generate("Somebody <somebody@example>")


def certificate(key: pysequoia.Tsk) -> pysequoia.Cert:
    return key.extract_certificate()


def sign(text: str, key: pysequoia.Tsk = SIGNER) -> bytes:
    return pysequoia.sign(key.signer(), text.encode(), mode=pysequoia.SignatureMode.CLEAR)


@dataclass(frozen=True)
class Suite:
    """A suite that can be put on a server, right or wrong."""

    packages: tuple[dict[str, str], ...]
    fields: dict[str, str] = field(default_factory=dict)
    place: str = "/debian/dists/bookworm"
    key: pysequoia.Tsk = SIGNER
    pack: Callable[[bytes], bytes] = lzma.compress

    @property
    def index(self) -> bytes:
        text = "\n".join("".join(f"{name}: {value}\n" for name, value in fields.items()) for fields in self.packages)
        return self.pack(text.encode())

    @property
    def text(self) -> str:
        fields = {
            "Origin": "Debian",
            "Suite": "oldstable",
            "Codename": "bookworm",
            "Date": "Sat, 11 Jul 2026 10:16:37 UTC",
            "Architectures": "all amd64",
            "Components": "main contrib",
            **self.fields,
        }
        hashed = f" {hashlib.sha256(self.index).hexdigest()} {len(self.index)} main/binary-amd64/Packages.xz\n"
        return "".join(f"{name}: {value}\n" for name, value in fields.items()) + f"SHA256:\n{hashed}"

    def put(self, server: Server) -> None:
        server.files[f"{self.place}/InRelease"] = sign(self.text, self.key)
        server.files[f"{self.place}/main/binary-amd64/Packages.xz"] = self.index


SUITE = Suite((stanza("a", Depends="b"), stanza("b"), stanza("c", Essential="yes")))


def lock(fetcher: Fetcher, *names: str, suite: str = "bookworm", essential: bool = False) -> lockfile.Lock:
    return debian.lock(fetcher, Silent(), names, suite=suite, essential=essential, keys=[certificate(SIGNER)])


def test_names_become_a_lock(fetcher: Fetcher, server: Server) -> None:
    SUITE.put(server)
    found = lock(fetcher, "a")
    assert [package.name for package in found.packages] == ["a", "b"]
    assert (found.suite, found.date, found.names) == ("bookworm", "Sat, 11 Jul 2026 10:16:37 UTC", ("a",))
    assert lockfile.parse(lockfile.render(found), "x.lock") == found
    assert lock(fetcher, "a") == found
    assert [package.name for package in lock(fetcher, "a", essential=True).packages] == ["a", "b", "c"]
    # A suite has two names.
    SUITE.put(server)
    for path in list(server.files):
        server.files[path.replace("bookworm", "oldstable")] = server.files[path]
    assert replace(lock(fetcher, "a", suite="oldstable"), suite="bookworm") == found


def test_an_index_is_asked_for_by_its_hash_first(fetcher: Fetcher, server: Server) -> None:
    suite = replace(SUITE, fields={"Acquire-By-Hash": "yes"})
    suite.put(server)
    sha256 = hashlib.sha256(suite.index).hexdigest()
    by_hash = f"{suite.place}/main/binary-amd64/by-hash/SHA256/{sha256}"
    server.files[by_hash] = server.files.pop(f"{suite.place}/main/binary-amd64/Packages.xz")
    lock(fetcher, "a")
    assert len(server.requests(by_hash)) == 1


def test_an_index_with_other_bytes_than_the_signed_ones(fetcher: Fetcher, server: Server) -> None:
    SUITE.put(server)
    path = f"{SUITE.place}/main/binary-amd64/Packages.xz"
    server.files[path] = server.files[path][:-1] + b"?"
    with pytest.raises(WrongHash, match="another sha256"):
        lock(fetcher, "a")


@pytest.mark.parametrize(
    ("suite", "error", "message"),
    [
        (replace(SUITE, key=OTHER), Untrusted, "signed by none of Debian's known keys"),
        (replace(SUITE, fields={"Codename": "sid", "Suite": "unstable"}), WrongRelease, "the mirror's bookworm is sid"),
        (replace(SUITE, fields={"Valid-Until": "Sat, 11 Jul 2020 10:16:37 UTC"}), WrongRelease, "until 2020-07-11"),
        (replace(SUITE, fields={"Valid-Until": "some day"}), WrongRelease, "no date"),
        (replace(SUITE, fields={"Date": ""}), WrongRelease, "no date"),
        (replace(SUITE, fields={"Components": "contrib"}), WrongRelease, "no component main"),
        (replace(SUITE, fields={"Architectures": "arm64"}), WrongRelease, "no architecture amd64"),
        (replace(SUITE, packages=(stanza("a", Size="-1"),)), BadIndex, "a size of"),
        (replace(SUITE, pack=lambda data: lzma.compress(data)[:-3]), BadIndex, "cut off"),
        (replace(SUITE, pack=lambda data: lzma.compress(b"x" * (2 << 20))), BadIndex, "a paragraph of more than"),
    ],
)
def test_a_suite_that_is_not_right(
    fetcher: Fetcher, server: Server, suite: Suite, error: type[Exception], message: str
) -> None:
    suite.put(server)
    with pytest.raises(error, match=message):
        lock(fetcher, "a")


def test_a_suite_that_is_valid_still(fetcher: Fetcher, server: Server) -> None:
    replace(SUITE, fields={"Valid-Until": f"{NOW + datetime.timedelta(days=2):%a, %d %b %Y %H:%M:%S} UTC"}).put(server)
    assert lock(fetcher, "a").packages


def test_the_next_mirror_may_have_a_good_one(store: Store, server: Server) -> None:
    replace(SUITE, key=OTHER, place="/one/dists/bookworm").put(server)
    SUITE.put(server)
    mirrors = Mirrors({"debian": tuple(f"{server.base}/{name}" for name in ("zero", "one", "debian"))}, store.root)
    fetcher = Fetcher(store, mirrors, Silent(), pauses=())
    assert lock(fetcher, "a").packages
    # Where there is none, what was wrong with the one that is there says most.
    del server.files[f"{SUITE.place}/InRelease"]
    with pytest.raises(Untrusted):
        lock(fetcher, "a")


def test_only_what_is_signed_is_read() -> None:
    good = sign(SUITE.text)
    text = release.verify(b"" + good, [certificate(SIGNER)], NOW)
    assert text.decode().strip() == SUITE.text.strip()
    for bad, message in (
        (good.replace(b"Codename: bookworm", b"Codename: bookwurm"), "which was changed"),
        (b"Codename: sid\n" + good, "not signed"),
        (SUITE.text.encode(), "not signed"),
        (b"", "not signed"),
        (good[: len(good) // 2], "cannot be read|cannot be trusted"),
        (pysequoia.sign(SIGNER.signer(), b"x", mode=pysequoia.SignatureMode.INLINE), "not signed"),
    ):
        with pytest.raises(Untrusted, match=message):
            release.verify(bad, [certificate(SIGNER)], NOW)
    with pytest.raises(Untrusted, match="no keys"):
        release.verify(good, [], NOW)
    # What stands behind the signature, or between the lines, never gets into what is read.
    try:
        assert b"Evil" not in release.verify(good + b"Evil: 1\n", [certificate(SIGNER)], NOW)
    except Untrusted:
        pass


def test_a_key_that_has_expired_or_was_revoked() -> None:
    short = pysequoia.Tsk.generate("Short <short@example>", validity_seconds=3600)
    signed = sign("Suite: x\n", short)
    assert release.verify(signed, [certificate(short)], NOW)
    with pytest.raises(Untrusted, match="has expired"):
        release.verify(signed, [certificate(short)], NOW + datetime.timedelta(days=1))


@given(st.data())
def test_no_change_gets_through(data: st.DataObject) -> None:
    good = bytearray(sign("Suite: bookworm\nCodename: x\n"))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] = data.draw(st.integers(0, 255))
    try:
        found = release.verify(bytes(good), [certificate(SIGNER)], NOW)
    except Untrusted:
        return
    # Armour may hold other spaces, comments and a checksum: the text may not change.
    assert found.strip() == b"Suite: bookworm\nCodename: x"


@given(st.binary(max_size=400))
def test_noise_is_no_release(noise: bytes) -> None:
    for text in (noise, b"SHA256:\n " + noise, b"Valid-Until: " + noise):
        try:
            release.parse(text)
        except WrongRelease:
            pass


def test_the_keys_that_come_along_are_debians() -> None:
    keys = release.debian_keys()
    assert {key.fingerprint: str(key.user_ids[0]).partition(" <")[0] for key in keys} == {
        "a4285295fc7b1a81600062a9605c66f00d6c9793": "Debian Stable Release Key (11/bullseye)",
        "1f89983e0081fde018f3cc9673a4f27b8dd47936": "Debian Archive Automatic Signing Key (11/bullseye)",
        "4d64fec119c2029067d6e791f8d2585b8783d481": "Debian Stable Release Key (12/bookworm)",
        "b8b80b5b623eab6ad8775c45b7c5d7d6350947f8": "Debian Archive Automatic Signing Key (12/bookworm)",
        "41587f7db8c774bccf131416762f67a0b2c39de4": "Debian Stable Release Key (13/trixie)",
        "04b54c3cdca79751b16bc6b5225629df75b188bd": "Debian Archive Automatic Signing Key (13/trixie)",
    }
    assert not any(key.is_revoked for key in keys)
