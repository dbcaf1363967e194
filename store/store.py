"""The store's folder: where everything is, and what keeps those who work in it apart."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from store import files
from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest, blobs_in
from store.result import Result

# As typing has it, whose import would take a twentieth of a build that has nothing to do.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from store.batch import Batch
    from store.lease import Lease

FOLDERS = ("blobs", "manifests", "results", "artifacts", "downloads", "roots", "logs", "locks", "tmp", "signatures")


class NoStore(Error):
    """There is no store at ``path``, or it cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot use the store {path}: {reason}", hint="Choose another place with --store or BUILDER_STORE.")
        self.path = path


class MissingBlob(Error):
    """A blob that a manifest lists and the store does not hold."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"the store does not hold the blob {digest}", hint="`builder check` tells what is damaged.")
        self.digest = digest


class MissingManifest(Error):
    """A manifest that something points to and the store does not hold."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"the store does not hold the manifest {digest}", hint="`builder check` tells what is damaged.")
        self.digest = digest


class Damaged(Error):
    """A file of the store whose bytes are not what its name says."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged: its bytes do not have the digest that is its name", hint="Run `builder check`.")
        self.path = path


class Store:
    """A store on disk. ``durable=False`` leaves out waiting for the disk: for tests, and for a store in memory."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        """Open the store at ``root``, and make it when it is not there. Raises NoStore."""
        self.root = Path(os.path.abspath(root))
        self.durable = durable
        self._leases: list[Lease] = []
        # The one that is made last: an older builder's store may lack it.
        if not (self.root / FOLDERS[-1]).is_dir():
            self._create()

    def _create(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o755)
            for folder in FOLDERS:
                if folder == FOLDERS[-1] and self.durable:
                    # It stands for all the others, so it must not outlive a power cut without them.
                    files.sync_directory(self.root)
                # Half-made trees and kept build folders are nobody else's business.
                (self.root / folder).mkdir(exist_ok=True, mode=0o700 if folder == "tmp" else 0o755)
        except OSError as error:
            raise NoStore(self.root, os.strerror(error.errno or 0)) from None

    # -- places --

    def _place(self, folder: str, digest: Digest, suffix: str = "") -> Path:
        # Joined at once: this is asked for each file of each tree, and pathlib takes its time for every part.
        digits = digest.hex
        return self.root / f"{folder}/{digits[:2]}/{digits}{suffix}"

    def blob_path(self, digest: Digest, *, executable: bool) -> Path:
        """Where the blob is. Executable files have their own: hard links share a mode."""
        return self._place("blobs", digest, ".x" if executable else "")

    def manifest_path(self, digest: Digest) -> Path:
        """Where the manifest is."""
        return self._place("manifests", digest)

    def result_path(self, action: Digest) -> Path:
        """Where the result of an action is."""
        return self._place("results", action)

    def signature_path(self, action: Digest, signer: str) -> Path:
        """Where the signature is that the key ``signer`` made over the result of an action."""
        return self._place("signatures", action, f"-{signer}")

    def log_path(self, action: Digest) -> Path:
        """Where the output of a build goes while it runs, and stays."""
        return self.root / "logs" / action.hex

    # -- reading --

    def open_blob(self, digest: Digest) -> BinaryIO:
        """The blob, opened for reading. Raises MissingBlob."""
        for executable in (False, True):
            with contextlib.suppress(FileNotFoundError):
                return open(self.blob_path(digest, executable=executable), "rb")
        raise MissingBlob(digest)

    def read_blob(self, digest: Digest) -> bytes:
        """The bytes of a blob. Raises MissingBlob or Damaged."""
        with self.open_blob(digest) as file:
            data = file.read()
            if Digest.of(data) != digest:
                raise Damaged(Path(file.name))
        return data

    def has_blob(self, node: File) -> bool:
        """Whether the file's bytes are here, with the mode it asks for."""
        return os.path.exists(self.blob_path(node.blob, executable=node.executable))

    def holds(self, manifest: Manifest) -> bool:
        """Whether every blob of ``manifest`` is here. A collection may keep a manifest and not its blobs: see store.collect."""
        return all(self.has_blob(node) for node in {node: None for _, node in manifest.files})

    def read_manifest(self, digest: Digest) -> Manifest:
        """The manifest ``digest``. Raises MissingManifest, Damaged or BadRecord."""
        return Manifest.decode(self._manifest_bytes(digest))

    def _manifest_bytes(self, digest: Digest) -> bytes:
        path = self.manifest_path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise MissingManifest(digest) from None
        if Digest.of(data) != digest:
            raise Damaged(path)
        return data

    def blobs_of(self, tree: Digest) -> set[tuple[bytes, bool]]:
        """Of each blob of a tree its digest's 32 bytes and whether it may be executed. Raises as ``read_manifest``.

        Ten times as fast as that: bytes that have the digest were looked at, entry by entry, when they were written.
        """
        return blobs_in(self._manifest_bytes(tree))

    def read_result(self, action: Digest) -> Result | None:
        """What came of ``action``, or None. A damaged record, or one whose tree is gone, counts as none.

        The tree is known then, but its blobs may be gone: whoever reads them asks ``holds`` first.
        """
        self.use("results", action.hex)
        try:
            result = Result.unseal(self.result_path(action).read_bytes())
        except (FileNotFoundError, BadRecord):
            return None
        if result.action != action or not self.manifest_path(result.output).exists():
            return None
        return result

    # -- writing --

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """A private folder inside the store, removed at the end, and by the next builder if this one is killed."""
        with files.directory(self.root / "tmp") as parent:
            name = os.urandom(8).hex()
            # A sweep holds this lock, so it cannot see the folder before its own lock says that somebody is in there.
            fcntl.flock(parent, fcntl.LOCK_SH)
            os.mkdir(name, mode=0o700, dir_fd=parent)
            fd = files.open_directory(name, at=parent)
            fcntl.flock(fd, fcntl.LOCK_SH)
            fcntl.flock(parent, fcntl.LOCK_UN)
            try:
                yield self.root / "tmp" / name
            finally:
                files.remove_tree(name, at=parent)
                os.close(fd)

    def sweep(self) -> int:
        """Remove what killed builders left in tmp/. Gives how many folders went; none when a workspace is just being made."""
        with files.directory(self.root / "tmp") as parent, contextlib.ExitStack() as held:
            if not files.try_lock(parent):
                return 0
            left = []
            for name in os.listdir(parent):
                if not name.startswith("kept-"):
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        fd = files.open_directory(name, at=parent)
                        held.callback(os.close, fd)
                        if files.try_lock(fd):
                            left.append(name)
            # Nobody takes them up again, and who makes a new one need not wait.
            fcntl.flock(parent, fcntl.LOCK_UN)
            for name in left:
                files.remove_tree(name, at=parent)
        return len(left)

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock ``name``, which other processes and threads then wait for. ``waiting`` is called before a wait."""
        # The file stays: removing it would let two processes hold locks on two files of one name.
        fd = os.open(self.root / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            if not files.try_lock(fd, shared=shared):
                if waiting is not None:
                    waiting()
                fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep what is used, for as long as the with block lasts, from collections: see store.lease.

        From the first look-up until a root points to the outcome. What is looked up with ``read_result``, added by a batch,
        checked out, or named to ``use``, is used. Nothing waits: a collection may go on beside it.
        """
        from store.lease import Lease

        lease = Lease(self.root / "locks")
        self._leases.append(lease)
        try:
            yield
        finally:
            self._leases.remove(lease)
            lease.end()

    def use(self, kind: str, *names: str) -> None:
        """Say that things of the store are used, before looking whether they are there. For who is ``in_use``.

        ``kind`` is the name of their folder, or "tree" for all that an artifact with this digest needs.
        """
        for lease in self._leases[-1:]:
            lease.add(kind, names)

    def uncollected(self, *, waiting: Callable[[], None] | None = None) -> contextlib.AbstractContextManager[None]:
        """Keep collections away altogether, for as long as the with block lasts, as a check of everything has to.

        ``waiting`` is called when one is going on, before its end is waited for.
        """
        return self.lock("collect", shared=True, waiting=waiting)

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Things to be added. They get their names when the with block ends, and only if it ends without an error.

        Raises NoSpace, and Error for whatever else the disk refuses when names are given.
        """
        from store.batch import Batch  # it needs this module, and a run that has nothing to do needs none of it

        try:
            with self.workspace() as folder, files.directory(folder) as fd:
                batch = Batch(self, fd)
                yield batch
                try:
                    batch.commit()
                except OSError as error:
                    raise files.explain(error, str(self.root)) from error
        except OSError as error:
            # Whatever was added in the block, and the workspace itself: a full disk is the same news everywhere.
            if files.is_full(error):
                raise files.NoSpace(str(self.root)) from error
            raise
