"""The signed heart of a Debian suite: ``InRelease``, which names every index by its hash.

Signatures are checked against Debian's own keys, which lie in ``keyring/`` as the package debian-archive-keyring has them.
Only the bytes that the signature covers are read.
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import pysequoia
from pysequoia.packet import PacketPile

from builder.deb822 import BadParagraph, paragraphs
from store.errors import Error

MAX_SIZE = 8 << 20  # bytes

_LINE = re.compile(r"([0-9a-f]{64}) +([0-9]{1,13}) +(\S+)\Z")


class Untrusted(Error):
    """An InRelease whose signature does not hold; ``reason`` says why."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(
            f"the suite's InRelease cannot be trusted: {reason}",
            hint=hint or "Somebody between here and Debian may have changed it. Try another mirror.",
        )
        self.reason = reason


class WrongRelease(Error):
    """A well signed InRelease that is not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """A file that an InRelease names: ``path`` is relative to the suite, ``size`` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Release:
    """What an InRelease says. ``date`` is as it stands there; ``by_hash`` whether files can be had under their hashes."""

    suite: str
    codename: str
    date: str
    valid_until: datetime.datetime | None
    components: tuple[str, ...]
    architectures: tuple[str, ...]
    by_hash: bool
    files: dict[str, Indexed]


def debian_keys() -> list[pysequoia.Cert]:
    """The keys that come with this program."""
    folder = resources.files("builder") / "keyring"
    keys: list[pysequoia.Cert] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".gpg"):
            keys += pysequoia.Cert.split_bytes(file.read_bytes())
    return keys


def verify(data: bytes, keys: Iterable[pysequoia.Cert], now: datetime.datetime) -> bytes:
    """The signed part of an InRelease. ``keys`` are believed, as long as they are valid at ``now``. Raises Untrusted."""
    known = list(keys)
    good = [key for key in known if not key.is_revoked and (key.expiration is None or key.expiration > now)]
    signers: list[str] = []

    def store(names: list[str]) -> list[pysequoia.Cert]:
        signers.extend(names)
        return good

    if not data.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        raise Untrusted("it is not signed")
    try:
        verified = pysequoia.verify(data, store=store)
    except Exception as error:  # pysequoia raises RuntimeError for whatever is wrong, with a stack trace in its text
        raise Untrusted(_reason(signers, known, good, str(error))) from None
    if verified.bytes is None or not verified.valid_sigs:
        raise Untrusted("it is not signed")
    return bytes(verified.bytes)


def _reason(signers: list[str], known: list[pysequoia.Cert], good: list[pysequoia.Cert], text: str) -> str:
    if not signers:
        return f"its signature cannot be read ({text.splitlines()[0].rstrip('.')})" if text else "its signature cannot be read"
    if not known:
        return "no keys are known"
    stale = [key for key in known if key not in good]
    if any(_made(key, signers) for key in good):
        return "its signature does not fit its text, which was changed"
    if any(_made(key, signers) for key in stale):
        return "the key that signed it has expired or was revoked"
    return f"it is signed by none of Debian's known keys, but by {', '.join(sorted(set(signers)))}"


def _made(key: pysequoia.Cert, signers: list[str]) -> bool:
    # A signature names the subkey that made it, by its fingerprint or by the last 16 digits of that.
    ids = [packet.fingerprint for packet in PacketPile.from_bytes(bytes(key))]
    return any(own and own.endswith(name.lower()) for own in ids for name in signers)


def parse(data: bytes) -> Release:
    """Read what verify gave. Raises WrongRelease."""
    try:
        fields = next(paragraphs([data]), {})
    except BadParagraph as error:
        raise WrongRelease(f"the suite's InRelease is damaged: {error.reason}") from None
    files: dict[str, Indexed] = {}
    for line in fields.get("SHA256", "").split("\n"):
        if not line.strip():
            continue
        match = _LINE.match(line.strip())
        if match is None:
            raise WrongRelease(f"the suite's InRelease is damaged: {line.strip()[:80]!r}")
        sha256, size, path = match.groups()
        files[path] = Indexed(path, int(size), sha256)
    return Release(
        suite=fields.get("Suite", ""),
        codename=fields.get("Codename", ""),
        date=fields.get("Date", ""),
        valid_until=_time(fields["Valid-Until"]) if "Valid-Until" in fields else None,
        components=tuple(fields.get("Components", "").split()),
        architectures=tuple(fields.get("Architectures", "").split()),
        by_hash=fields.get("Acquire-By-Hash", "") == "yes",
        files=files,
    )


def _time(text: str) -> datetime.datetime:
    try:
        time = email.utils.parsedate_to_datetime(text)
    except ValueError:
        raise WrongRelease(f"the suite's InRelease is damaged: {text[:80]!r} is no date") from None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def check(release: Release, suite: str, components: Iterable[str], architecture: str, now: datetime.datetime) -> None:
    """Make sure that ``release`` is the one that was asked for, and not an old one. Raises WrongRelease."""
    if suite not in (release.suite, release.codename):
        raise WrongRelease(f"the mirror's {suite} is {release.codename or release.suite}", hint="Try another mirror.")
    if not release.date:
        raise WrongRelease("the suite's InRelease has no date")
    if release.valid_until is not None and release.valid_until < now:
        raise WrongRelease(
            f"the mirror's {suite} is out of date: it was valid until {release.valid_until:%Y-%m-%d}",
            hint="Try another mirror, and check this machine's clock.",
        )
    for component in components:
        if component not in release.components:
            raise WrongRelease(f"{suite} has no component {component}", hint=f"It has {', '.join(release.components)}.")
    if architecture not in release.architectures:
        raise WrongRelease(f"{suite} has no architecture {architecture}", hint=f"It has {', '.join(release.architectures)}.")
