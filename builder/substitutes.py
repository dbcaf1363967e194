"""Results that others have made, and signed: what a build need not do itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from builder.progress import Progress
from store import pull
from store.action import Action
from store.digest import Digest
from store.errors import Error
from store.manifest import Manifest
from store.parcels import Waybill
from store.remote import NotThere, Remote, RemoteError
from store.signing import Signed, Trust
from store.store import Store


class NobodyTrusted(Error):
    """A remote is to be asked for results, and no key is trusted, so that none could be believed."""

    def __init__(self, remote: str) -> None:
        super().__init__(
            f"nothing from {remote} can be believed: no key is trusted",
            hint="`builder key trust 'builder-key NAME …'` trusts one. Who pushes gets that line from `builder key list`.",
        )


class Substitutes:
    """Remotes that are asked before something is built. One that fails is warned of, and not asked again."""

    def __init__(self, store: Store, remotes: Sequence[Remote], trust: Trust, progress: Progress) -> None:
        """Raises NobodyTrusted."""
        if remotes and not trust.keys:
            raise NobodyTrusted(remotes[0].name)
        self._store = store
        self._remotes = list(remotes)
        self._trust = trust
        self._progress = progress
        self._lock = threading.RLock()
        self._asked: set[Digest] = set()

    def _failed(self, remote: Remote, error: RemoteError) -> None:
        self._progress.warn(f"{error.message}; going on without it")
        if remote in self._remotes:
            self._remotes.remove(remote)

    def result(self, action: Action) -> Digest | None:
        """What trusted keys say came of an action, now known to this store; None if they say nothing, or too few do."""
        with self._lock:
            digest = action.digest
            if digest in self._asked:
                return None
            self._asked.add(digest)
            every: list[Signed] = []
            for remote in list(self._remotes):
                try:
                    every += pull.results(remote, digest, self._trust.keys)
                except RemoteError as error:
                    self._failed(remote, error)
            believed = self._trust.believed(every)
            if len(believed) > 1:
                said = ", ".join(sorted(same[0].statement.result.output.short for same in believed))
                self._progress.warn(f"trusted keys say different things of {believed[0][0].statement.result.label}: {said}")
                return None
            return self._keep(believed[0]) if believed else None

    def _keep(self, signatures: Sequence[Signed]) -> Digest | None:
        statement = signatures[0].statement
        result = statement.result
        self._store.use("tree", result.output.hex)
        if not self._store.manifest_path(result.output).exists():
            tree = self._manifest(result.output)
            if tree is None:
                return None
        else:
            tree = self._store.read_manifest(result.output)
        if tree.size != statement.size:
            self._progress.warn(f"{result.label}: what was signed has another size than its tree")
            return None
        with self._store.batch() as batch:
            batch.add_manifest(tree)
            batch.add_result(result)
            for signed in signatures:
                batch.add_signature(signed)
        return result.output

    def _manifest(self, tree: Digest) -> Manifest | None:
        for remote in list(self._remotes):
            try:
                found = pull.manifest(remote, tree)
                if found is None:
                    bill = self._waybill(remote, tree)
                    found = None if bill is None else bill.manifest
                if found is not None:
                    return found
            except RemoteError as error:
                self._failed(remote, error)
        return None

    @staticmethod
    def _waybill(remote: Remote, tree: Digest) -> Waybill | None:
        try:
            bill = pull.waybill(remote, tree.base32)
        except NotThere:
            return None
        return bill if bill.manifest.digest == tree else None

    def bring(self, tree: Digest) -> bool:
        """Bring the bytes of a known tree into the store. False: nobody has all of them."""
        with self._lock:
            if tree in self._asked:
                return False
            self._asked.add(tree)
            for remote in list(self._remotes):
                try:
                    bill = self._waybill(remote, tree)
                    if bill is not None:
                        label = f"{bill.name} {bill.version} from {remote.name}"
                        with self._progress.task("pull", label, total=bill.manifest.size) as task:
                            pull.pull(self._store, remote, bill, report=task.advance)
                        return True
                except RemoteError as error:
                    self._failed(remote, error)
            return False
