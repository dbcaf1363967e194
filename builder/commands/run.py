"""Build a recipe, and run one of its programs in place of this one, with the arguments after `--`.

The program is the one named like the recipe, the only one in bin/, or the one that --program names. The exit status is
the program's.

examples:
  builder run recipes/jq.py -- -r .name package.json
  builder run recipes/zlib.py --program minigzip -- -d file.gz
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from builder.commands import Context
from builder.commands.build import ready
from builder.known import artifact_path
from builder.load import load
from store.errors import Error


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file")
    parser.add_argument("words", nargs="*", metavar="ARGS", help="the program's arguments, after --")
    parser.add_argument("--program", metavar="NAME", help="the program in the artifact's bin/")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the builds say")


def run(options: argparse.Namespace, context: Context) -> int:
    """Build, and become the program."""
    store = context.store()
    item = load(options.recipe)
    with store.in_use():
        built = ready(store, [item])
        if built is None:
            from builder.commands.common import realiser

            with realiser(store, context, verbose=options.verbose) as maker:
                built = maker.run([item])
        if built[0].artifact is None:
            raise Error(f"{item.name} is a system root, and has no programs of its own to run")
        place = artifact_path(store, built[0])
    program = _choose(place, item.name, options.program)
    sys.stdout.flush()
    try:
        os.execv(program, [str(program), *options.words])  # noqa: S606
    except OSError as error:
        raise Error(f"cannot run {program}: {os.strerror(error.errno or 0)}") from None


def _choose(place: Path, name: str, asked: str | None) -> Path:
    programs = sorted(entry.name for entry in (place / "bin").iterdir()) if (place / "bin").is_dir() else []
    wanted = asked or (name if name in programs else programs[0] if len(programs) == 1 else None)
    if wanted is None or wanted not in programs:
        what = f"has no program {asked}" if asked else "has several programs" if programs else "has no programs"
        hint = f"Name one with --program: {', '.join(programs)}." if programs else ""
        raise Error(f"{name} {what}", hint=hint)
    return place / "bin" / wanted
