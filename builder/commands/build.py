"""Build recipes into artifacts, and leave a link to each: `result`, or `result-NAME` when there are several.

The link keeps its artifact alive: `builder gc` removes what no link leads to. Standard output gets the artifacts' folders,
one a line; all else goes to standard error.

--check builds the named recipes again and compares with what is stored, which stays as it is. Where the two differ, both trees
are kept, every difference is listed (and handed to diffoscope, if that is installed), and the status is 4.

examples:
  builder build recipes/crystal.py         then: result/bin/crystal --version
  builder build recipes/jq.py recipes/hello.py -j 2
  builder build recipes/jq.py --from ours  takes what a trusted key has signed, and builds the rest
  builder build recipes/jq.py --check
  builder build recipes/jq.py --json | jq -r '.artifacts[].path'
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from builder.commands import Context, say, say_json
from builder.known import Built, Known, artifact_path
from builder.load import load
from builder.recipe import Buildable, closure
from store import artifacts
from store.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="a recipe file, such as recipes/hello.py")
    parser.add_argument(
        "-j", "--jobs", type=positive, metavar="N", help="how many recipes to build at once (default: the cores)"
    )
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        default=[],
        metavar="REMOTE",
        help="take results that a trusted key has signed from this remote instead of building",
    )
    parser.add_argument("-o", "--out-link", default="result", metavar="PATH", help="the link's name (default: result)")
    parser.add_argument("--no-link", action="store_true", help="make no link: a collection may take the artifact")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--rebuild", action="store_true", help="build the named recipes again, and compare")
    parser.add_argument("--check", action="store_true", help="build again, and say how that differs from what is stored")
    parser.add_argument(
        "--keep-failed", action="store_true", help="keep the folders of a failed build, for `builder shell --failed`"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the builds say")
    parser.add_argument("--json", action="store_true", help="print the artifacts' name, version, digest and path as JSON")


def positive(text: str) -> int:
    """An argument that is a number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return number


def run(options: argparse.Namespace, context: Context) -> int:
    """Build, link and print."""
    store = context.store()
    targets = [load(path) for path in options.recipes]
    closure(tuple(targets))
    if options.dry_run:
        return _explain(options, context, store, targets)
    if options.check:
        from builder.commands.rebuild import compare

        return compare(options, context, store, targets)
    with store.in_use():
        built = ready(store, targets) if not options.rebuild else None
        if built is None:
            from builder.commands.common import realiser

            with realiser(
                store,
                context,
                verbose=options.verbose,
                keep_failed=options.keep_failed,
                rebuild=frozenset(item.name for item in targets) if options.rebuild else frozenset(),
                parallel=options.jobs,
                sources=options.sources,
            ) as maker:
                built = maker.run(targets)
        rows: list[tuple[Built, Path | None, Path | None]] = []
        for item in built:
            if item.artifact is None:
                rows.append((item, None, None))
                continue
            path = artifact_path(store, item)
            link: Path | None = None
            if not options.no_link:
                from store import roots

                link = Path(options.out_link if len(built) == 1 else f"{options.out_link}-{item.item.name}")
                roots.add_link(store, link, item.artifact, path)
            rows.append((item, path, link))
    if options.json:
        say_json({"artifacts": [_json(*row) for row in rows]})
    else:
        for item, place, _ in rows:
            say(str(place) if place else f"{item.item.name} is a system root: {item.tree}")
    return 0


def ready(store: Store, targets: list[Buildable]) -> list[Built] | None:
    """What came of every target, if all of it is there."""
    known = Known(store)
    found = []
    for item in targets:
        built = known.built(item)
        if built is None or (built.artifact is not None and not artifacts.is_there(artifact_path(store, built))):
            return None
        found.append(built)
    return found


def _json(built: Built, path: Path | None, link: Path | None) -> dict[str, str | None]:
    return {
        "name": built.item.name,
        "version": built.item.version,
        "digest": str(built.artifact or built.tree),
        "path": str(path) if path else None,
        "link": os.path.abspath(link) if link else None,
    }


def _explain(options: argparse.Namespace, context: Context, store: Store, targets: list[Buildable]) -> int:
    from builder.commands.common import explain

    rows = explain(store, context, targets)
    if options.json:
        say_json({"steps": rows})
        return 0
    for row in rows:
        size = f", {row['bytes'] / 1e6:.1f} MB to fetch" if row["bytes"] else ""
        say(f"{row['name']} {row['version']}: {row['state']}{size}")
    return 0
