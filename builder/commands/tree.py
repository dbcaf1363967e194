"""List what an artifact holds, and where each piece came from: built here, or brought by a package or source.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder tree result
  builder tree crystal --json | jq -r '.files[] | select(.how == "imported") | .source' | sort | uniq -c
"""

from __future__ import annotations

import argparse

from builder.commands import Context, artifact, say, say_json
from store.manifest import Symlink, show
from store.origins import origins


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """List it."""
    from builder.show import size

    with artifact.opened(context, options.artifact) as (store, named, index):
        manifest = store.read_manifest(named.digest)
        found = {origin.path: origin for origin in origins(index, named.digest)}
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
