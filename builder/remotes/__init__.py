"""The kinds of remotes: a directory, an HTTP server, an S3-compatible bucket, and a directory behind ssh."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from store.errors import Error
from store.remote import Remote

KINDS = """\
  /srv/artifacts, file:///srv/artifacts    a directory
  https://example.org/artifacts            any HTTP server; to push, it has to know WebDAV
  s3://bucket/prefix?endpoint=https://…    a bucket of S3, or of what is compatible (also region=…)
  ssh://user@example.org:22/srv/artifacts  a directory of another machine, through its sftp"""


class BadAddress(Error):
    """An address that no remote has."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}", hint=f"The addresses of remotes are:\n{KINDS}")
        self.address = address


def open_remote(name: str, address: str, *, proxy: str = "") -> Remote:
    """The remote at ``address``, called ``name`` in messages. Raises BadAddress. Nothing is asked of it yet.

    ``proxy`` is the address of the proxy through which an HTTP server is asked, or empty.
    """
    if address.startswith(("/", "./", "../")):
        from builder.remotes.directory import DirectoryRemote

        return DirectoryRemote(name, Path(address))
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise BadAddress(address, str(error)) from None
    match parts.scheme:
        case "file" if not parts.netloc and parts.path:
            from builder.remotes.directory import DirectoryRemote

            return DirectoryRemote(name, Path(unquote(parts.path)))
        case "http" | "https" if parts.hostname:
            from builder.remotes.http import HttpRemote

            return HttpRemote(name, address, proxy=proxy)
        case "s3" if parts.netloc:
            from builder.remotes.objects import s3_remote

            options = dict(parse_qsl(parts.query))
            if unknown := options.keys() - {"endpoint", "region"}:
                raise BadAddress(address, f"it has {', '.join(sorted(unknown))}, and may have endpoint and region")
            return s3_remote(name, parts.netloc, unquote(parts.path).strip("/"), options)
        case "ssh" | "sftp" if parts.hostname and parts.path:
            from builder.remotes.sftp import SftpRemote

            return SftpRemote(name, parts.hostname, unquote(parts.path), user=parts.username, port=port)
    raise BadAddress(address, "no kind of remote has such an address")
