"""Pushing an image to a registry: distribution-spec 1.1 (https://github.com/opencontainers/distribution-spec).

Blobs go first, each in one piece and only if the registry has it not; then the manifest, under its tag. So a tag never names
an image of which something is missing.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from builder import oci, tls
from builder.fetch import pool, reason
from builder.logins import Login
from builder.oci import Blob, Image
from store.errors import Error

SCHEMES = ("oci://", "oci+http://")

# A registry may hash and store a whole layer before it answers.
CONNECT, READ = 15.0, 300.0  # seconds
PAUSES = (0.5, 2.0, 5.0)  # seconds between attempts
JOBS = 4  # blobs at a time
MAX_ANSWER = 1 << 20  # bytes of what a registry says, beside blobs
MAX_REDIRECTS = 5

# The names of distribution-spec, section "Pulling manifests".
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")

# Docker's own registry answers at another name than the one that people write.
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"


class BadReference(Error):
    """An address that no image can be pushed to."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}", hint="An image's address is oci://HOST[:PORT]/REPOSITORY[:TAG].")
        self.address = address


class PushFailed(Error):
    """The registry did not take something; ``what`` says what it was asked."""

    def __init__(self, host: str, what: str, reason: str, *, hint: str = "") -> None:
        again = "What it has taken stays there: run the same command again."
        super().__init__(f"{host}: {what}: {reason}", hint=hint or again)


class NotAllowed(Error):
    """The registry wants a login, or another one."""

    def __init__(self, host: str, what: str, reason: str, *, known: bool) -> None:
        way = "with `skopeo login`, `podman login` or `docker login`, or set REGISTRY_AUTH_FILE"
        hint = f"The login for {host} does not allow it: log in anew {way}." if known else f"Log in {way}."
        super().__init__(f"{host}: {what}: {reason}", hint=hint)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image goes. ``host`` has its port, if there is one; ``tag`` may be empty."""

    host: str
    repository: str
    tag: str
    secure: bool

    @classmethod
    def parse(cls, address: str) -> Reference:
        """Read ``oci://HOST[:PORT]/REPOSITORY[:TAG]``. Raises BadReference."""
        scheme, _, rest = address.partition("://")
        host, _, path = rest.partition("/")
        repository, colon, tag = path.partition(":")
        try:
            name = urlsplit(f"//{host}")
            usable = bool(name.hostname) and name.username is None and (name.port is None or name.port > 0)
        except ValueError:
            usable = False
        if f"{scheme}://" not in SCHEMES or not usable or not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", host):
            raise BadReference(address, "it has no host that can be asked")
        if "@" in path:
            raise BadReference(address, "a digest is what comes of a push, and cannot be pushed to")
        if len(repository) > 255 or not _REPOSITORY.match(repository):
            raise BadReference(address, f"no repository is called {repository!r}: lower-case letters, digits, . _ - and /")
        if colon and not _TAG.match(tag):
            raise BadReference(address, f"no tag is called {tag!r}: at most 128 letters, digits and . _ -")
        return cls(host, repository, tag, scheme == "oci" and not _is_loopback(name.hostname or ""))

    def tagged(self, tag: str) -> Reference:
        """The same place, under ``tag``."""
        return Reference(self.host, self.repository, tag, self.secure)

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}:{self.tag}"


def _is_loopback(host: str) -> bool:
    """Whether nobody is in between: for such a host, http is as good as https."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push moved: how many blobs, and bytes; how many blobs were there; and whether the tag named this image before."""

    blobs: int
    bytes: int
    known: int
    unchanged: bool


