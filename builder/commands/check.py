"""Look for damage: read the whole store, and compare every blob, manifest, result and artifact with what its name promises.

Ends with status 1 when something is damaged. What a killed builder left behind is named, and is no damage. The index is made
again from the files when it does not fit them.

example:
  builder check --json | jq '.findings'
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json
from store import index
from store.check import check


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Check, and list what was found."""
    from builder import show

    store = context.store()
    with show.progress(verbose=False) as progress, progress.task("check", "the store") as task:
        seen = 0

        def report(done: int, total: int) -> None:
            nonlocal seen
            task.say(f"{show.size(done)} of {show.size(total)}")
            seen = done

        findings = check(store, report)
    damaged = [finding for finding in findings if not finding.harmless]
    if options.json:
        rows = [{"kind": str(f.kind), "path": str(f.path), "detail": f.detail, "harmless": f.harmless} for f in findings]
        say_json({"findings": rows, "bytes": seen})
    else:
        for finding in findings:
            say(f"{finding.kind}: {finding.path}: {finding.detail}")
        say(f"{len(damaged)} damaged, {len(findings) - len(damaged)} left over, {show.size(seen)} read")
    # Last, because a full disk may refuse it, and what was found has been said by then.
    with index.opened(store) as opened:
        opened.rebuild()
    return 1 if damaged else 0
