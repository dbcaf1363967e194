"""Pull artifacts from a remote, and leave a link to each: `result`, or `result-NAME` when there are several.

A digest needs no trust: what comes is compared with it. A name is what trusted keys say it is: the newest artifact that they
pushed under it. Only files that this store does not have are fetched, many in one request. Standard output gets the
artifacts' folders, one a line.

examples:
  builder pull ours crystal                then: result/bin/crystal --version
  builder pull ours crystal-1.14.0         this version
  builder pull ours b3:0fe2…               by digest, all 64 digits
  builder pull https://example.org/artifacts jgoxiqyu4…-crystal-1.14.0
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("remote", metavar="REMOTE", help="a remote's name, or its address")
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="a name, NAME-VERSION, an artifact's folder, or a whole digest"
    )
    parser.add_argument("--platform", metavar="PLATFORM", help="for another machine, such as aarch64-linux (default: this one)")
    parser.add_argument("-o", "--out-link", default="result", metavar="PATH", help="the link's name (default: result)")
    parser.add_argument("--no-link", action="store_true", help="make no link: a collection may take the artifact")
    parser.add_argument("--json", action="store_true", help="print the artifacts' name, version, digest and path as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Pull, link and print."""
    import gc

    from builder import show
    from builder.commands.links import Links
    from builder.obtain import obtain
    from builder.recipe import HOST
    from store import push

    gc.enable()
    sharing = context.sharing()
    place = sharing.open(options.remote)
    trust = sharing.trust_policy()
    store = context.store()
    rows = []
    with store.in_use(), show.progress(verbose=False) as progress:
        store.sweep()
        push.check_mark(place)
        links = Links(store, options, several=len(options.names) > 1)
        for name in options.names:
            folder, digest, path = obtain(store, place, name, trust, progress, platform=options.platform or HOST)
            rows.append(links.row(folder, digest, path))
    if options.json:
        say_json({"artifacts": rows})
    else:
        for row in rows:
            say(str(row["path"]))
    return 0
