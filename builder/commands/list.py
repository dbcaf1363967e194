"""List what is installed: each package, its version and its artifact.

examples:
  builder list
  builder list --json | jq -r '.packages[].name'
"""

from __future__ import annotations

import argparse
import os

from builder.commands import Context, say, say_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--json", action="store_true", help="print the list as JSON, with each package's links")


def run(options: argparse.Namespace, context: Context) -> int:
    """List."""
    from builder.commands import profiles

    profile = profiles.profile_of(context)
    now = profile.current()
    packages = now.packages if now else ()
    if not options.json:
        for one in packages:
            say(f"{one.name} {one.version} b3:{one.digest.short}" + (f" {one.recipe}" if one.recipe else ""))
        return 0
    rows = []
    for one in packages:
        assert now is not None
        links = [str(profile.places.of(path)) for path, name in now.links.items() if name == one.name]
        rows.append(
            {
                "name": one.name,
                "version": one.version,
                "digest": str(one.digest),
                "path": os.path.join(now.store, "artifacts", one.folder),
                "recipe": one.recipe,
                "all": one.everything,
                "links": sorted(links),
            }
        )
    say_json({"generation": now.number if now else 0, "packages": rows})
    return 0
