"""What `builder build --check` does: builds again, and compares with what is stored."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from builder.commands import Context, say, say_json
from builder.commands.common import realiser
from builder.difference import described, what
from builder.recipe import BadRecipe, Buildable, Recipe
from store import files, trees
from store.difference import Change, changes
from store.digest import Digest
from store.manifest import Manifest, show
from store.store import Store

DIFFERENT = 4


class _Tree(TypedDict):
    digest: str
    path: str | None


class _Row(TypedDict):
    name: str
    version: str
    same: bool
    stored: _Tree
    again: _Tree
    differences: list[dict[str, str]]
    diffoscope: str | None


def compare(options: argparse.Namespace, context: Context, store: Store, targets: Sequence[Buildable]) -> int:
    """Build every recipe again and say what differs. The stored outcome stays what it is."""
    rows: list[_Row] = []
    with store.in_use():
        for item in targets:
            if not isinstance(item, Recipe):
                raise BadRecipe(f"{item.name} is a system root: no script makes it", item.position)
            with realiser(store, context, verbose=options.verbose, parallel=options.jobs) as maker:
                before, now = maker.again(item)
            rows.append(_row(store, context, item, before, now))
    if options.json:
        say_json({"builds": rows})
    else:
        for row in rows:
            _print(row)
    return DIFFERENT if any(not row["same"] for row in rows) else 0


def _print(row: _Row) -> None:
    heading = f"{row['name']} {row['version']}"
    if row["same"]:
        say(f"{heading}: the same again, {row['stored']['digest']}")
        return
    say(f"{heading}: something else")
    for title, tree in (("stored", row["stored"]), ("again", row["again"])):
        say(f"  {title:6}  {tree['digest']}")
        say(f"          {tree['path'] or 'its bytes were collected'}")
    for one in row["differences"]:
        say(f"  {one['what']:8} {one['path']}: {one['stored']}, again {one['again']}")
    if row["diffoscope"]:
        say(f"  diffoscope's report is {row['diffoscope']}")


def _row(store: Store, context: Context, item: Recipe, before: Digest, now: Digest) -> _Row:
    found: list[Change] = []
    places: list[Path | None] = [None, None]
    report: Path | None = None
    if before != now:
        found = list(changes(store.read_manifest(before), store.read_manifest(now), directories=True))
        places = _kept(store, item.name, before, now)
        report = _diffoscope(context, places)
    return {
        "name": item.name,
        "version": item.version,
        "same": before == now,
        "stored": {"digest": str(before), "path": str(places[0]) if places[0] else None},
        "again": {"digest": str(now), "path": str(places[1]) if places[1] else None},
        "differences": [
            {"path": show(one.path), "what": what(one), "stored": described(one.before), "again": described(one.after)}
            for one in found
        ],
        "diffoscope": str(report) if report else None,
    }


def _kept(store: Store, name: str, before: Digest, now: Digest) -> list[Path | None]:
    """Both trees, where they stay until a collection. None for a stored one whose bytes a collection has taken."""
    folder = store.root / "tmp" / f"kept-check:{name}"
    store.use("tmp", folder.name)
    with files.directory(folder.parent) as fd:
        files.remove_tree(folder.name, at=fd)
    folder.mkdir(mode=0o700)
    return [
        _checked_out(store, store.read_manifest(tree), folder / name) for tree, name in ((before, "stored"), (now, "again"))
    ]


def _checked_out(store: Store, manifest: Manifest, place: Path) -> Path | None:
    if not store.holds(manifest):
        return None
    place.mkdir()
    with files.directory(place) as fd:
        trees.check_out(store, manifest, fd)
    return place


def _diffoscope(context: Context, places: Sequence[Path | None]) -> Path | None:
    """What diffoscope says of the two, in a file beside them, where it is installed."""
    tool = shutil.which("diffoscope", path=context.environment.get("PATH", ""))
    first, second = places
    if tool is None or first is None or second is None:
        return None
    report = first.parent / "diffoscope.txt"
    # It ends with 1 when it found something, and that is expected.
    subprocess.run([tool, "--text", str(report), str(first), str(second)], stdout=subprocess.DEVNULL, check=False)
    return report if report.exists() else None