def push(
    reference: Reference,
    image: Image,
    layout: Path,
    *,
    login: Login | None = None,
    proxy: Callable[[str], str] = lambda _: "",
    again: bool = False,
    report: Callable[[int], None] = lambda _: None,
    pauses: tuple[float, ...] = PAUSES,
) -> Pushed:
    """Push ``image``, whose blobs are in ``layout``. ``again`` sends what the registry says it has, too.

    ``proxy`` gives the proxy for an address, ``report`` is told of bytes that are sent or found to be there.
    Raises PushFailed and NotAllowed.
    """
    registry = _Registry(reference, login, proxy, pauses)
    # Once before the others begin, so that one token is fetched and not several.
    registry.greet()
    moved = []

    def one(blob: Blob) -> None:
        if again or not registry.has_blob(blob):
            registry.put_blob(blob, layout)
            moved.append(blob)
        report(blob.size)

    workers = ThreadPoolExecutor(JOBS)
    # Layers of equal content are one blob.
    jobs = [workers.submit(one, blob) for blob in dict.fromkeys(image.parts)]
    try:
        for job in jobs:
            job.result()
    finally:
        # Not waited for: Ctrl-C would have to, for a layer that is under way.
        workers.shutdown(wait=False, cancel_futures=True)
    unchanged = not again and registry.has_manifest(image.manifest)
    if not unchanged:
        registry.put_manifest(image.manifest, layout)
    return Pushed(len(moved), sum(blob.size for blob in moved), len(jobs) - len(moved), unchanged)


def _file(layout: Path, blob: Blob) -> Path:
    return layout / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")


class _Again(Exception):
    """This attempt failed, and another may not."""


