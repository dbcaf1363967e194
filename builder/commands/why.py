"""Say why an artifact holds a library or file: where its bytes came from, step by step, and which programs load it.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name. NAME is a file's name or path in
the artifact, a library's name (libssl stands for libssl.so.3), or the digest of its bytes.

examples:
  builder why result libssl
  builder why crystal bin/crystal
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json
from store import index
from store.manifest import show
from store.origins import holders
from store.resolve import resolve
from store.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="a result link, a folder of the store, a digest, or a name")
    parser.add_argument("name", metavar="NAME", help="a file's name, path or digest, or a library's name")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Explain it."""
    store = context.store()
    with store.in_use():
        return _describe(store, options)


def _describe(store: Store, options: argparse.Namespace) -> int:
    from launcher.describe import describe

    named = resolve(store, options.artifact)
    with index.opened(store) as opened:
        found = holders(opened, named.digest, options.name)
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
