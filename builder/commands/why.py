"""Say why an artifact holds a library or file: where its bytes came from, step by step, and which programs load it.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name. NAME is a file's name or path in
the artifact, a library's name (libssl stands for libssl.so.3), or the digest of its bytes.

examples:
  builder why result libssl
  builder why crystal bin/crystal
"""

from __future__ import annotations

import argparse

from builder.commands import Context, artifact, say, say_json
from store.manifest import show
from store.origins import holders


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser)
    parser.add_argument("name", metavar="NAME", help="a file's name, path or digest, or a library's name")


def run(options: argparse.Namespace, context: Context) -> int:
    """Explain it."""
    from launcher.describe import describe

    with artifact.opened(context, options.artifact) as (store, named, index):
        found = holders(index, named.digest, options.name)
        pieces = list(describe(store.read_manifest(named.digest), store.read_blob))
    users = {o.path: [p.path for p in pieces if any(r.path == o.path for r in p.references)] for o in found}
    if options.json:
        rows = [
            {
                "path": show(origin.path),
                "digest": str(origin.file.blob),
                "how": origin.how,
                "source": origin.source,
                "steps": [{"kind": link.kind, "label": link.label, "path": show(link.path)} for link in origin.chain],
                "loaded_by": [show(path) for path in users[origin.path]],
            }
            for origin in found
        ]
        say_json(rows)
        return 0
    for origin in found:
        say(f"{show(origin.path)}  {origin.file.blob}")
        for link in origin.chain:
            say(f"  {link.kind:9} {link.label}: {show(link.path)}")
        for path in users[origin.path]:
            say(f"  loaded by {show(path)}")
    return 0
