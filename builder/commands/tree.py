"""List what an artifact holds, and where each piece came from: built here, or brought by a package or source.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder tree result
  builder tree crystal --json | jq -r '.files[] | select(.how == "imported") | .source' | sort | uniq -c
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json
from store import index
from store.manifest import Symlink, show
from store.origins import origins
from store.resolve import resolve
from store.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="a result link, a folder of the store, a digest, or a name")
    parser.add_argument("--json", action="store_true", help="print the files as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """List it."""
    store = context.store()
    with store.in_use():
        return _describe(store, options)


def _describe(store: Store, options: argparse.Namespace) -> int:
    from builder.show import size

    named = resolve(store, options.artifact)
    manifest = store.read_manifest(named.digest)
    with index.opened(store) as opened:
        found = {origin.path: origin for origin in origins(opened, named.digest)}
    if options.json:
        rows = [
            {
                "path": show(path),
                "digest": str(origin.file.blob),
                "bytes": origin.file.size,
                "executable": origin.file.executable,
                "how": origin.how,
                "source": origin.source,
            }
            for path, origin in found.items()
        ]
        links = [{"path": show(p), "target": show(n.target)} for p, n in manifest.entries if isinstance(n, Symlink)]
        say_json({"digest": str(named.digest), "files": rows, "symlinks": links})
        return 0
    for path, node in manifest.entries:
        if isinstance(node, Symlink):
            say(f"{'':>9}  {show(path)} -> {show(node.target)}")
        elif path in found:
            origin = found[path]
            how = "" if origin.how == "imported" else f"{origin.how} from " if origin.how == "changed" else "built by "
            say(f"{size(origin.file.size):>9}  {show(path)}  ({how}{origin.source})")
    return 0
