"""Remove what nothing needs any more: all but the artifacts that a result link (or another root) leads to.

What a root needs is never removed: `builder root list` shows them. What running builds use and artifacts whose programs run
stay too, and no build waits. A result link that was moved or deleted counts no longer. The toolchains that living artifacts
were built with go, and are fetched again when they are needed; --keep-inputs keeps them.

--keep-newest and --keep-younger keep more: artifacts that have no root. --free and --max-size remove no more than is asked for:
first downloads and what belongs to no artifact, then the oldest artifacts without a root. Where that is not enough, all that
is without a root is gone. A size is like 500M or 2.5G, a time like 30d or 12h.

examples:
  builder gc --dry-run
  builder gc --keep-newest 2 --keep-younger 30d
  builder gc --max-size 20G
"""

from __future__ import annotations

import argparse
import sys

from builder.commands import Context, say, say_json, units
from store.collect import Keep, collect


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.add_argument("--keep-inputs", action="store_true", help="keep what living artifacts were built from")
    parser.add_argument(
        "--keep-newest", type=units.count, default=0, metavar="N", help="keep the newest N artifacts of each name"
    )
    parser.add_argument(
        "--keep-younger", type=units.span, default=0.0, metavar="TIME", help="keep artifacts built in the last TIME"
    )
    parser.add_argument("--free", type=units.size, metavar="SIZE", help="stop when so much is freed")
    parser.add_argument("--max-size", type=units.size, metavar="SIZE", help="stop when the store has no more than this")
    parser.add_argument("--json", action="store_true", help="print what was removed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Collect."""
    from builder.show import size

    keep = Keep(
        inputs=options.keep_inputs,
        newest=options.keep_newest,
        younger=options.keep_younger,
        free=options.free,
        max_size=options.max_size,
    )
    done = collect(context.store(), keep, dry_run=options.dry_run, waiting=_waiting)
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
    sys.stderr.write("waiting for another collection or check to finish ...\n")
