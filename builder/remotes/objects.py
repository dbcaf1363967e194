"""Buckets and HTTP servers as remotes, through obstore. https is verified with the system's certificates, always."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import HTTPStore, S3Store

from builder.mirrors import show
from store.remote import NotThere, Object, RemoteError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

THREADS = 16
PIECE = 1 << 20
T = TypeVar("T")

# A request may take long, for a parcel may be large and a line slow; an answer that does not go on is given up.
CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=15), "timeout": timedelta(minutes=30), "user_agent": "builder"}
RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}


def s3_remote(name: str, bucket: str, prefix: str, options: Mapping[str, str]) -> ObjectRemote:
    """A bucket. Who asks is what AWS_ACCESS_KEY_ID and the other variables of S3 clients say."""
    config: dict[str, str] = {"region": options.get("region", "us-east-1")}
    client = CLIENT.copy()
    if endpoint := options.get("endpoint"):
        config["endpoint"] = endpoint
        if endpoint.startswith("http://"):
            client["allow_http"] = True
    store = S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=RETRY)  # type: ignore[arg-type]
    return ObjectRemote(name, store, can_list=True)


def http_remote(name: str, address: str) -> ObjectRemote:
    """A server. A user and a password may stand in the address."""
    parts = urlsplit(address)
    client = CLIENT.copy()
    if parts.scheme == "http":
        client["allow_http"] = True
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        client["default_headers"] = {"authorization": "Basic " + base64.b64encode(login).decode()}
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return ObjectRemote(name, HTTPStore(plain.rstrip("/"), client_options=client, retry_config=RETRY), can_list=False)


class ObjectRemote:
    """Objects of an obstore store."""

    def __init__(self, name: str, store: S3Store | HTTPStore, *, can_list: bool) -> None:
        self.name = name
        self._store = store
        self._can_list = can_list

    def _ask(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise RemoteError(self.name, _reason(error)) from None

    def read(self, key: str, limit: int) -> bytes | None:
        """See store.remote.Remote."""
        parts: list[bytes] = []
        size = 0
        try:
            for piece in self._ask(lambda: obstore.get(self._store, key)).stream(PIECE):
                size += len(piece)
                if size > limit:
                    raise RemoteError(self.name, f"{key} has more than {limit} bytes")
                parts.append(bytes(piece))
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise RemoteError(self.name, _reason(error)) from None
        return b"".join(parts)

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See store.remote.Remote."""
        try:
            answer = self._ask(lambda: obstore.get(self._store, key, options={"range": (start, start + length)}))
            # A server that knows no ranges sends everything.
            skip = start - answer.range[0]
            for piece in answer.stream(PIECE):
                data = bytes(piece)
                if skip:
                    data, skip = data[skip:], max(0, skip - len(data))
                if data:
                    yield data[:length]
                    length -= len(data)
                if length <= 0:
                    return
        except FileNotFoundError:
            raise NotThere(self.name, key) from None
        except BaseError as error:
            raise RemoteError(self.name, _reason(error)) from None

    def has(self, keys: Sequence[str]) -> list[bool]:
        """See store.remote.Remote."""

        def look(key: str) -> bool:
            try:
                self._ask(lambda: obstore.head(self._store, key))
            except FileNotFoundError:
                return False
            return True

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(look, keys))

    def write(self, key: str, data: bytes | Path) -> None:
        """See store.remote.Remote."""
        self._ask(lambda: obstore.put(self._store, key, data, use_multipart=None if self._can_list else False))

    def objects(self, prefix: str) -> Iterator[Object]:
        """See store.remote.Remote."""
        try:
            for rows in obstore.list(self._store, prefix or None):
                for row in rows:
                    yield Object(row["path"], row["size"], row["last_modified"].timestamp())
        except FileNotFoundError:
            return
        except BaseError as error:
            raise RemoteError(self.name, _reason(error)) from None

    def remove(self, keys: Iterable[str]) -> None:
        """See store.remote.Remote."""
        for key in keys:
            try:
                self._ask(lambda key=key: obstore.delete(self._store, key))  # type: ignore[misc]
            except FileNotFoundError:
                continue


def _reason(error: Exception) -> str:
    """What the library says, on a few words: its messages go on with all their causes."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return show(lines[0])[:500] if lines else type(error).__name__
