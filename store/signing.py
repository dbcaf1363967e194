"""Signatures of results: ed25519 (RFC 8032) over a statement of what was made.

A statement is one thing that somebody says: this action gave this tree, of this name and size. Who does not trust the key
learns nothing from it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from store import codec
from store.artifacts import Folder
from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.result import Result

# What is signed begins with these bytes, so that no signature made for anything else can be taken for one of ours.
CONTEXT = b"builder statement 1\n"
MAX_SIGNED = 1 << 25  # bytes: an action's record may have 16 MiB

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.@_-]{0,99}\Z")
_PLATFORM = re.compile(r"[a-z0-9_]{1,32}-linux\Z")
_PUBLIC, _SECRET = "builder-key", "builder-secret-key"


class BadKey(Error):
    """A text that is no key."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"not a key: {reason}", hint="A public key is one line: builder-key NAME, and 44 characters of base 64."
        )


class BadSignature(Error):
    """A signature that was not made by its key over its statement."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a bad signature: {reason}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are verified with. ``raw`` has 32 bytes; ``name`` is for people, and proves nothing."""

    name: str
    raw: bytes

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise BadKey(f"{self.name!r} is no name of at most 100 letters, digits and + . @ _ -")
        if len(self.raw) != 32:
            raise BadKey(f"it has {len(self.raw)} bytes, not 32")

    @property
    def id(self) -> str:
        """What the key is called on remotes: the first 160 bits of its digest in base 32."""
        return Digest.of(self.raw).base32

    def __str__(self) -> str:
        return f"{_PUBLIC} {self.name} {base64.b64encode(self.raw).decode()}"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the line of a public key. Raises BadKey."""
        return cls(*_parse(text, _PUBLIC))


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key that signs. ``seed`` has 32 bytes, and is nobody else's business."""

    name: str
    seed: bytes

    def __repr__(self) -> str:
        return f"<SecretKey {self.name}>"

    @classmethod
    def generate(cls, name: str) -> SecretKey:
        """A new key. Raises BadKey for a bad name."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = cls(name, Ed25519PrivateKey.generate().private_bytes_raw())
        key.public()
        return key

    def public(self) -> PublicKey:
        """Its other half."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return PublicKey(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def line(self) -> str:
        """The text that a file holds. Whoever reads it can sign."""
        return f"{_SECRET} {self.name} {base64.b64encode(self.seed).decode()}"

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Read the line of a secret key. Raises BadKey."""
        name, seed = _parse(text, _SECRET)
        if len(seed) != 32:
            raise BadKey(f"it has {len(seed)} bytes, not 32")
        return cls(name, seed)

    def sign(self, statement: Statement) -> Signed:
        """The statement, with this key's signature."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return Signed(statement, private.public_key().public_bytes_raw(), private.sign(CONTEXT + statement.encode()))


def _parse(text: str, word: str) -> tuple[str, bytes]:
    match text.strip().split(" "):
        case [first, name, encoded] if first == word:
            try:
                return name, base64.b64decode(encoded, validate=True)
            except binascii.Error:
                raise BadKey("its last word is not base 64") from None
    raise BadKey(f"not the word {word}, a name, and base 64")


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed: a result, and of what it gave the name, version, platform, and size in bytes."""

    result: Result
    name: str
    version: str
    platform: str
    size: int

    def __post_init__(self) -> None:
        Folder.of(self.result.output, self.name, self.version)  # raises BadName
        if not _PLATFORM.match(self.platform):
            raise BadRecord("statement", "a platform that nothing has")

    def encode(self) -> bytes:
        """The canonical bytes: ``[1, "statement", result, name, version, platform, size]``."""
        return codec.encode("statement", [self.result.encode(), self.name, self.version, self.platform, self.size])

    @classmethod
    def decode(cls, data: bytes) -> Statement:
        """Read canonical bytes. Raises BadRecord."""
        fields = codec.decode("statement", data, 5)
        if [type(field) for field in fields] != [bytes, str, str, str, int]:
            raise BadRecord("statement", "a field of the wrong type")
        result, name, version, platform, size = fields
        try:
            return cls(Result.decode(result), name, version, platform, size)
        except BadRecord:
            raise
        except Error as error:
            raise BadRecord("statement", error.message) from None

    @property
    def says(self) -> tuple[Digest, Digest, str, str, str, int]:
        """What has to be the same for two signatures to say the same: not when it was made, how long it took, or by whom."""
        return self.result.action, self.result.output, self.name, self.version, self.platform, self.size


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement, the public key it was signed with, and the 64 bytes of the signature. It may be anybody's."""

    statement: Statement
    key: bytes
    signature: bytes

    @property
    def signer(self) -> str:
        """The id of the key that it says it was signed with."""
        return Digest.of(self.key).base32

    def encode(self) -> bytes:
        """The canonical bytes: ``[1, "signed", statement, key, signature]``."""
        return codec.encode("signed", [self.statement.encode(), self.key, self.signature])

    @classmethod
    def decode(cls, data: bytes) -> Signed:
        """Read canonical bytes; the signature is not verified by that. Raises BadRecord."""
        if len(data) > MAX_SIGNED:
            raise BadRecord("signed", f"longer than {MAX_SIGNED} bytes")
        fields = codec.decode("signed", data, 3)
        if [type(field) for field in fields] != [bytes, bytes, bytes] or (len(fields[1]), len(fields[2])) != (32, 64):
            raise BadRecord("signed", "a field of the wrong type or length")
        return cls(Statement.decode(fields[0]), fields[1], fields[2])

    def verify(self) -> None:
        """Raises BadSignature unless the key made the signature over the statement."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(self.signature, CONTEXT + self.statement.encode())
        except (InvalidSignature, ValueError):
            raise BadSignature(f"it was not made with the key {self.signer[:12]} over this statement") from None


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe: the trusted keys by their ids, and how many of them have to say the same."""

    keys: Mapping[str, PublicKey]
    needed: int = 1

    def believed(self, every: Iterable[Signed]) -> list[list[Signed]]:
        """Of each statement that enough trusted keys have signed, their signatures; wrong ones count for nothing."""
        voters: dict[tuple[object, ...], dict[str, Signed]] = {}
        for signed in every:
            if signed.signer not in self.keys:
                continue
            try:
                signed.verify()
            except BadSignature:
                continue
            voters.setdefault(signed.statement.says, {})[signed.signer] = signed
        # The order of the keys decides whose words about time and maker come first: nothing depends on them.
        return [[said[key] for key in sorted(said)] for said in voters.values() if len(said) >= max(1, self.needed)]
