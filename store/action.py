"""Actions: fully resolved steps. What a step reads is in its record, so the record's digest is the key of its result."""

from __future__ import annotations

from dataclasses import dataclass

from store import codec
from store.codec import BadRecord, Value
from store.digest import BadDigest, Digest

MAX_RECORD = 1 << 24
MAX_INPUTS = 1 << 16
MAX_LABEL = 1024
MAX_KIND = 32


@dataclass(frozen=True, slots=True)
class Action:
    """One step that gives a tree.

    ``kind`` is a short word for what the step does, as "import", "merge", "build" or "pack". ``inputs`` are the trees that
    it reads: each a label for people and a manifest digest, in an order that means something to the step. An import reads
    no tree and has none. ``settings`` are the rest of what the outcome depends on, in a form that only ``kind`` defines.

    Two actions with the same inputs under other labels are two actions: a merge names its conflicts by label.
    """

    kind: str
    inputs: tuple[tuple[str, Digest], ...]
    settings: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.kind) <= MAX_KIND or not set(self.kind) <= set("abcdefghijklmnopqrstuvwxyz-"):
            raise BadRecord("action", f"its kind is {self.kind!r}, not a short word in lower case")
        if len(self.inputs) > MAX_INPUTS:
            raise BadRecord("action", f"more than {MAX_INPUTS} inputs")
        for label, _ in self.inputs:
            if not 0 < len(label) <= MAX_LABEL:
                raise BadRecord("action", f"an input's label has {len(label)} characters, not 1 to {MAX_LABEL}")

    def encode(self) -> bytes:
        """The canonical bytes: ``[1, "action", kind, [[label, digest], ...], [setting, ...]]``. Raises BadRecord."""
        inputs: list[Value] = [[label, digest.raw] for label, digest in self.inputs]
        data = codec.encode("action", [self.kind, inputs, list(self.settings)])
        if len(data) > MAX_RECORD:
            raise BadRecord("action", f"longer than {MAX_RECORD} bytes")
        return data

    @property
    def digest(self) -> Digest:
        """The digest of the canonical bytes: the key of the result."""
        return Digest.of(self.encode())

    @classmethod
    def decode(cls, data: bytes) -> Action:
        """Read canonical bytes. Raises BadRecord."""
        if len(data) > MAX_RECORD:
            raise BadRecord("action", f"longer than {MAX_RECORD} bytes")
        kind, inputs, settings = codec.decode("action", data, 3)
        if type(kind) is not str or type(inputs) is not list or type(settings) is not list:
            raise BadRecord("action", "a field of the wrong type")
        return cls(kind, tuple(_decode_input(row) for row in inputs), tuple(settings))


def _decode_input(row: object) -> tuple[str, Digest]:
    match row:
        case [str(label), bytes(raw)]:
            try:
                return label, Digest(raw)
            except BadDigest:
                raise BadRecord("action", "an input whose digest has the wrong length") from None
    raise BadRecord("action", "an input of an unknown form")
