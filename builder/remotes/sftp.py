"""A directory of another machine, through sftp. The machine's own ssh makes the connection: its keys, agent and known hosts."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import paramiko

from builder.mirrors import show
from store.remote import NotThere, Object, RemoteError

CHUNK, WINDOW = 1 << 18, 1 << 23
CONNECTIONS = 3
# Seconds without an answer. A login may ask its user for something; ssh itself gives up sooner where nobody answers.
SILENCE, LOGIN = 30.0, 120.0
MAX_SAID = 1 << 14  # bytes


class _Line:
    """What the library talks through in the place of a channel of its own: ssh's standard input and output."""

    def __init__(self, ours: socket.socket, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._socket, self._process, self._said = ours, process, said
        self._dead = False
        self.recv = ours.recv

    def send(self, data: bytes) -> int:
        """As a socket's, but for errors: the library asks for what is next in a thread, which nobody catches them in.

        Nothing is sent after one; who waits for the answer is told then, by ``recv``.
        """
        if not self._dead:
            try:
                return self._socket.send(data)
            except OSError:
                self._dead = True
        return len(data)

    def wait_at_most(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def recv_ready(self) -> bool:
        return bool(select.select([self._socket], [], [], 0)[0])

    def get_name(self) -> str:
        return "ssh"

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait()

    def reason(self, error: Exception) -> str:
        """Why there is no connection: the last words of ssh, if it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if isinstance(error, TimeoutError) or self._process.wait(5) == 0:
                return "it does not answer" if isinstance(error, TimeoutError) else str(error)
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read(MAX_SAID).decode("utf-8", "replace").splitlines() if line.strip()]
        return show(lines[-1])[:300] if lines else f"ssh ended with status {self._process.returncode}"


class SftpRemote:
    """Objects are files below the directory ``top`` of ``host``."""

    def __init__(self, name: str, host: str, top: str, *, user: str | None, port: int | None, silence: float = SILENCE) -> None:
        self.name = name
        self._host, self._top, self._user, self._port = host, top.rstrip("/"), user, port
        self._silence = silence
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
            except RemoteError:
                self._idle.append(client)
                raise
            except (FileNotFoundError, PermissionError) as error:
                self._idle.append(client)
                raise RemoteError(self.name, os.strerror(error.errno or 0)) from None
            except (OSError, EOFError, paramiko.SSHException, paramiko.SFTPError) as error:
                client.close()
                raise self._broken(error) from None
            except BaseException:
                # Somebody stopped half-way: there are answers on the line that nobody waits for.
                client.close()
                raise
            else:
                self._idle.append(client)

    def _broken(self, error: Exception) -> RemoteError:
        if isinstance(error, TimeoutError):
            return RemoteError(self.name, "it does not answer")
        if isinstance(error, OSError) and not error.errno:
            # The protocol has one word for a full disk, a read-only one, and much else.
            return RemoteError(self.name, f"its sftp says: {error}", hint="Is there room, and may its user write there?")
        return RemoteError(self.name, "the connection broke off")

    def _connect(self) -> paramiko.SFTPClient:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise RemoteError(self.name, "there is no ssh on this machine", hint="Install OpenSSH's client.")
        wait = max(1, min(15, int(self._silence)))
        words = [ssh, "-o", f"ConnectTimeout={wait}", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=2"]
        if self._port is not None:
            words += ["-p", str(self._port)]
        if self._user is not None:
            words += ["-l", self._user]
        # What it says is shown if it fails. Questions it asks on the terminal, and not there.
        said = tempfile.TemporaryFile()
        ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            process = subprocess.Popen([*words, "-s", "--", self._host, "sftp"], stdin=end, stdout=end, stderr=said)
        line = _Line(ours, process, said)
        try:
            line.wait_at_most(LOGIN)
            # The channel is only read from and written to.
            client = paramiko.SFTPClient(line)  # type: ignore[arg-type]
            line.wait_at_most(self._silence)
            return client
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            reason = line.reason(error)
            line.close()
            raise RemoteError(self.name, reason, hint=f"Does `ssh {self._host}` work? Is sftp allowed there?") from None

    def read(self, key: str, limit: int) -> bytes | None:
        """See store.remote.Remote."""
        with self._sftp() as client:
            try:
                file = client.open(f"{self._top}/{key}", "rb")
            except FileNotFoundError:
                return None
            size = file.stat().st_size or 0
            data = b"".join(_pieces(file, 0, size)) if size <= limit else b""
            file.close()
        if size > limit:
            raise RemoteError(self.name, f"{key} has more than {limit} bytes")
        return data

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See store.remote.Remote."""
        with self._sftp() as client:
            try:
                file = client.open(f"{self._top}/{key}", "rb")
            except FileNotFoundError:
                raise NotThere(self.name, key) from None
            # Closed at its end only: where this stops before, the line is of no more use, or somebody would wait for it.
            yield from _pieces(file, start, length)
            file.close()

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
                # Another push may have been faster.
                if not _exists(client, folder):
                    raise
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


def _pieces(file: paramiko.SFTPFile, start: int, length: int) -> Iterator[bytes]:
    """Bytes of a file. Many requests are under way at once, or each piece would wait for the line's delay; but not all."""
    end = start + length
    for begin in range(start, end, WINDOW):
        stop = min(begin + WINDOW, end)
        for piece in file.readv([(at, min(CHUNK, stop - at)) for at in range(begin, stop, CHUNK)]):
            yield bytes(piece)


def _exists(client: paramiko.SFTPClient, path: str) -> bool:
    try:
        client.stat(path)
    except FileNotFoundError:
        return False
    return True
