"""Take packages out of the profile: exactly the links that their install made go, and the folders made for them if empty.

The artifacts stay in the store while older generations have them, so that `builder rollback` brings them back at once;
`builder history --prune 1` lets go of them, and `builder gc` frees the space.

examples:
  builder uninstall jq
"""

from __future__ import annotations

import argparse

from builder.commands import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="a package, as `builder list` shows it")
    parser.add_argument("--json", action="store_true", help="print what changed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Switch to a generation without them."""
    from builder import generation
    from builder.commands import profiles

    store = context.store()
    profile = profiles.profile_of(context)
    with store.in_use(), profile.changing():
        old = profile.current()
        for name in options.names:
            if old is None or old.package(name) is None:
                raise profiles.NotInstalled(name)
        assert old is not None
        left = [one for one in old.packages if one.name not in options.names]
        prefer = [name for name in old.prefer if name not in options.names]
        new = profile.install(store, left, prefer, by="uninstall " + " ".join(options.names))
    profiles.report(new, generation.changes(old, left), as_json=options.json)
    return 0
