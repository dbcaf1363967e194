"""Digests: BLAKE3-256 of literal bytes (https://github.com/BLAKE3-team/BLAKE3-specs)."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from blake3 import blake3

from store.errors import Error

SIZE = 32
SHORT = 12
PREFIX = "b3:"


class BadDigest(Error):
    """A text or a byte string that is no digest; ``value`` is what was given."""

    def __init__(self, value: object) -> None:
        super().__init__(f"not a digest: {value!r:.200}", hint="A digest is b3: and 64 lowercase hex digits.")
        self.value = value


@dataclass(frozen=True, slots=True)
class Digest:
    """The name of some bytes. ``raw`` holds its 32 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if type(self.raw) is not bytes or len(self.raw) != SIZE:
            raise BadDigest(self.raw)

    # As the class would have them by itself, in a third of the time: trees have digests by the thousand.
    def __hash__(self) -> int:
        return hash(self.raw)

    def __eq__(self, other: object) -> bool:
        return other.__class__ is Digest and self.raw == other.raw

    @classmethod
    def of(cls, data: bytes | memoryview) -> Digest:
        """The digest of ``data``."""
        return cls(blake3(data).digest())

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``b3:<hex>`` or the bare 64 hex digits. Raises BadDigest."""
        digits = text.removeprefix(PREFIX)
        # fromhex also takes upper case and spaces, and each digest has one spelling only.
        if len(digits) != 2 * SIZE or not set(digits) <= set("0123456789abcdef"):
            raise BadDigest(text)
        return cls(bytes.fromhex(digits))

    @property
    def hex(self) -> str:
        """The 64 hex digits, without prefix."""
        return self.raw.hex()

    @property
    def short(self) -> str:
        """The first 12 hex digits, for people."""
        return self.raw.hex()[:SHORT]

    @property
    def base32(self) -> str:
        """The first 160 bits in lowercase base 32 (RFC 4648): 32 characters, for folder names."""
        return base64.b32encode(self.raw[:20]).decode().lower()

    def __str__(self) -> str:
        return PREFIX + self.raw.hex()
