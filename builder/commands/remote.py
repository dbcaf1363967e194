"""Remotes: places that artifacts are pushed to and pulled from.

examples:
  builder remote add ours https://example.org/artifacts --builds
  builder remote add ours 's3://bucket/prefix?endpoint=https://s3.example.org'
  builder remote list
  builder remote gc ours --keep-newest 5 --dry-run

addresses:
  /srv/artifacts, file:///srv/artifacts    a directory
  https://example.org/artifacts            any HTTP server; to push, it has to know WebDAV
  s3://bucket/prefix?endpoint=https://…    a bucket of S3, or of what is compatible (also region=…)
  ssh://user@example.org:22/srv/artifacts  a directory of another machine, through its sftp

A user and password may stand in an http address. Buckets are asked as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say, and
ssh finds its keys as always.
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True, prog="builder remote")
    add = actions.add_parser("add", help="give a remote a name", description="Give a remote a name.", allow_abbrev=False)
    add.add_argument("name", metavar="NAME", help="what to call it")
    add.add_argument("address", metavar="ADDRESS", help="where it is")
    add.add_argument("--builds", action="store_true", help="let every build look there for results, as --from does")
    listing = actions.add_parser(
        "list", help="list remotes", description="List the remotes that have names.", allow_abbrev=False
    )
    listing.add_argument("--json", action="store_true", help="print the remotes as JSON")
    remove = actions.add_parser(
        "remove", help="forget a remote", description="Forget a remote; nothing there is touched.", allow_abbrev=False
    )
    remove.add_argument("name", metavar="NAME", help="what it is called")
    gc = actions.add_parser(
        "gc",
        help="remove from a remote what nothing there needs",
        description="Remove from a remote what nothing there needs. Parcels go in two steps, so that no push that is under way "
        "loses what it relies on: one collection condemns them, and one that comes --grace later removes them.",
        allow_abbrev=False,
    )
    gc.add_argument("remote", metavar="REMOTE", help="the remote's name, or its address")
    gc.add_argument("--keep-newest", type=int, metavar="N", help="of each name, keep the newest N artifacts, and let others go")
    gc.add_argument("--grace", type=float, default=24.0, metavar="HOURS", help="how long a push may take (default: 24)")
    gc.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    gc.add_argument("--json", action="store_true", help="print what went as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Do what was asked of the remotes."""
    from builder.mirrors import show

    sharing = context.sharing()
    match options.action:
        case "add":
            sharing.add_remote(options.name, options.address, builds=options.builds)
        case "remove":
            sharing.remove_remote(options.name)
        case "gc":
            return _collect(options, context)
        case _:
            rows = sharing.remotes()
            if options.json:
                say_json({"remotes": [{"name": row.name, "address": row.address, "builds": row.builds} for row in rows]})
            else:
                for row in rows:
                    say(f"{row.name}  {show(row.address)}{'  for builds' if row.builds else ''}")
    return 0


def _collect(options: argparse.Namespace, context: Context) -> int:
    from builder import show
    from store import remote_gc

    place = context.sharing().open(options.remote)
    with show.progress(verbose=False) as progress, progress.task("collect", place.name):
        gone = remote_gc.collect(place, keep_newest=options.keep_newest, grace=options.grace * 3600, dry_run=options.dry_run)
    row = {
        "artifacts": list(gone.waybills), "results": gone.results, "manifests": gone.manifests,
        "parcels": gone.parcels, "bytes": gone.size, "condemned": gone.condemned,
    }  # fmt: skip
    if options.json:
        say_json(row)
    else:
        verb = "would remove" if options.dry_run else "removed"
        say(
            f"{verb} {len(gone.waybills)} artifacts, {gone.results} results and {gone.parcels} parcels, "
            f"{show.size(gone.size)}; {gone.condemned} parcels are condemned"
        )
    return 0
