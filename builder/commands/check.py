"""Look for damage: read the whole store, and compare every blob, manifest, result and artifact with what its name promises.

Ends with status 3 when something is damaged. What a killed builder left behind is named, and is no damage. The index is made
again from the files when it does not fit them.

--repair restores what it can: blobs from artifacts, artifacts and their manifests from each other, anything from another store
or a remote (--from); it sets modes right, and makes changed artifacts again. What is damaged is moved to lost+found in the
store, and never deleted. Then it checks again, and says what is still damaged, and what to do about it.

examples:
  builder check --json | jq '.findings'
  builder check --repair --from /mnt/backup/builder
  builder check --repair --from ours
"""

from __future__ import annotations

import argparse
from pathlib import Path

from builder.commands import Context, say, say_json
from store import index
from store.check import Finding, Kind, check
from store.errors import Error
from store.remote import MARK
from store.repair import Repaired, Source, other_store, repair
from store.store import Store

DAMAGE = 3

# What a person can do about what could not be repaired.
_ADVICE = {
    Kind.MISSING_BLOB: "Build its recipe again, or name a store or remote that has it with --from.",
    Kind.MISSING_MANIFEST: "Remove the root that needs it (`builder root list`), or build its recipe again.",
    Kind.BAD_ROOT: "Nothing is collected while it is there: remove this file, and make the link or the root again.",
}


class NoSource(Error):
    """--from without --repair."""

    exit_code = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--repair", action="store_true", help="restore what is damaged, as far as its bytes can be had")
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        default=[],
        metavar="PLACE",
        help="another store's folder, or a remote, to take bytes from; may be given again",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _source(store: Store, context: Context, place: str) -> Source:
    if "/" in place and ":" not in place and not (Path(place) / MARK).exists():
        return other_store(Path(place))
    from store import pull, push

    remote = context.sharing().open(place)
    push.check_mark(remote)
    return pull.source(store, remote)


def run(options: argparse.Namespace, context: Context) -> int:
    """Check, and list what was found."""
    from builder import show

    if options.sources and not options.repair:
        raise NoSource("--from is for --repair", hint="`builder check --repair --from PLACE` takes bytes from there.")
    store = context.store()
    sources = [_source(store, context, place) for place in options.sources]
    with show.progress(verbose=False) as progress, progress.task("check", "the store") as task:
        seen = 0

        def report(done: int, total: int) -> None:
            nonlocal seen
            task.say(f"{show.size(done)} of {show.size(total)}")
            seen = done

        if options.repair:
            repaired = repair(store, sources, report)
            findings = list(repaired.left)
        else:
            repaired, findings = Repaired((), ()), check(store, report)
    with index.opened_as_it_is(store) as opened:
        wrong = [Finding(Kind.WRONG_INDEX, opened.path, problem) for problem in opened.verify()]
    # It was made again: that is its repair.
    done = list(repaired.done)
    if options.repair:
        done += [(finding.path, "made again") for finding in wrong[:1]]
    else:
        findings += wrong
    damaged = [finding for finding in findings if not finding.harmless]
    if options.json:
        rows = [{"kind": str(f.kind), "path": str(f.path), "detail": f.detail, "harmless": f.harmless} for f in findings]
        fixed = [{"path": str(path), "what": what} for path, what in done]
        say_json({"findings": rows, "repaired": fixed, "bytes": seen})
    else:
        for path, what in done:
            say(f"repaired: {path}: {what}")
        for finding in findings:
            say(f"{finding.kind}: {finding.path}: {finding.detail}")
            if options.repair and finding.kind in _ADVICE:
                say(f"  {_ADVICE[finding.kind]}")
        say(f"{len(damaged)} damaged, {len(findings) - len(damaged)} left over, {show.size(seen)} read")
    return DAMAGE if damaged else 0
