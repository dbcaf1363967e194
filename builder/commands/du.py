"""List all artifacts with what each takes on the disk: in all, what it shares with others, and what it alone has.

What it alone has is what would be free if it went. The newest comes first.

examples:
  builder du
  builder du --json | jq '[.artifacts[].unique] | add'
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json
from store import index


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """List them."""
    from builder.show import size

    store = context.store()
    with store.in_use(), index.opened(store) as opened:
        sizes = opened.sizes()
        rows = [(artifact, sizes[artifact.digest]) for artifact in opened.artifacts()]
        total = opened.size()
    if options.json:
        listed = [
            {
                "name": artifact.name,
                "version": artifact.version,
                "digest": str(artifact.digest),
                "path": str(artifact.path),
                "files": artifact.files,
                "bytes": artifact.size,
                "alone": taken.alone,
                "shared": taken.shared,
                "unique": taken.unique,
            }
            for artifact, taken in rows
        ]
        say_json({"artifacts": listed, "bytes": total})
        return 0
    say(f"{'alone':>9} {'shared':>9} {'unique':>9}")
    for artifact, taken in rows:
        columns = " ".join(f"{size(count):>9}" for count in (taken.alone, taken.shared, taken.unique))
        say(f"{columns}  {artifact.name} {artifact.version} ({artifact.digest.short})")
    say(f"{size(total)} in all, each blob counted once")
    return 0
