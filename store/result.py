"""Results: the record that an action gave a tree."""

from __future__ import annotations

from dataclasses import dataclass

from store import codec
from store.digest import SIZE, BadDigest, Digest

MAX_TIME = 1 << 60  # clocks may be wrong, and still the index has to hold what they said


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an action.

    ``action`` is the digest of ``record``, the action's own canonical bytes, kept here so that every question about
    where something came from can be answered from results alone. ``output`` is the digest of a manifest. ``started`` is
    in seconds since 1970, ``milliseconds`` is how long it took, ``log`` the digest of the build's output, when there is one,
    and ``by`` names the program and version that made it.
    """

    record: bytes
    label: str
    output: Digest
    started: int
    milliseconds: int
    by: str
    log: Digest | None = None

    @property
    def action(self) -> Digest:
        """The digest of the action's own bytes."""
        return Digest.of(self.record)

    def encode(self) -> bytes:
        """The canonical bytes."""
        log = None if self.log is None else self.log.raw
        fields: list[codec.Value] = [
            self.record, self.label, self.output.raw, self.started, self.milliseconds, self.by, log,
        ]  # fmt: skip
        return codec.encode("result", fields)

    @classmethod
    def decode(cls, data: bytes) -> Result:
        """Read canonical bytes. Raises BadRecord."""
        fields = codec.decode("result", data, 7)
        kinds = [bytes, str, bytes, int, int, str]
        if [type(field) for field in fields[:6]] != kinds or type(fields[6]) not in (bytes, type(None)):
            raise codec.BadRecord("result", "a field of the wrong type")
        record, label, output, started, milliseconds, by, log = fields
        if not (abs(started) <= MAX_TIME and abs(milliseconds) <= MAX_TIME):
            raise codec.BadRecord("result", "a time that no clock shows")
        try:
            return cls(record, label, Digest(output), started, milliseconds, by, None if log is None else Digest(log))
        except BadDigest as error:
            raise codec.BadRecord("result", error.message) from None

    def sealed(self) -> bytes:
        """What a file of the store holds: the canonical bytes, and behind them their digest. So no change of it goes unseen."""
        data = self.encode()
        return data + Digest.of(data).raw

    @classmethod
    def unseal(cls, data: bytes) -> Result:
        """Read what ``sealed`` gives. Raises BadRecord."""
        record, seal = data[:-SIZE], data[-SIZE:]
        if Digest.of(record).raw != seal:
            raise codec.BadRecord("result", "its bytes do not have the digest that stands behind them")
        return cls.decode(record)
