"""One artifact from a remote, by whatever a person calls it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder import versions
from builder.progress import Progress
from store import artifacts, pull
from store.artifacts import Folder
from store.digest import PREFIX, Digest
from store.errors import Error
from store.parcels import Waybill
from store.remote import Lying, NotThere, Remote
from store.signing import Signed, Trust
from store.store import Store


class NotSigned(Error):
    """Nobody who is trusted says which artifact has this name."""

    def __init__(self, remote: str, name: str, trust: Trust) -> None:
        names = ", ".join(sorted(key.name for key in trust.keys.values())) or "none"
        needed = f", and {trust.needed} have to say the same" if trust.needed > 1 else ""
        super().__init__(
            f"remote {remote}: no trusted key says what {name} is (trusted: {names}{needed})",
            hint="`builder key trust` trusts the key of who pushed it. A whole digest (b3:…) needs no trust.",
        )


class Disagreement(Error):
    """Trusted keys say different things of one version of a name."""

    def __init__(self, remote: str, name: str, said: Sequence[Signed]) -> None:
        found = ", ".join(f"{s.statement.version} {s.statement.result.output}" for s in said)
        super().__init__(f"remote {remote}: {name} may be any of {found}", hint="Pull one of these digests.")


def obtain(
    store: Store, place: Remote, spec: str, trust: Trust, progress: Progress, *, platform: str
) -> tuple[Folder, Digest, Path]:
    """The artifact that ``spec`` means on a remote, brought here and checked out: its folder's name, digest and path.

    ``spec`` is a whole digest, an artifact's folder, a name, or a name and version with "-" between. Raises RemoteError,
    NotSigned, Disagreement.
    """
    signed: list[Signed] = []
    if spec.startswith(PREFIX):
        digest = Digest.parse(spec)
        bill = pull.waybill(place, digest.base32)
        if bill.manifest.digest != digest:
            raise Lying(place.name, f"the waybill {digest.short}", "it is of another tree")
    elif folder := Folder.parse(spec):
        bill = pull.waybill(place, folder.base32)
        bill = Waybill(folder.name, folder.version, bill.manifest, bill.places)
    else:
        signed = _named(place, spec, trust, platform)
        said = signed[0].statement
        bill = pull.waybill(place, said.result.output.base32)
        if bill.manifest.digest != said.result.output or bill.manifest.size != said.size:
            raise Lying(place.name, f"the waybill of {spec}", "it is of another tree than what was signed")
        bill = Waybill(said.name, said.version, bill.manifest, bill.places)
    tree = bill.manifest
    with progress.task("pull", f"{bill.name} {bill.version} from {place.name}", total=tree.size) as task:
        pull.pull(store, place, bill, report=task.advance)
    if signed:
        with store.batch() as batch:
            batch.add_result(signed[0].statement.result)
            for one in signed:
                batch.add_signature(one)
    path = artifacts.check_out(store, tree, name=bill.name, version=bill.version)
    return Folder.of(tree.digest, bill.name, bill.version), tree.digest, path


def _named(place: Remote, spec: str, trust: Trust, platform: str) -> list[Signed]:
    """What enough trusted keys say of a name: one statement, by each key that says it."""
    name, _, version = spec.rpartition("-")
    tries = [(spec, None)] + ([(name, version)] if name else [])
    missing = True
    for wanted, number in tries:
        every = pull.named(place, wanted, platform, number, trust.keys) if _is_name(wanted) else []
        missing = missing and not every
        believed = [same for same in trust.believed(every) if number in (None, same[0].statement.version.replace("-", "_"))]
        if not believed:
            continue
        # Several keys may have pushed different versions under the name: the highest is the newest, whatever their clocks say.
        newest = max(believed, key=lambda same: versions.sort_key(same[0].statement.version))
        rivals = [same[0] for same in believed if same[0].statement.version == newest[0].statement.version]
        if len({signed.statement.result.output for signed in rivals}) > 1:
            raise Disagreement(place.name, spec, rivals)
        return newest
    if missing and trust.keys:
        raise NotThere(place.name, f"{spec} for {platform}, signed by a trusted key", hint=_HINT)
    raise NotSigned(place.name, spec, trust)


_HINT = "`builder push` puts artifacts there; `builder key list` says whom you trust. A whole digest (b3:…) needs no trust."


def _is_name(name: str) -> bool:
    return Folder.parse(f"{'a' * 32}-{name}-1") is not None
