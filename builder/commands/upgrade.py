"""Build the recipes of installed packages again, as they are now, and switch to what they give.

Without names, all packages that were installed from recipe files. What a recipe gives is the same as long as nothing of it
has changed: then there is nothing to do. What was installed with --all stays so. A package that was installed as an artifact,
or from a file, has no recipe; install the newer one.

examples:
  builder upgrade
  builder upgrade jq
"""

from __future__ import annotations

import argparse
import os

from builder.commands import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="a package, as `builder list` shows it")
    parser.add_argument("--json", action="store_true", help="print what changed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Build, and switch."""
    from builder import generation
    from builder.commands import profiles
    from store.errors import Error

    store = context.store()
    profile = profiles.profile_of(context)
    with store.in_use():
        seen = profile.current()
        asked = [one.name for one in seen.packages if one.recipe] if seen and not options.names else options.names
        recipes = []
        for name in asked:
            package = seen.package(name) if seen else None
            if package is None:
                raise profiles.NotInstalled(name)
            if package.recipe is None:
                raise Error(
                    f"{name} was installed as an artifact", hint="Install the newer one: builder install ARTIFACT, or its file."
                )
            if not os.path.isfile(package.recipe):
                raise Error(
                    f"the recipe of {name} is gone: {package.recipe}",
                    hint="Install it from where its recipe is now, uninstall it, or name those that are to be upgraded.",
                )
            recipes.append((package.recipe, package.everything))
        fresh = dict(zip(asked, profiles.build(store, context, recipes), strict=True))
        with profile.changing():
            # What was uninstalled meanwhile stays so.
            old = profile.current()
            every = [fresh.get(one.name, one) for one in old.packages] if old else []
            new = profile.install(store, every, old.prefer if old else (), by=" ".join(("upgrade", *options.names)))
            profiles.mind_path(profile, context, new)
    profiles.report(new, generation.changes(old, every), as_json=options.json)
    return 0
