"""Say what an artifact is: its digest, its sizes, its inputs, and of each of its programs and libraries what it is.

Every ELF file is a launcher, an interpreter, a library or static. A launcher's lines name the interpreter and the
libraries that it starts with, each with the digest of its bytes.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder info result
  builder info crystal --json
"""

from __future__ import annotations

import argparse

from builder.commands import Context, artifact, say, say_json
from store.digest import Digest
from store.graph import Graph
from store.manifest import Manifest, show
from store.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """Describe it."""
    from builder.show import size
    from launcher.describe import describe

    with artifact.opened(context, options.artifact) as (store, named, index):
        manifest = store.read_manifest(named.digest)
        sources = _inputs(index.graph(), named.digest)
        taken = index.sizes_of(named.digest)
        pieces = list(describe(manifest, store.read_blob))
        running = _running(store, manifest)
    if options.json:
        say_json(
            {
                "name": named.folder.name,
                "version": named.folder.version,
                "digest": str(named.digest),
                "path": str(named.path),
                "entries": len(manifest),
                "bytes": manifest.size,
                "runtime": None if running is None else running.size,
                "alone": taken.alone,
                "shared": taken.shared,
                "unique": taken.unique,
                "inputs": sources,
                "programs": [
                    {
                        "path": show(piece.path),
                        "kind": piece.kind,
                        "digest": str(piece.file.blob),
                        "defaults": [show(default) for default in piece.defaults],
                        "points_to": [
                            {"what": r.what, "path": show(r.path), "digest": str(r.blob) if r.blob else None}
                            for r in piece.references
                        ],
                    }
                    for piece in pieces
                ],
            }
        )
        return 0
    say(f"{named.folder.name} {named.folder.version}")
    say(f"digest  {named.digest}")
    say(f"path    {named.path}")
    say(f"holds   {len(manifest)} entries, {size(manifest.size)}")
    if running is not None:
        say(f"needs   {len(running)} entries, {size(running.size)}, to run")
    say(f"takes   {size(taken.alone)}: {size(taken.shared)} shared with other artifacts, {size(taken.unique)} its own")
    for label in sources:
        say(f"input   {label}")
    for piece in pieces:
        say(f"\n{piece.kind:16} {show(piece.path)}  {piece.file.blob.short}")
        for default in piece.defaults:
            say(f"{'':16}   sets {show(default)}")
        for r in piece.references:
            say(f"{'':16}   {r.what:11} {show(r.path)}  {r.blob.short if r.blob else 'is not there'}")
    return 0


def _running(store: Store, artifact: Manifest) -> Manifest | None:
    """What running needs of an artifact; None: it says of that what this builder does not understand."""
    from builder import runtime
    from launcher.needs import BadChoice

    try:
        return runtime.tree_of(store, artifact)
    except BadChoice:
        return None


def _inputs(graph: Graph, artifact: Digest) -> list[str]:
    """What went into the builds behind an artifact: the labels of the trees that its input roots were merged from."""
    _, steps = graph.behind([artifact])
    return sorted({label for step in steps if step.kind in ("merge", "adopt") for label, _ in step.inputs} - {"skeleton"})
