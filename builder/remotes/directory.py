"""A directory as a remote: on this machine, or on a network's disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from store import files
from store.remote import NotThere, Object, RemoteError

CHUNK = 1 << 20


class DirectoryRemote:
    """Objects are files below ``top``: read-only, and whole from the moment that their names are there."""

    def __init__(self, name: str, top: Path) -> None:
        self.name = name
        self.top = Path(os.path.abspath(top))

    def _failed(self, error: OSError) -> RemoteError:
        hint = "Its disk is full." if files.is_full(error) else ""
        return RemoteError(self.name, f"{error.filename or self.top}: {os.strerror(error.errno or 0)}", hint=hint)

    def read(self, key: str, limit: int) -> bytes | None:
        """See store.remote.Remote."""
        try:
            with open(self.top / key, "rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed(error) from None
        if len(data) > limit:
            raise RemoteError(self.name, f"{key} has more than {limit} bytes")
        return data

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See store.remote.Remote."""
        try:
            with open(self.top / key, "rb") as file:
                file.seek(start)
                while length > 0 and (piece := file.read(min(CHUNK, length))):
                    length -= len(piece)
                    yield piece
        except (FileNotFoundError, NotADirectoryError):
            raise NotThere(self.name, key) from None
        except OSError as error:
            raise self._failed(error) from None

    def has(self, keys: Sequence[str]) -> list[bool]:
        """See store.remote.Remote."""
        return [os.path.isfile(self.top / key) for key in keys]

    def write(self, key: str, data: bytes | Path) -> None:
        """See store.remote.Remote."""
        place = self.top / key
        temporary = place.parent / f".{os.urandom(8).hex()}.new"
        try:
            self._make(place.parent)
            try:
                with open(temporary, "xb") as file:
                    if isinstance(data, bytes):
                        file.write(data)
                    else:
                        with open(data, "rb") as source:
                            shutil.copyfileobj(source, file, CHUNK)
                    file.flush()
                    os.fchmod(file.fileno(), 0o444)
                    os.fsync(file.fileno())
                os.rename(temporary, place)
                # So that no name of later objects is on the disk before this one is.
                files.sync_directory(place.parent)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        except OSError as error:
            raise self._failed(error) from None

    def _make(self, folder: Path) -> None:
        """Make a directory, and those above it that are not there. Their names come to the disk before what is in them."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        files.sync_directory(folder.parent)

    def objects(self, prefix: str) -> Iterator[Object]:
        """See store.remote.Remote."""
        try:
            for folder, folders, names in os.walk(self.top / prefix, onerror=self._walk_failed):
                folders.sort()
                for file in sorted(names):
                    path = os.path.join(folder, file)
                    # What a killed push was writing.
                    if file.startswith("."):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        status = os.lstat(path)
                        yield Object(os.path.relpath(path, self.top), status.st_size, status.st_mtime)
        except OSError as error:
            raise self._failed(error) from None

    def _walk_failed(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise self._failed(error) from None

    def remove(self, keys: Iterable[str]) -> None:
        """See store.remote.Remote."""
        for key in keys:
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.top / key)
            except OSError as error:
                raise self._failed(error) from None
