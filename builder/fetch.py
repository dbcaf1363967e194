"""Downloads: from the first place that gives the right bytes, several at once, resumed where the last attempt broke off.

A file grows as ``downloads/<sha256>.part`` under a lock, so that two processes do not write to it, and gets the name
``downloads/<sha256>`` when all of its bytes have that hash. The folder is a cache: nothing else needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import queue
import ssl
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from builder import tls
from builder.mirrors import Mirrors, Place, show
from builder.progress import Progress, Task
from store import files
from store.errors import Error
from store.store import Store

MAX_SIZE = 4 << 30  # bytes, where nobody says how many to expect
MAX_REDIRECTS = 10
CHUNK = 1 << 18
PAUSES = (0.3, 1.0, 3.0)  # seconds between the attempts at one place
CONNECT, READ = 15.0, 30.0  # seconds without an answer

_AGENT = "builder"
_HINT = "What was fetched so far is kept: run the same command again, or name another place."


@dataclass(frozen=True, slots=True)
class Download:
    """A file to fetch. What it is, is its ``sha256``; ``places`` are where to look, in order.

    ``name`` is for people, ``size`` is in bytes or None when not known, and ``gone`` is the hint to give when every place
    says that it has no such file.
    """

    name: str
    places: tuple[str, ...]
    sha256: str
    size: int | None = None
    gone: str = ""


class FetchFailed(Error):
    """No place gave the file ``name``; ``reasons`` has each place with what was wrong there."""

    def __init__(self, name: str, reasons: tuple[tuple[str, str], ...], *, hint: str = "") -> None:
        lines = "".join(f"\n  {show(place)}: {reason}" for place, reason in reasons)
        super().__init__(f"cannot fetch {name}{':' + lines if lines else ''}", hint=hint)
        self.name = name
        self.reasons = reasons


class WrongHash(Error):
    """A file whose bytes are others than the recipe says. It was kept at ``path``."""

    def __init__(self, name: str, expected: str, actual: str, path: Path, place: str) -> None:
        super().__init__(
            f"{name} from {show(place)} has another sha256 than it should:\n  expected {expected}\n  found    {actual}",
            hint=f"The file was kept as {path}. If it is the right one, correct the sha256; if not, somebody replaced it.",
        )
        self.expected = expected
        self.actual = actual
        self.path = path


class Interrupted(Error):
    """The download was given up because another one failed, or because the user wants to stop."""

    def __init__(self) -> None:
        super().__init__("interrupted")


class _Refused(Exception):
    """This place does not have the file, or not the right one: the next may."""

    def __init__(self, reason: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.missing = missing


class _Broken(Exception):
    """This attempt failed; another one at the same place may not."""


class _NoMore(Exception):
    """The place has no bytes from there on (HTTP 416), so that what is there already is of another file."""


class Fetcher:
    """Fetches into the downloads of ``store``, at most ``jobs`` files at once. ``pauses`` are the seconds between attempts."""

    def __init__(
        self, store: Store, mirrors: Mirrors, progress: Progress, *, jobs: int = 8, pauses: tuple[float, ...] = PAUSES
    ) -> None:
        self._store = store
        self._folder = store.root / "downloads"
        self._mirrors = mirrors
        self._progress = progress
        self._jobs = jobs
        self._pauses = pauses
        self._network = _Network(jobs)

    def fetch(self, downloads: Iterable[Download]) -> Generator[tuple[Download, Path], None, None]:
        """Each download with the file that holds its bytes, in the order in which they are there.

        Raises FetchFailed, WrongHash and NoSpace, of the first download that fails; the others are then given up. They go
        on where they were when they are asked for again.
        """
        waiting: queue.SimpleQueue[Download] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Download, Path | BaseException]] = queue.SimpleQueue()
        count = 0
        for download in downloads:
            waiting.put(download)
            count += 1
        stopped = threading.Event()

        def work() -> None:
            while not stopped.is_set():
                try:
                    download = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((download, self._one(download, stopped)))
                except BaseException as error:
                    done.put((download, error))

        # Daemons, so that Ctrl-C does not have to wait for a server that says nothing.
        for _ in range(min(self._jobs, count)):
            threading.Thread(target=work, name="fetch", daemon=True).start()
        try:
            for _ in range(count):
                download, outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield download, outcome
        finally:
            stopped.set()

    def fetch_bytes(self, place: str, limit: int, check: Callable[[bytes], None] | None = None) -> bytes:
        """A small file whose hash nobody knows beforehand, of at most ``limit`` bytes.

        ``check`` may raise an Error, and then the next mirror is tried. Raises what it raised, or FetchFailed.
        """
        reasons: list[tuple[str, str]] = []
        failure: Error | None = None
        for where in self._mirrors.places(place):
            try:
                data = self._bytes(where, limit)
                if check is not None:
                    check(data)
                return data
            except _Refused as error:
                reasons.append((where.url, error.reason))
            except Error as error:
                failure = failure or error
                reasons.append((where.url, error.message))
        if failure is not None:
            # That there is a file, and what is wrong with it, says more than that others have none.
            raise failure
        raise FetchFailed(place, tuple(reasons), hint=_HINT)

    def _bytes(self, where: Place, limit: int) -> bytes:
        parts: list[bytes] = []

        def attempt() -> None:
            parts.clear()
            size = 0
            with self._network.open(where, 0, "") as body:
                for piece in body.pieces():
                    size += len(piece)
                    if size > limit:
                        raise _Refused(f"more than {limit} bytes")
                    parts.append(piece)

        with self._progress.task("fetch", where.url.rpartition("/")[2]):
            self._attempts(attempt, threading.Event())
        return b"".join(parts)

    # -- one file --

    def _one(self, download: Download, stopped: threading.Event) -> Path:
        self._store.use("downloads", download.sha256)
        final = self._folder / download.sha256
        if _is_whole(final, download.sha256):
            return final
        task = self._progress.task("fetch", download.name, total=download.size or 0)
        part = _Part(self._folder, download.sha256, stopped, task)
        with task, part:
            # Another process may have had it under way.
            if not _is_whole(final, download.sha256):
                part.read()
                self._from_places(download, part)
                part.finish(final)
        return final

    def _from_places(self, download: Download, part: _Part) -> None:
        reasons: list[tuple[str, str]] = []
        places: list[Place] = []
        missing, wrong = True, None
        for address in download.places:
            try:
                places += self._mirrors.places(address)
            except Error as error:
                if len(download.places) == 1:
                    raise
                reasons.append((address, error.message))
        for number, where in enumerate(places, 1):
            try:
                self._from_place(download, where, part, last=number == len(places))
                return
            except _Refused as error:
                reasons.append((where.url, error.reason))
                missing = missing and error.missing
            except WrongHash as error:
                reasons.append((where.url, f"its sha256 is {error.actual}"))
                missing, wrong = False, error
        if wrong is None:
            raise FetchFailed(download.name, tuple(reasons), hint=download.gone if missing else _HINT)
        if len(reasons) == 1:
            raise wrong
        raise FetchFailed(f"{download.name} with the sha256 {download.sha256}", tuple(reasons), hint=wrong.hint)

    def _from_place(self, download: Download, where: Place, part: _Part, *, last: bool) -> None:
        while True:

            def again(before: int = part.size) -> bool:
                # A place that gives nothing at all is not waited for while there is another one to ask.
                return last or part.size > before

            self._attempts(lambda: self._append(download, where, part), part.stopped, again=again)
            actual = part.sha256
            if actual == download.sha256:
                return
            if not part.joined:
                raise WrongHash(download.name, download.sha256, actual, part.keep(actual), where.url)
            # One of the two halves is wrong, and nobody knows which.
            part.clear()

    def _attempts(
        self, attempt: Callable[[], None], stopped: threading.Event, *, again: Callable[[], bool] = lambda: True
    ) -> None:
        for pause in (*self._pauses, None):
            if stopped.is_set():
                raise Interrupted
            try:
                attempt()
                return
            except _Broken as error:
                if pause is None or not again():
                    raise _Refused(str(error)) from None
                stopped.wait(pause)

    def _append(self, download: Download, where: Place, part: _Part) -> None:
        limit = MAX_SIZE if download.size is None else download.size
        if part.sha256 == download.sha256:
            return
        if part.size >= limit:
            part.clear()
        try:
            self._take(download, where, part, limit)
        except _NoMore:
            part.clear()
            self._take(download, where, part, limit)
        if part.size < (download.size or 0):
            raise _Broken(f"cut off after {part.size} of {download.size} bytes")

    def _take(self, download: Download, where: Place, part: _Part, limit: int) -> None:
        with self._network.open(where, part.size, part.validator) as body:
            if body.start != part.size:
                part.clear()
            if body.total is not None and (body.total > limit or download.size not in (None, body.total)):
                raise _Refused(f"it has {body.total} bytes there, and not {'up to ' if download.size is None else ''}{limit}")
            part.validator = body.validator
            part.joined = part.size > 0
            for piece in body.pieces():
                if part.stopped.is_set():
                    raise Interrupted
                if part.size + len(piece) > limit:
                    raise _Refused(f"it has more than {limit} bytes there")
                part.append(piece)


def _is_whole(path: Path, sha256: str) -> bool:
    """Whether the file is there and undamaged: a machine may have lost its power before the bytes were on its disk."""
    try:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return True
        os.unlink(path)
    except FileNotFoundError:
        pass
    return False


class _Part:
    """A file that is growing, held under a lock from ``__enter__`` on. Its hash is kept up with it.

    ``validator`` is the mark of the version that its place gave, ``joined`` whether it was made of more than one answer.
    """

    def __init__(self, folder: Path, sha256: str, stopped: threading.Event, task: Task) -> None:
        self.stopped = stopped
        self.size = 0
        self.validator = ""
        self.joined = False
        self._folder = folder
        self._path = folder / f"{sha256}.part"
        self._task = task
        self._fd = -1
        self._hasher = hashlib.sha256()

    def __enter__(self) -> Self:
        told = False
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                while not files.try_lock(fd):
                    if not told:
                        self._task.say("another builder is fetching it")
                        told = True
                    if self.stopped.wait(0.1):
                        raise Interrupted
                # Whoever held it may have finished it: then it has another name by now.
                if self._has_name(fd):
                    self._fd = fd
                    return self
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _has_name(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def __exit__(self, *_: object) -> None:
        if self._fd < 0:
            return
        # An empty one is of no use to anybody.
        if self._has_name(self._fd) and os.fstat(self._fd).st_size == 0:
            os.unlink(self._path)
        os.close(self._fd)

    def read(self) -> None:
        """Take what an earlier attempt left, to go on from there."""
        while piece := os.read(self._fd, CHUNK):
            self._count(piece)
            if self.stopped.is_set():
                raise Interrupted

    def _count(self, piece: bytes) -> None:
        self._hasher.update(piece)
        self.size += len(piece)
        self._task.advance(len(piece))

    def _reset(self) -> None:
        self._task.advance(-self.size)
        self._hasher, self.size, self.validator, self.joined = hashlib.sha256(), 0, "", False

    @property
    def sha256(self) -> str:
        """The hash of what is there so far."""
        return self._hasher.hexdigest()

    def append(self, piece: bytes) -> None:
        """Add bytes at the end. Raises NoSpace."""
        try:
            files.write_all(self._fd, piece)
        except OSError as error:
            raise files.explain(error, str(self._folder)) from error
        self._count(piece)

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._reset()

    def finish(self, final: Path) -> None:
        """Give it its name."""
        os.fchmod(self._fd, 0o444)
        os.rename(self._path, final)

    def keep(self, actual: str) -> Path:
        """Put the bytes away under their true hash, and begin anew."""
        kept = self._folder / actual
        self.finish(kept)
        old, self._fd = self._fd, -1
        os.close(old)
        self._reset()
        self.__enter__()
        return kept


# -- places --


class _Body:
    """What a place answers: ``start`` is where in the file its bytes begin, ``total`` the size of the whole, if told."""

    def __init__(self, start: int, total: int | None, validator: str, pieces: Callable[[], Iterator[bytes]]) -> None:
        self.start = start
        self.total = total
        self.validator = validator
        self.pieces = pieces


class _Network:
    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pools: dict[tuple[str, bool], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def _pool(self, proxy: str, *, safe: bool) -> urllib3.PoolManager:
        with self._lock:
            if (proxy, safe) not in self._pools:
                self._pools[proxy, safe] = self._new_pool(proxy, safe)
            return self._pools[proxy, safe]

    def _new_pool(self, proxy: str, safe: bool) -> urllib3.PoolManager:
        # It takes a while to read all of a system's certificates, and a mirror of Debian seldom needs them.
        certificates = tls.context() if safe or proxy.startswith("https:") else None
        return pool(proxy, certificates, connections=self._jobs)

    @contextlib.contextmanager
    def open(self, where: Place, start: int, validator: str) -> Iterator[_Body]:
        """The file at a place, from the byte ``start`` on if the place can do that. Raises _Refused and _Broken."""
        try:
            scheme = urlsplit(where.url).scheme
        except ValueError:
            raise _Refused("not an address") from None
        if scheme in ("http", "https"):
            with self._open_http(where, start, validator) as body:
                yield body
        elif scheme in ("file", ""):
            with _open_file(unquote(urlsplit(where.url).path) if scheme else where.url, start) as body:
                yield body
        else:
            raise _Refused(f"{scheme} addresses are not supported")

    @contextlib.contextmanager
    def _open_http(self, where: Place, start: int, validator: str) -> Iterator[_Body]:
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        try:
            response = self._follow(where, headers)
            try:
                yield _answer(response, start)
            finally:
                # An answer that was not read to its end makes the connection useless.
                response.close()
                response.release_conn()
        except (SSLError, LocationValueError) as error:
            raise _Refused(reason(error)) from None
        except (HTTPError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _Broken(reason(error)) from None

    def _follow(self, where: Place, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        url, login = without_login(where.url)
        timeout = urllib3.Timeout(connect=CONNECT, read=READ)
        for _ in range(MAX_REDIRECTS):
            sent = headers | (urllib3.make_headers(basic_auth=login) if login else {})
            response = self._pool(where.proxy, safe=url.startswith("https:")).request(
                "GET",
                url,
                headers=sent,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=timeout,
            )
            if response.status not in (301, 302, 303, 307, 308):
                return response
            response.close()
            target = urljoin(url, response.headers.get("Location", ""))
            old, new = urlsplit(url), urlsplit(target)
            if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
                raise _Refused(f"it leads from {old.scheme} to {show(target)}, which is not as safe")
            if (old.scheme, old.netloc) != (new.scheme, new.netloc):
                login = ""
            url = target
        raise _Refused(f"more than {MAX_REDIRECTS} redirects")


def pool(proxy: str, certificates: ssl.SSLContext | None, *, connections: int) -> urllib3.PoolManager:
    """Connections that are used again, through a proxy if its address is not empty."""
    options: dict[str, Any] = {"maxsize": connections, "num_pools": 2 * connections}
    if certificates is not None:
        options["ssl_context"] = certificates
    if not proxy:
        return urllib3.PoolManager(**options)
    address, login = without_login(proxy if "://" in proxy else f"http://{proxy}")
    headers = urllib3.make_headers(proxy_basic_auth=login) if login else {}
    return urllib3.ProxyManager(address, proxy_headers=headers, **options)


def without_login(url: str) -> tuple[str, str]:
    """An address without its user and password, and these as ``user:password``."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=host).geturl(), unquote(login) if at else ""


