"""Show the output of a recipe's build, of the last one that ran: done, failed or still running.

example:
  builder log recipes/crystal.py | less
"""

from __future__ import annotations

import argparse
import shutil
import sys

from builder import steps
from builder.commands import Context
from builder.known import Known
from builder.load import load
from builder.recipe import Recipe
from store.errors import Error


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file")
    parser.add_argument("--check", action="store_true", help="the output of its check instead")
    parser.add_argument("--path", action="store_true", help="print the log file's path instead")


def run(options: argparse.Namespace, context: Context) -> int:
    """Copy the log to standard output."""
    store = context.store()
    item = load(options.recipe)
    known = Known(store)
    action = known.build_action(item) if isinstance(item, Recipe) else None
    if options.check and isinstance(item, Recipe):
        artifact, bare = known.artifact(item), known.bare_root()
        action = steps.check_action(item, artifact, bare) if artifact and bare else None
    path = store.log_path(action.digest) if action else None
    if path is None or not path.exists():
        raise Error(f"{item.name} has no log: it was not built as the recipe now says", hint=f"builder build {options.recipe}")
    if options.path:
        sys.stdout.write(f"{path}\n")
        return 0
    with store.in_use(), path.open("rb") as file:
        sys.stdout.flush()
        shutil.copyfileobj(file, sys.stdout.buffer)
    return 0
