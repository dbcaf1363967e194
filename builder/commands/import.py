"""Take exported artifacts into the store, and leave a link to each: `result`, or `result-NAME` when there are several.

A FILE is what `builder export` wrote: a .run, a .tar.zst, or an image as .oci.tar or as a folder. It is told by what it
holds, and not by what it is called; nothing of it is started. What comes of it is the artifact that was exported, with the
same digest, name and version; what it was built from does not come along. Standard output gets the artifacts' folders, one a
line.

examples:
  builder import jq-1.7.1-x86_64-linux.tar.zst      then: result/bin/jq --version
  builder import *.tar.zst --no-link
  builder import jq.oci.tar --json                  its digest, to compare with what was published
"""

# ruff: noqa: N999 - a module is called as its command is, and none imports this one by a statement.

from __future__ import annotations

import argparse
from pathlib import Path

from builder.commands import Context, say, say_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="what `builder export` wrote")
    parser.add_argument("-o", "--out-link", default="result", metavar="PATH", help="the link's name (default: result)")
    parser.add_argument("--no-link", action="store_true", help="make no link: a collection may take the artifact")
    parser.add_argument("--json", action="store_true", help="print the artifacts' name, version, digest and path as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Import, link and print."""
    from builder.commands.exported import bring
    from builder.commands.links import Links

    store = context.store()
    rows = []
    with store.in_use():
        store.sweep()
        links = Links(store, options, several=len(options.files) > 1)
        for file in options.files:
            found = bring(store, Path(file))
            rows.append(links.row(found.folder, found.digest, found.path))
    if options.json:
        say_json({"artifacts": rows})
    else:
        for row in rows:
            say(str(row["path"]))
    return 0
