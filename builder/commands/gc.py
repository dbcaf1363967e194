"""Remove what nothing needs any more: all but the artifacts that a result link (or another root) leads to.

A result link that was moved or deleted counts no longer. The toolchains that living artifacts were built with go too, and
are fetched again when they are needed; --keep-inputs keeps them.

examples:
  builder gc --dry-run
  builder gc --keep-inputs
"""

from __future__ import annotations

import argparse
import sys

from builder.commands import Context, say, say_json
from store.collect import collect


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.add_argument("--keep-inputs", action="store_true", help="keep what living artifacts were built from")
    parser.add_argument("--json", action="store_true", help="print what was removed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Collect."""
    from builder.show import size

    store = context.store()
    done = collect(
        store,
        keep_inputs=options.keep_inputs,
        dry_run=options.dry_run,
        waiting=_waiting,
    )
    if options.json:
        say_json(
            {
                "artifacts": [str(folder) for folder in done.artifacts],
                "results": done.results,
                "manifests": done.manifests,
                "blobs": done.blobs,
                "others": done.others,
                "bytes": done.size,
                "dry_run": options.dry_run,
            }
        )
        return 0
    for folder in done.artifacts:
        say(str(folder))
    verb = "would free" if options.dry_run else "freed"
    counts = f"{len(done.artifacts)} artifacts, {done.blobs} blobs, {done.results} results, {done.others} others"
    say(f"{verb} {size(done.size)}: {counts}")
    return 0


def _waiting() -> None:
    sys.stderr.write("waiting for another builder to finish ...\n")
