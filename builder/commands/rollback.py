"""Switch back to the generation that the one in use was made from, or to any other with --to.

Nothing is built or fetched: the artifacts of every generation are kept. Later generations stay too, so that --to goes forward
again. `builder history` lists them.

examples:
  builder rollback
  builder rollback --to 3
"""

from __future__ import annotations

import argparse

from builder.commands import Context, units


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("--to", type=units.count, metavar="NUMBER", help="the generation to switch to")
    parser.add_argument("--json", action="store_true", help="print what changed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Switch."""
    from builder import generation
    from builder.commands import profiles

    profile = profiles.profile_of(context)
    with profile.changing():
        try:
            old = profile.current()
        except generation.BadGeneration:
            # That is what one goes away from.
            if options.to is None:
                raise
            old = None
        new = profile.back(options.to)
        profile.switch(new)
    profiles.report(new, generation.changes(old, new.packages), as_json=options.json)
    return 0
