"""Remotes: places that trees are pushed to and pulled from. What is asked of one, the names of what lies there, and errors.

A remote holds objects: bytes under a name. It is trusted with nothing: what comes from it is believed by its digest, or by a
signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from store.digest import Digest
from store.errors import Error

MARK = "builder-remote"
CONDEMNED = "condemned"
CLOCK = "clock"
PARCELS, INVENTORIES, WAYBILLS, MANIFESTS, RESULTS, NAMES = (
    "parcels/", "inventories/", "waybills/", "manifests/", "results/", "names/",
)  # fmt: skip
# No version begins with a "_".
NEWEST = "_newest"
# A step that gives no artifact has no name and no version: in its statement, its kind and this stand for them.
NO_VERSION = "0"


class RemoteError(Error):
    """A remote that does not do what it is asked: it is down, slow, refuses, or breaks off."""

    def __init__(self, remote: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"remote {remote}: {reason}", hint=hint or "What was transferred is kept: run the same command again.")
        self.remote = remote
        self.reason = reason


class NotThere(RemoteError):
    """The remote has no such thing: ``what`` is for people."""

    def __init__(self, remote: str, what: str, *, hint: str = "") -> None:
        super().__init__(remote, f"it does not have {what}", hint=hint or "`builder push` puts artifacts there.")


class Lying(RemoteError):
    """The remote gave bytes that are not what their name promises. None of them were kept."""

    def __init__(self, remote: str, what: str, reason: str) -> None:
        super().__init__(
            remote,
            f"{what} is damaged there: {reason}",
            hint="Nothing of it was kept. `builder push --again` to the remote mends it, from a store that has the artifact.",
        )


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a listing: ``size`` in bytes, ``modified`` in seconds since 1970 by the remote's own clock."""

    key: str
    size: int
    modified: float


class Remote(Protocol):
    """A place that holds objects. Any thread may call it. Every method raises RemoteError."""

    @property
    def name(self) -> str:
        """What the remote is called in messages."""

    def read(self, key: str, limit: int) -> bytes | None:
        """A whole object of at most ``limit`` bytes; None: it is not there."""

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """``length`` bytes of an object from ``start`` on, in pieces. Raises NotThere."""

    def has(self, keys: Sequence[str]) -> list[bool]:
        """Whether each object is there."""

    def write(self, key: str, data: bytes | Path) -> None:
        """Put an object there, from memory or from a file: whole, or not at all. One of that name is replaced."""

    def objects(self, prefix: str) -> Iterator[Object]:
        """All objects whose keys begin with ``prefix``, which ends with a slash or is empty."""

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""


def parcel_key(parcel: Digest) -> str:
    """Where a parcel is."""
    return f"{PARCELS}{parcel.hex[:2]}/{parcel.hex}"


def waybill_key(base32: str) -> str:
    """Where the waybill of a tree is, by the first 160 bits of its digest, as folders have them."""
    return f"{WAYBILLS}{base32[:2]}/{base32}"


def manifest_key(tree: Digest) -> str:
    """Where a manifest without its blobs is."""
    return f"{MANIFESTS}{tree.hex[:2]}/{tree.hex}"


def result_key(action: Digest, signer: str) -> str:
    """Where the result of an action is that ``signer``, a key's id, signed."""
    return f"{RESULTS}{action.hex[:2]}/{action.hex}/{signer}"


def name_key(name: str, platform: str, version: str | None, signer: str) -> str:
    """Where the newest result of a name and version is that ``signer`` signed; without ``version``, of the name."""
    return f"{NAMES}{name}/{platform}/{version or NEWEST}/{signer}"
