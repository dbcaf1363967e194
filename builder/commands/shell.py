"""Enter the sandbox of a recipe: a shell with the root, sources and variables that its script has.

The script is not run; `$OUT` is empty. With --failed, the folders are those of the last build that failed with
--keep-failed, as it left them.

example:
  builder build recipes/hello.py --keep-failed || builder shell --failed recipes/hello.py
"""

from __future__ import annotations

import argparse

from builder.commands import Context
from builder.load import load
from builder.recipe import BadRecipe, Recipe
from store.errors import Error


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file")
    parser.add_argument("--failed", action="store_true", help="enter a failed build that was kept")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the builds say")


def run(options: argparse.Namespace, context: Context) -> int:
    """Lay the sandbox out and start the shell."""
    from builder.commands.common import realiser

    store = context.store()
    item = load(options.recipe)
    if not isinstance(item, Recipe):
        raise BadRecipe(f"{item.name} is a system root: enter a recipe that builds on it")
    kept = store.root / "tmp" / f"kept-{item.name}"
    with store.in_use():
        store.use("tmp", kept.name)
        if options.failed and not kept.is_dir():
            raise Error(
                f"no failed build of {item.name} was kept", hint=f"`builder build --keep-failed {options.recipe}` keeps one."
            )
        with realiser(store, context, verbose=options.verbose) as maker:
            executor, action, root = maker.prepare(item)
        return executor.shell(action, root, kept=kept if options.failed else None)
