"""Build recipes into artifacts, and leave a link to each: `result`, or `result-NAME` when there are several.

With --debug-info there is a link to the debug information too that each recipe splits off (`debug=True`): `result-debug`.

The link keeps its artifact alive: `builder gc` removes what no link leads to. Standard output gets the artifacts' folders,
one a line; all else goes to standard error.

--check builds the named recipes again and compares with what is stored, which stays as it is. Where the two differ, both trees
are kept, every difference is listed (and handed to diffoscope, if that is installed), and the status is 4.

examples:
  builder build recipes/crystal.py         then: result/bin/crystal --version
  builder build recipes/jq.py recipes/hello.py -j 2
  builder build recipes/jq.py --from ours  takes what a trusted key has signed, and builds the rest
  builder build recipes/jq.py --check
  builder build recipes/jq.py --debug-info then: gdb -iex "set debug-file-directory result-debug/lib/debug" result/bin/jq
  builder build recipes/jq.py --json | jq -r '.artifacts[].path'
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Container
from pathlib import Path

from builder.commands import Context, say, say_json
from builder.known import Built, Known, artifact_path, debug_path, is_checked_out
from builder.load import load
from builder.recipe import BadRecipe, Buildable, Recipe, closure
from builder.steps import debug_name
from store.digest import Digest
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
    parser.add_argument("--debug-info", action="store_true", help="also give the debug information that the recipes split off")
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
    apart = frozenset(_splitting(targets) if options.debug_info else ())
    if options.dry_run:
        return _explain(options, context, store, targets, apart)
    if options.check:
        from builder.commands.rebuild import compare

        return compare(options, context, store, targets)
    with store.in_use():
        built = ready(store, targets, debug=apart) if not options.rebuild else None
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
                debug=apart,
            ) as maker:
                built = maker.run(targets)
        rows: list[dict[str, str | None]] = []
        for item in built:
            link = None if options.no_link else options.out_link if len(built) == 1 else f"{options.out_link}-{item.item.name}"
            rows += _rows(store, item, link)
    if options.json:
        say_json({"artifacts": rows})
    else:
        for row in rows:
            say(row["path"] or f"{row['name']} is a system root: {row['digest']}")
    return 0


def _splitting(targets: list[Buildable]) -> list[str]:
    """The names of the recipes that --debug-info is asked of. Raises BadRecipe."""
    for item in targets:
        if not isinstance(item, Recipe) or not item.debug:
            raise BadRecipe(
                f"{item.name} splits no debug information off", item.position, hint="Give its Recipe the field debug=True."
            )
    return [item.name for item in targets]


def ready(store: Store, targets: list[Buildable], *, debug: Container[str] = ()) -> list[Built] | None:
    """What came of every target, if all of it is there: of those in ``debug``, also their debug information."""
    known = Known(store)
    found = []
    for item in targets:
        built = known.built(item, debug=item.name in debug)
        if built is None or not is_checked_out(store, built):
            return None
        found.append(built)
    return found


def _rows(store: Store, built: Built, link: str | None) -> list[dict[str, str | None]]:
    """The artifacts of one recipe, now with their links, unless there are to be none; or the one system root."""
    version = built.item.version
    if built.artifact is None:
        return [_row(built.item.name, version, built.tree)]
    found: list[tuple[str, Digest, Path, str | None]] = [(built.item.name, built.artifact, artifact_path(store, built), link)]
    if built.debug is not None:
        name, path = debug_name(built.item), debug_path(store, built)
        found.append((name, built.debug, path, None if link is None else f"{link}-debug"))
    rows = []
    for name, digest, path, place in found:
        if place is not None:
            from store import roots

            roots.add_link(store, Path(place), digest, path)
        rows.append(_row(name, version, digest, path, place))
    return rows


def _row(name: str, version: str, digest: Digest, path: Path | None = None, link: str | None = None) -> dict[str, str | None]:
    return {
        "name": name,
        "version": version,
        "digest": str(digest),
        "path": str(path) if path else None,
        "link": os.path.abspath(link) if link else None,
    }


def _explain(
    options: argparse.Namespace, context: Context, store: Store, targets: list[Buildable], debug: frozenset[str]
) -> int:
    from builder.commands.common import explain

    rows = explain(store, context, targets, debug=debug)
    if options.json:
        say_json({"steps": rows})
        return 0
    for row in rows:
        size = f", {row['bytes'] / 1e6:.1f} MB to fetch" if row["bytes"] else ""
        say(f"{row['name']} {row['version']}: {row['state']}{size}")
    return 0
