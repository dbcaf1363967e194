"""Say which artifacts hold a file, where each has it, and which package, source or build its bytes came from.

WHAT is a file's name or its path in an artifact, a library's name (libssl stands for libssl.so.3), or the digest of a
file's bytes, of which b3: and the first four digits are enough. A path that begins with / or . and is a file on this
machine stands for the bytes of that file.

examples:
  builder who-has libssl.so.3
  builder who-has /usr/lib/x86_64-linux-gnu/libz.so.1
  builder who-has b3:70cd3fc1 --json
"""

from __future__ import annotations

import argparse
import os
import stat

from builder.commands import Context, plain, say, say_json
from store import index
from store.digest import Digest
from store.errors import Error
from store.manifest import show
from store.origins import Found, searched


class NobodyHas(Error):
    """No artifact holds ``what``."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"no artifact holds {what!r}",
            hint="Give a file's name, its path in an artifact, a digest (b3:…), or a file of this machine (./FILE).",
        )
        self.what = what


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument(
        "what", metavar="WHAT", help="a file's name, path or digest, a library's name, or a file on this machine"
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """List them."""
    store = context.store()
    with store.in_use(), index.opened(store) as opened:
        blob = _on_disk(options.what)
        found = searched(opened, options.what if blob is None else str(blob))
        if not found:
            raise NobodyHas(options.what)
        by_tree: dict[Digest, list[Found]] = {}
        for item in found:
            by_tree.setdefault(item.artifact, []).append(item)
        rows = [(artifact, item) for artifact in opened.artifacts() for item in by_tree.get(artifact.digest, ())]
    if options.json:
        say_json(
            [
                {
                    "name": artifact.name,
                    "version": artifact.version,
                    "artifact": str(artifact.digest),
                    "path": show(item.path),
                    "digest": str(item.blob),
                    "bytes": item.size,
                    "how": item.how,
                    "source": item.source,
                }
                for artifact, item in rows
            ]
        )
        return 0
    for artifact, item in rows:
        where = f"{artifact.name} {artifact.version} ({artifact.digest.short})"
        say(f"{where}  {show(item.path)}  {item.blob.short}  {item.how}: {plain(item.source)}")
    return 0


def _on_disk(what: str) -> Digest | None:
    """The digest of a file on this machine, if that is what is meant."""
    if not what.startswith(("/", "./", "../")):
        return None
    from store.batch import hash_file

    try:
        # Not to wait for somebody to write into a pipe.
        fd = os.open(what, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        return hash_file(fd)[0] if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)
