"""A directory of another machine, through sftp. The machine's own ssh makes the connection: its keys, agent and known hosts."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import paramiko

from store.remote import NotThere, Object, RemoteError

CHUNK = 1 << 18
CONNECTIONS = 3


class SftpRemote:
    """Objects are files below the directory ``top`` of ``host``."""

    def __init__(self, name: str, host: str, top: str, *, user: str | None, port: int | None) -> None:
        self.name = name
        self._host, self._top, self._user, self._port = host, top.rstrip("/"), user, port
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._idle: list[paramiko.SFTPClient] = []
        self._folders: set[str] = set()

    @contextlib.contextmanager
    def _sftp(self) -> Iterator[paramiko.SFTPClient]:
        """A connection that nobody else uses meanwhile: the library mixes up the answers of two threads."""
        with self._free:
            try:
                client = self._idle.pop()
            except IndexError:
                client = self._connect()
            try:
                yield client
            except (OSError, EOFError, paramiko.SSHException) as error:
                if not isinstance(error, OSError) or not error.errno:
                    client.close()
                    raise RemoteError(self.name, str(error) or "the connection broke off") from None
                self._idle.append(client)
                raise RemoteError(self.name, os.strerror(error.errno)) from None
            except GeneratorExit:
                # Somebody stopped reading half-way: there are answers on the line that nobody waits for.
                client.close()
                raise
            else:
                self._idle.append(client)

    def _connect(self) -> paramiko.SFTPClient:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise RemoteError(self.name, "there is no ssh on this machine", hint="Install OpenSSH's client.")
        words = [ssh, "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]
        if self._port is not None:
            words += ["-p", str(self._port)]
        if self._user is not None:
            words += ["-l", self._user]
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen([*words, "-s", "--", self._host, "sftp"], stdin=theirs.fileno(), stdout=theirs.fileno())
        try:
            # The channel is only read from and written to, as a socket can be too.
            return paramiko.SFTPClient(ours)  # type: ignore[arg-type]
        except (paramiko.SSHException, EOFError, OSError) as error:
            ours.close()
            status = process.wait()
            reason = f"ssh ended with status {status}" if status else str(error)
            raise RemoteError(self.name, reason, hint=f"Does `ssh {self._host}` work? Is sftp allowed there?") from None

    def read(self, key: str, limit: int) -> bytes | None:
        """See store.remote.Remote."""
        with self._sftp() as client:
            try:
                with client.open(f"{self._top}/{key}", "rb") as file:
                    file.prefetch()
                    data = file.read(limit + 1)
            except FileNotFoundError:
                return None
        if len(data) > limit:
            raise RemoteError(self.name, f"{key} has more than {limit} bytes")
        return data

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See store.remote.Remote."""
        # Many requests are under way at once: else each piece would wait for the line's delay.
        spans = [(at, min(CHUNK, start + length - at)) for at in range(start, start + length, CHUNK)]
        with self._sftp() as client:
            try:
                with client.open(f"{self._top}/{key}", "rb") as file:
                    yield from (bytes(piece) for piece in file.readv(spans))
            except FileNotFoundError:
                raise NotThere(self.name, key) from None

    def has(self, keys: Sequence[str]) -> list[bool]:
        """See store.remote.Remote."""
        with self._sftp() as client:
            return [_exists(client, f"{self._top}/{key}") for key in keys]

    def write(self, key: str, data: bytes | Path) -> None:
        """See store.remote.Remote."""
        place = f"{self._top}/{key}"
        folder, _, last = place.rpartition("/")
        temporary = f"{folder}/.{last[:64]}.{os.urandom(8).hex()}.new"
        with self._sftp() as client:
            self._make(client, folder)
            try:
                with client.open(temporary, "wx") as file:
                    file.set_pipelined(True)
                    if isinstance(data, bytes):
                        file.write(data)
                    else:
                        with open(data, "rb") as source:
                            shutil.copyfileobj(source, file, CHUNK)
                client.posix_rename(temporary, place)
            except BaseException:
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    client.remove(temporary)
                raise

    def _make(self, client: paramiko.SFTPClient, folder: str) -> None:
        if folder in self._folders or not folder:
            return
        if not _exists(client, folder):
            self._make(client, folder.rpartition("/")[0])
            try:
                client.mkdir(folder)
            except OSError:
                client.stat(folder)  # another push was faster
        self._folders.add(folder)

    def objects(self, prefix: str) -> Iterator[Object]:
        """See store.remote.Remote."""
        waiting = [prefix.rstrip("/")]
        while waiting:
            folder = waiting.pop()
            with self._sftp() as client:
                try:
                    entries = client.listdir_attr(f"{self._top}/{folder}" if folder else self._top)
                except FileNotFoundError:
                    continue
            for entry in sorted(entries, key=lambda entry: entry.filename):
                key = f"{folder}/{entry.filename}" if folder else entry.filename
                if stat.S_ISDIR(entry.st_mode or 0):
                    waiting.append(key)
                elif not entry.filename.startswith("."):
                    yield Object(key, entry.st_size or 0, float(entry.st_mtime or 0))

    def remove(self, keys: Iterable[str]) -> None:
        """See store.remote.Remote."""
        with self._sftp() as client:
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    client.remove(f"{self._top}/{key}")


def _exists(client: paramiko.SFTPClient, path: str) -> bool:
    try:
        client.stat(path)
    except FileNotFoundError:
        return False
    return True
