"""HTTP servers as remotes: any that gives files can be read, and one that knows WebDAV (RFC 4918) can be written to."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urljoin, urlsplit
from xml.etree import ElementTree

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from builder import fetch, tls
from builder.mirrors import show
from store.remote import NotThere, Object, RemoteError

THREADS = 16
PIECE = 1 << 18
PAUSES = (0.3, 1.0)  # seconds between the attempts at one request
# Seconds in which nothing comes or goes, after which an attempt is given up.
SILENCE = 20.0
MAX_REDIRECTS = 5
MAX_LISTING = 1 << 26  # bytes of one folder's
MAX_DEPTH = 8

_ASKED = b'<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>'
_DAV = "{DAV:}"
_LOGIN = "A user and a password may stand in the address: https://user:password@…"
_NO_DAV = "This server can be pulled from only: to be pushed to, it has to know WebDAV, and to allow it."


class _Broken(Exception):
    """This attempt failed; another one may not."""


class HttpRemote:
    """Objects are files below an address. ``proxy`` is the address of the proxy to go through, or empty."""

    def __init__(self, name: str, address: str, *, proxy: str = "", silence: float = SILENCE) -> None:
        self.name = name
        plain, login = fetch.without_login(address)
        self._top = plain.rstrip("/") + "/"
        self._login = urllib3.make_headers(basic_auth=login) if login else {}
        self._proxy = proxy
        self._timeout = urllib3.Timeout(connect=min(silence, fetch.CONNECT), read=silence)
        self._lock = threading.Lock()
        self._made: urllib3.PoolManager | None = None
        self._folders: set[str] = set()

    def _pool(self) -> urllib3.PoolManager:
        with self._lock:
            if self._made is None:
                safe = self._top.startswith("https:") or self._proxy.startswith("https:")
                self._made = fetch.pool(self._proxy, tls.context() if safe else None, connections=THREADS)
            return self._made

    def _url(self, key: str) -> str:
        return self._top + quote(key)

    # -- requests --

    def _send(self, method: str, url: str, headers: dict[str, str], body: bytes | IO[bytes] | None) -> urllib3.BaseHTTPResponse:
        """One request, and where it leads if it only asks. Raises _Broken and RemoteError."""
        own = urlsplit(self._top)
        try:
            for _ in range(MAX_REDIRECTS):
                there = urlsplit(url)
                login = self._login if (there.scheme, there.netloc) == (own.scheme, own.netloc) else {}
                answer = self._pool().request(
                    method,
                    url,
                    headers={"User-Agent": "builder", "Accept-Encoding": "identity", **headers, **login},
                    body=body,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=self._timeout,
                )
                if answer.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                    return answer
                _drop(answer)
                target = urljoin(url, answer.headers.get("Location", ""))
                scheme = urlsplit(target).scheme
                if scheme not in ("http", "https") or (there.scheme == "https" and scheme == "http"):
                    raise RemoteError(self.name, f"it leads from {there.scheme} to {show(target)}, which is not as safe")
                url = target
        except SSLError as error:
            hint = "SSL_CERT_FILE names a file with the certificate of an authority of your own."
            raise RemoteError(self.name, fetch.reason(error), hint=hint) from None
        except LocationValueError as error:
            raise RemoteError(self.name, str(error)) from None
        except (HTTPError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _Broken(fetch.reason(error, silence=self._timeout.read_timeout)) from None
        raise RemoteError(self.name, f"more than {MAX_REDIRECTS} redirects")

    @contextlib.contextmanager
    def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes | Path | None = None,
        allowed: Sequence[int] = (),
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer that says success, or has an ``allowed`` status. Raises RemoteError, after some attempts."""
        for pause in (*PAUSES, None):
            try:
                with contextlib.ExitStack() as stack:
                    sent = stack.enter_context(open(body, "rb")) if isinstance(body, Path) else body
                    answer = self._send(method, url, headers or {}, sent)
                if answer.status < 500 or answer.status in (501, 507, *allowed):
                    break
                _drop(answer)
                raise _Broken(_status(answer))
            except _Broken as error:
                if pause is None:
                    raise RemoteError(self.name, str(error)) from None
                time.sleep(pause)
        try:
            if not 200 <= answer.status < 300 and answer.status not in allowed:
                raise self._refused(method, answer)
            yield answer
        except (HTTPError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise RemoteError(self.name, fetch.reason(error, silence=self._timeout.read_timeout)) from None
        finally:
            _drop(answer)

    def _refused(self, method: str, answer: urllib3.BaseHTTPResponse) -> RemoteError:
        if answer.status == 401:
            return RemoteError(self.name, "it asks who we are" if not self._login else "it refuses this login", hint=_LOGIN)
        hint = "" if method in ("GET", "HEAD") or answer.status in (413, 507) else _NO_DAV
        return RemoteError(self.name, f"it answers {_status(answer)} to {method}", hint=hint)

    # -- store.remote.Remote --

    def read(self, key: str, limit: int) -> bytes | None:
        """See store.remote.Remote."""
        parts: list[bytes] = []
        size = 0
        try:
            for piece in self._pieces(key, 0, None):
                size += len(piece)
                if size > limit:
                    raise RemoteError(self.name, f"{key} has more than {limit} bytes")
                parts.append(piece)
        except NotThere:
            return None
        return b"".join(parts)

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See store.remote.Remote."""
        return self._pieces(key, start, length)

    def _pieces(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        """The bytes of an object from ``start`` on. An answer that breaks off is gone on with, as long as anything comes."""
        end = None if length is None else start + length
        failures = 0
        while end is None or start < end:
            before = start
            try:
                for piece in self._answer(key, start, end):
                    start += len(piece)
                    yield piece
                return
            except _Broken as error:
                failures = 0 if start > before else failures + 1
                # One whose length nobody knows may have changed meanwhile.
                if failures > len(PAUSES) or (end is None and start):
                    raise RemoteError(self.name, str(error)) from None
                time.sleep(PAUSES[max(0, failures - 1)])

    def _answer(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        headers = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}
        with self._ask("GET", self._url(key), headers, allowed=(404, 410, 416)) as answer:
            if answer.status in (404, 410):
                raise NotThere(self.name, key)
            if answer.status == 416:
                return
            at = 0
            if answer.status == 206:
                first = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
                if end is None or first != str(start):
                    raise RemoteError(self.name, "it answers with another part of the file than was asked for")
                at = start
            try:
                # A server that knows no ranges sends everything.
                for piece in answer.stream(PIECE):
                    wanted = piece[max(0, start - at) : None if end is None else max(0, end - at)]
                    at += len(piece)
                    if wanted:
                        yield wanted
                    if end is not None and at >= end:
                        return
            except (HTTPError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                raise _Broken(fetch.reason(error, silence=self._timeout.read_timeout)) from None

    def has(self, keys: Sequence[str]) -> list[bool]:
        """See store.remote.Remote."""

        def look(key: str) -> bool:
            with self._ask("HEAD", self._url(key), allowed=(404, 410)) as answer:
                return answer.status not in (404, 410)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(look, keys))

    def write(self, key: str, data: bytes | Path) -> None:
        """See store.remote.Remote."""
        self._make(self._url(key).rpartition("/")[0])
        size = len(data) if isinstance(data, bytes) else os.stat(data).st_size
        with self._ask("PUT", self._url(key), {"Content-Length": str(size)}, data):
            pass

    def _make(self, folder: str) -> None:
        """Make a folder, by its address, and those above it that are not there."""
        if folder in self._folders or not urlsplit(folder).path.strip("/"):
            return
        for _ in range(2):
            # 405: it is there. What cannot make folders may not need any: PUT will say.
            with self._ask("MKCOL", folder + "/", allowed=(301, 404, 405, 409, 501)) as answer:
                status = answer.status
            if status not in (404, 409):
                break
            self._make(folder.rpartition("/")[0])
        self._folders.add(folder)

    def objects(self, prefix: str) -> Iterator[Object]:
        """See store.remote.Remote."""
        # Folder by folder: many servers refuse to list all that is below one.
        waiting = [prefix.rstrip("/")]
        while waiting:
            folder = waiting.pop()
            for name, size, modified in self._list(folder):
                key = f"{folder}/{name}" if folder else name
                if size is not None:
                    yield Object(key, size, modified)
                elif key.count("/") < MAX_DEPTH:
                    waiting.append(key)

    def _list(self, folder: str) -> Iterator[tuple[str, int | None, float]]:
        """What is in a folder: name, size or None for a folder, and time."""
        headers = {"Depth": "1", "Content-Type": "application/xml"}
        key = folder + "/" if folder else ""
        with self._ask("PROPFIND", self._url(key), headers, _ASKED, allowed=(404, 410)) as answer:
            if answer.status in (404, 410):
                return
            data = answer.read(MAX_LISTING + 1)
        try:
            # Entities are what makes reading XML dangerous; answers of servers have none.
            if len(data) > MAX_LISTING or b"<!" in data or b"\0" in data:
                raise ValueError("it is too long, or declares things")
            rows = list(_rows(ElementTree.fromstring(data)))  # noqa: S314
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            raise RemoteError(self.name, f"its list of {folder or 'files'} cannot be read: {error}") from None
        own = unquote(urlsplit(self._url(key)).path).rstrip("/")
        for path, size, modified in rows:
            above, _, name = path.rstrip("/").rpartition("/")
            if above == own and name not in ("", ".", ".."):
                yield name, size, modified

    def remove(self, keys: Iterable[str]) -> None:
        """See store.remote.Remote."""

        def forget(key: str) -> None:
            with self._ask("DELETE", self._url(key), allowed=(404, 410)):
                pass

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(forget, keys))


def _rows(top: ElementTree.Element) -> Iterator[tuple[str, int | None, float]]:
    """Path, size or None for a folder, and time of each answer of a PROPFIND. Raises ValueError and TypeError."""
    for response in top.iter(f"{_DAV}response"):
        path = unquote(urlsplit(response.findtext(f"{_DAV}href", "").strip()).path)
        found: dict[str, Any] = {}
        for prop in response.iterfind(f"{_DAV}propstat/{_DAV}prop"):
            found |= {element.tag: element for element in prop}
        kind = found.get(f"{_DAV}resourcetype")
        if kind is not None and kind.find(f"{_DAV}collection") is not None:
            yield path, None, 0.0
            continue
        size, modified = (found.get(f"{_DAV}{name}") for name in ("getcontentlength", "getlastmodified"))
        if size is None or modified is None:
            raise ValueError("a file without size or time")
        yield path, int(size.text), email.utils.parsedate_to_datetime(modified.text).timestamp()


def _drop(answer: urllib3.BaseHTTPResponse) -> None:
    """Have done with an answer. A connection is of use again only if nothing more is coming on it."""
    with contextlib.suppress(HTTPError, http.client.HTTPException, OSError):
        if int(answer.headers.get("Content-Length") or "65537") <= 1 << 16 or answer.status == 204:
            answer.drain_conn()
    answer.close()
    answer.release_conn()


def _status(answer: urllib3.BaseHTTPResponse) -> str:
    return show(f"HTTP {answer.status} {answer.reason or ''}".rstrip())[:100]