class _Registry:
    """One repository of a registry. Any thread may call it."""

    def __init__(
        self, reference: Reference, login: Login | None, proxy: Callable[[str], str], pauses: tuple[float, ...]
    ) -> None:
        self._to = reference
        host = _HUB_HOST if reference.host == _HUB else reference.host
        self._base = f"{'https' if reference.secure else 'http'}://{host}/v2/"
        self._name = f"{self._base}{reference.repository}/"
        self._login = login
        self._proxy = proxy
        self._pauses = pauses
        self._authorization = ""
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, bool], urllib3.PoolManager] = {}

    # -- what is asked --

    def greet(self) -> None:
        """Ask for what any registry answers, and log in."""
        status, _, said = self._ask("GET", self._base, "asking whether it is a registry")
        # A token for one repository need not be good for this question: then the next one tells.
        if status != 200 and not (status in (401, 403) and self._authorization):
            raise self._failed("asking whether it is a registry", status, said)

    def has_blob(self, blob: Blob) -> bool:
        what = f"looking for the blob {blob.digest}"
        status, headers, said = self._ask("HEAD", f"{self._name}blobs/{blob.digest}", what)
        if status == 404:
            return False
        if status != 200:
            raise self._failed(what, status, said)
        # Something else of that name would be no blob that this image can have.
        return headers.get("Content-Length", str(blob.size)) == str(blob.size)

    def put_blob(self, blob: Blob, layout: Path) -> None:
        what = f"sending the blob {blob.digest}"

        def attempt() -> None:
            status, headers, said = self._ask("POST", f"{self._name}blobs/uploads/", what, retried=False)
            place = headers.get("Location", "")
            if status != 202 or not place:
                raise self._failed(what, status, said)
            place = urljoin(f"{self._name}blobs/uploads/", place)
            parts = urlsplit(place)
            if parts.scheme not in ("http", "https") or (self._to.secure and parts.scheme != "https"):
                raise PushFailed(self._to.host, what, "it leads to an address that is not as safe as its own")
            # Appended and not parsed: the registry may have signed what is there.
            address = parts._replace(query=f"{parts.query}&digest={blob.digest}".lstrip("&")).geturl()
            status, headers, said = self._ask("PUT", address, what, body=_file(layout, blob), size=blob.size, retried=False)
            if status != 201:
                raise self._failed(what, status, said)
            self._compare(what, headers, blob)

        # An upload that broke off has to be asked for anew.
        self._attempts(attempt, what)

    def has_manifest(self, manifest: Blob) -> bool:
        what = f"looking for the tag {self._to.tag}"
        address = f"{self._name}manifests/{self._to.tag}"
        status, headers, said = self._ask("HEAD", address, what, headers={"Accept": f"{oci.MANIFEST}, {oci.INDEX}"})
        if status not in (200, 404):
            raise self._failed(what, status, said)
        return status == 200 and headers.get("Docker-Content-Digest") == manifest.digest

    def put_manifest(self, manifest: Blob, layout: Path) -> None:
        what = f"giving the image the tag {self._to.tag}"
        address = f"{self._name}manifests/{self._to.tag}"
        status, headers, said = self._ask(
            "PUT", address, what, headers={"Content-Type": manifest.media}, body=_file(layout, manifest), size=manifest.size
        )
        if status != 201:
            raise self._failed(what, status, said)
        self._compare(what, headers, manifest)

    def _compare(self, what: str, headers: Mapping[str, str], blob: Blob) -> None:
        """A registry that says what it took has to say what was sent."""
        took = headers.get("Docker-Content-Digest", blob.digest)
        if took != blob.digest:
            raise PushFailed(
                self._to.host, what, f"it took {took} instead", hint="The registry, or what is before it, is broken."
            )

    def _failed(self, what: str, status: int, said: bytes) -> Error:
        reason = f"HTTP {status}{_words(said)}"
        if status in (401, 403):
            return NotAllowed(self._to.host, what, reason, known=self._login is not None)
        return PushFailed(self._to.host, what, reason)

    # -- how --

    def _attempts(self, attempt: Callable[[], None], what: str) -> None:
        for pause in (*self._pauses, None):
            try:
                attempt()
                return
            except _Again as error:
                if pause is None:
                    raise PushFailed(self._to.host, what, str(error)) from None
                time.sleep(pause)

    def _ask(
        self,
        method: str,
        address: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Path | None = None,
        size: int = 0,
        retried: bool = True,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and first bytes of the answer. A refusal for want of a token is answered with one, once."""
        answer: list[tuple[int, Mapping[str, str], bytes]] = []

        def attempt() -> None:
            for last in (False, True):
                used = self._authorization
                got = self._send(method, address, {**(headers or {}), **self._signed(address, used)}, body, size)
                if got[0] == 401 and not last and self._is_own(address):
                    self._log_in(got[1].get("WWW-Authenticate", ""), used, what)
                    continue
                answer.append(got)
                return

        if retried:
            self._attempts(attempt, what)
        else:
            attempt()
        return answer[-1]

    def _signed(self, address: str, authorization: str) -> dict[str, str]:
        # An upload may lead to the store behind the registry, which has no business with our login.
        return {"Authorization": authorization} if authorization and self._is_own(address) else {}

    def _is_own(self, address: str) -> bool:
        mine, other = urlsplit(self._base), urlsplit(address)
        return (mine.scheme, mine.netloc) == (other.scheme, other.netloc)

    def _send(
        self, method: str, address: str, headers: Mapping[str, str], body: Path | None, size: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        sent = {"User-Agent": "builder", **headers}
        if body is not None:
            sent = {"Content-Type": "application/octet-stream", **sent, "Content-Length": str(size)}
        elif method == "POST":
            sent["Content-Length"] = "0"
        for _ in range(MAX_REDIRECTS):
            status, got, said = self._exchange(method, address, sent, body)
            if status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                break
            target = urljoin(address, got.get("Location", ""))
            if self._to.secure and urlsplit(target).scheme != "https":
                raise PushFailed(self._to.host, method, "it leads to an address that is not as safe as its own")
            if not self._is_own(target):
                sent.pop("Authorization", None)
            address = target
        if status in (408, 425, 429) or status >= 500:
            raise _Again(f"HTTP {status}{_words(said)}")
        return status, got, said

    def _exchange(
        self, method: str, address: str, headers: Mapping[str, str], body: Path | bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        file = open(body, "rb") if isinstance(body, Path) else io.BytesIO(body) if body else None
        try:
            response = self._pool(address).request(
                method,
                address,
                headers=dict(headers),
                body=file,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT, read=READ),
            )
            try:
                return response.status, response.headers, response.read(MAX_ANSWER)
            finally:
                # What is left unread makes the connection useless.
                if method != "HEAD" and response.read(1):
                    response.close()
                response.release_conn()
        except SSLError as error:
            raise PushFailed(self._to.host, "its certificate is not accepted", str(error)) from None
        except (HTTPError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise _Again(reason(error, silence=READ)) from None
        finally:
            if file is not None:
                file.close()

    def _pool(self, address: str) -> urllib3.PoolManager:
        parts = urlsplit(address)
        proxy = "" if _is_loopback(parts.hostname or "") else self._proxy(address)
        safe = parts.scheme == "https"
        with self._lock:
            if (proxy, safe) not in self._pools:
                self._pools[proxy, safe] = pool(
                    proxy, tls.context() if safe or proxy.startswith("https:") else None, connections=JOBS
                )
            return self._pools[proxy, safe]

    # -- logging in --

    def _log_in(self, challenge: str, used: str, what: str) -> None:
        """Do what the registry asks for in ``challenge`` (RFC 9110, section 11.6.1). Raises NotAllowed."""
        with self._lock:
            if self._authorization != used:
                return  # another thread did
        scheme, _, rest = challenge.partition(" ")
        words = {key.lower(): value for key, value in re.findall(r'(\w+)="([^"]*)"', rest)}
        if scheme.lower() == "basic" and self._login is not None and self._login.user:
            made = _basic(self._login)
        elif scheme.lower() == "bearer" and "realm" in words:
            made = f"Bearer {self._token(words, what)}"
        else:
            raise NotAllowed(self._to.host, what, "it wants a login", known=self._login is not None)
        with self._lock:
            self._authorization = made

    def _token(self, words: Mapping[str, str], what: str) -> str:
        realm = words["realm"]
        parts = urlsplit(realm)
        safe = parts.scheme == "https" or (parts.scheme == "http" and not self._to.secure)
        if not safe:
            raise PushFailed(self._to.host, what, f"it sends logins to {realm}, which is not as safe as itself")
        fields = [("service", words["service"])] if "service" in words else []
        # The registry's own words say what its greeting needs, which is nothing.
        fields.append(("scope", f"repository:{self._to.repository}:pull,push"))
        headers = {"User-Agent": "builder"}
        if self._login is not None and not self._login.user:
            form = [*fields, ("grant_type", "refresh_token"), ("client_id", "builder"), ("refresh_token", self._login.password)]
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form).encode()
            status, _, said = self._exchange("POST", realm, {**headers, "Content-Length": str(len(body))}, body)
        else:
            if self._login is not None:
                headers["Authorization"] = _basic(self._login)
            address = parts._replace(query=urlencode([*parse_qsl(parts.query), *fields])).geturl()
            status, _, said = self._exchange("GET", address, headers, None)
        if status >= 500 or status == 429:
            raise _Again(f"HTTP {status} of {parts.netloc}{_words(said)}")
        try:
            table = json.loads(said)
        except ValueError:
            table = {}
        match table:
            case {"token": str(token)} | {"access_token": str(token)} if status == 200 and token.isprintable():
                return token
        raise NotAllowed(self._to.host, what, f"HTTP {status} of {parts.netloc}{_words(said)}", known=self._login is not None)


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()


def _words(said: bytes) -> str:
    """What a registry says of an error, on one line: ``{"errors": [{"code", "message"}]}``, or anything."""
    try:
        match json.loads(said):
            case {"errors": [{"code": str(code), **more}, *_]}:
                text = f"{code}, {more.get('message', '')}"
            case {"details": str(text)} | {"message": str(text)}:
                pass
            case _:
                text = ""
    except ValueError:
        text = ""
    shown = "".join(c for c in text if c.isprintable())[:200].rstrip(", ")
    return f" ({shown})" if shown else ""