def _answer(response: urllib3.BaseHTTPResponse, start: int) -> _Body:
    status = response.status
    if status in (404, 410):
        raise _Refused("there is no such file (HTTP 404)" if status == 404 else "it is gone (HTTP 410)", missing=True)
    if status in (408, 425, 429) or status >= 500:
        raise _Broken(f"HTTP {status} {response.reason or ''}".rstrip())
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    # A weak validator does not promise equal bytes (RFC 9110, section 13.1.5).
    validator = response.headers.get("ETag", "")
    if validator.startswith("W/") or not validator:
        validator = response.headers.get("Last-Modified", "")
    if status == 206 and start:
        first, _, rest = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")
        whole = rest.partition("/")[2]
        if first != str(start):
            raise _Refused("it answers with another part of the file than was asked for")
        return _Body(start, int(whole) if whole.isdigit() else None, validator, lambda: response.stream(CHUNK))
    if status == 416 and start:
        raise _NoMore
    if status != 200:
        raise _Refused(f"HTTP {status} {response.reason or ''}".rstrip())
    return _Body(0, total, validator, lambda: response.stream(CHUNK))


def reason(error: Exception, *, silence: float | None = READ) -> str:
    """What a failed request means, for people; ``silence`` is how long an answer was waited for."""
    match error:
        case SSLError():
            return f"its certificate is not accepted: {error}"
        case urllib3.exceptions.NameResolutionError():
            return "its host is not known"
        case urllib3.exceptions.NewConnectionError():  # to urllib3, this is a kind of timeout
            return "no connection"
        case urllib3.exceptions.ConnectTimeoutError():
            return f"no connection within {CONNECT:.0f} seconds"
        case urllib3.exceptions.ReadTimeoutError():
            return f"no answer for {silence or READ:.0f} seconds"
        case urllib3.exceptions.ProtocolError() | http.client.HTTPException() | ConnectionError():
            return "the connection broke off"
    return str(error) or type(error).__name__


@contextlib.contextmanager
def _open_file(path: str, start: int) -> Iterator[_Body]:
    try:
        file = open(path, "rb")
    except OSError as error:
        raise _Refused(os.strerror(error.errno or 0), missing=isinstance(error, FileNotFoundError)) from None
    with file:
        size = os.fstat(file.fileno()).st_size
        start = start if start <= size else 0
        file.seek(start)
        yield _Body(start, size, "", lambda: iter(lambda: file.read(CHUNK), b""))
