"""S3-compatible buckets as remotes, through obstore. https is verified with the system's certificates, always."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from builder.mirrors import show
from store.remote import NotThere, Object, RemoteError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

THREADS = 16
PIECE = 1 << 20
T = TypeVar("T")

# Seconds. A bucket that says nothing for SILENCE is given up, after as many attempts as RETRY has.
CONNECT, SILENCE = 10.0, 20.0
# The library counts the sending of a request as silence. So what writes has a limit for the whole of a request.
WRITE = 600.0
# Bytes. What is larger than LARGE goes in pieces of a CHUNK, each a request.
LARGE, CHUNK = 32 << 20, 16 << 20
RETRY: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}

_WHO = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say who asks."
# What the library's long messages mean, by the first of these that is somewhere in them.
_MEANINGS = (
    ("InvalidCertificate", "its certificate is not accepted", "SSL_CERT_FILE names a file with an authority of your own."),
    ("ConnectionRefused", "nobody answers there (connection refused)", ""),
    ("dns error", "its host is not known", ""),
    ("TimedOut", "it does not answer", ""),
    ("NoSuchBucket", "there is no such bucket", "Make it with the means of its owner: a push makes none."),
    ("InvalidAccessKeyId", "it does not know the access key", _WHO),
    ("SignatureDoesNotMatch", "the secret key is not that of the access key", _WHO),
    ("AccessDenied", "it does not let us", _WHO),
    ("169.254.169.254", "there are no credentials", _WHO),
)


def s3_remote(name: str, bucket: str, prefix: str, options: Mapping[str, str], *, silence: float = SILENCE) -> ObjectRemote:
    """A bucket. Who asks is what AWS_ACCESS_KEY_ID and the other variables of S3 clients say."""
    config: dict[str, str] = {"region": options.get("region", "us-east-1")}
    endpoint = options.get("endpoint", "")
    if endpoint:
        config["endpoint"] = endpoint

    def make(limits: Mapping[str, float]) -> S3Store:
        seconds = {word: timedelta(seconds=limit) for word, limit in limits.items()}
        # The library knows ``read_timeout``, and its types do not.
        client: ClientConfig = {"user_agent": "builder", "allow_http": endpoint.startswith("http://"), **seconds}  # type: ignore[typeddict-item]
        return S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=RETRY)  # type: ignore[arg-type]

    reader = make({"connect_timeout": CONNECT, "read_timeout": silence, "timeout": 86400})
    return ObjectRemote(name, reader, make({"connect_timeout": CONNECT, "timeout": WRITE}))


class ObjectRemote:
    """Objects of a bucket. ``reader`` and ``writer`` are the same but for what they wait for."""

    def __init__(self, name: str, reader: S3Store, writer: S3Store) -> None:
        self.name = name
        self._store = reader
        self._writer = writer

    def _failed(self, error: Exception) -> RemoteError:
        reason, hint = _reason(error)
        return RemoteError(self.name, reason, hint=hint)

    def _ask(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except FileNotFoundError as error:
            # The same error for what is not there, and for the whole bucket.
            if "NoSuchBucket" in str(error):
                raise self._failed(error) from None
            raise
        except (BaseError, OSError) as error:
            raise self._failed(error) from None

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
        except (BaseError, OSError) as error:
            raise self._failed(error) from None
        return b"".join(parts)

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See store.remote.Remote."""
        try:
            answer = self._ask(lambda: obstore.get(self._store, key, options={"range": (start, start + length)}))
            for piece in answer.stream(PIECE):
                yield bytes(piece)
        except FileNotFoundError:
            raise NotThere(self.name, key) from None
        except (BaseError, OSError) as error:
            raise self._failed(error) from None

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
        size = len(data) if isinstance(data, bytes) else os.stat(data).st_size
        try:
            # One that is sent in pieces is there when all of them are.
            self._ask(lambda: obstore.put(self._writer, key, data, use_multipart=size > LARGE, chunk_size=CHUNK))
        except FileNotFoundError as error:
            raise self._failed(error) from None

    def objects(self, prefix: str) -> Iterator[Object]:
        """See store.remote.Remote."""
        try:
            for rows in obstore.list(self._store, prefix or None):
                for row in rows:
                    yield Object(row["path"], row["size"], row["last_modified"].timestamp())
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._failed(error) from None

    def remove(self, keys: Iterable[str]) -> None:
        """See store.remote.Remote."""

        def forget(key: str) -> None:
            try:
                self._ask(lambda: obstore.delete(self._store, key))
            except FileNotFoundError:
                return

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(forget, keys))


def _reason(error: Exception) -> tuple[str, str]:
    """What the library says, in a few words, for its messages go on with all their causes; and what to do about it."""
    text = str(error)
    for mark, meaning, hint in _MEANINGS:
        if mark in text:
            return meaning, hint
    hint = _WHO if isinstance(error, UnauthenticatedError | PermissionDeniedError) else ""
    if match := re.search(r"status(?: code)?:? (\d{3}[^:\n]{0,60})", text):
        return f"it answers {match[1].strip()}", hint
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (show(lines[0])[:300] if lines else type(error).__name__), hint
