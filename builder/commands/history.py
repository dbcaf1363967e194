"""List the profile's generations, the newest last; the one in use is marked with a star.

Every generation keeps its artifacts from `builder gc`. --prune N removes all but the newest N and the one in use; then a
collection frees what only they had.

examples:
  builder history
  builder history --prune 3
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json, units


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--prune", type=units.count, metavar="N", help="remove all but the newest N and the one in use")
    parser.add_argument("--json", action="store_true", help="print the generations that are there as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Prune, if asked to, and list."""
    import sys
    import time

    from builder.commands import plain, profiles

    profile = profiles.profile_of(context)
    if options.prune is not None:
        with profile.changing():
            profile.prune(options.prune)
    number = profile.number()
    rows = profile.generations()
    for error in profile.damaged():
        sys.stderr.write(f"warning: {error.message}\n")
    if options.json:
        say_json(
            [
                {
                    "number": one.number,
                    "before": one.before,
                    "made": one.made,
                    "by": one.by,
                    "current": one.number == number,
                    "packages": [f"{package.name} {package.version}" for package in one.packages],
                }
                for one in rows
            ]
        )
        return 0
    for one in rows:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.made))
        say(f"{'*' if one.number == number else ' '} {one.number}  {made}  {plain(one.by.strip())}")
    return 0
