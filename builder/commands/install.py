"""Install recipes, artifacts or exported files for this user: programs into ~/.local/bin, and the rest where desktops look.

Each install makes a generation of the profile, and switches to it at once; `builder rollback` goes back. Manual pages,
completions, desktop files, icons, fonts and services go to $XDG_DATA_HOME. All are links, and nothing that is there is
replaced. What has the same name is replaced by what is installed now. What is installed is never collected.

Where two packages have the same file, --prefer NAME says whose files are taken, from now on.

Installed is what running needs: headers, static libraries and the like are left out. --all takes everything.

A TARGET that ends in .py is a recipe file, which is built first. A file or folder that `builder export` wrote is taken into
the store first, as `builder import` does. Others are artifacts: a result link, a folder of the store, the start of a digest
(b3:...), or a name.

examples:
  builder install recipes/jq.py          then: jq --version, and man jq
  builder install result hello
  builder install ./jq-1.7.1-x86_64-linux.tar.zst
  builder install recipes/busybox.py --prefer coreutils
"""

from __future__ import annotations

import argparse

from builder.commands import Context, whole
from store.store import Store

# As typing has it: what a profile is takes a while to load, and help should not wait for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.generation import Package


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="a recipe file, an artifact, or an exported file")
    parser.add_argument(
        "--prefer", action="append", default=[], metavar="NAME", help="the package whose files win over those of others"
    )
    whole.argument(parser)
    parser.add_argument("--json", action="store_true", help="print what changed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Build what has to be built, and switch."""
    from builder import generation
    from builder.commands import profiles
    from builder.profile import OtherStore

    store = context.store()
    profile = profiles.profile_of(context)
    with store.in_use():
        seen = profile.current()
        if seen and seen.packages and seen.store != str(store.root):
            raise OtherStore(seen.store)
        fresh = {one.name: one for one in _packages(store, context, options.targets, everything=options.all)}
        with profile.changing():
            old = profile.current()
            packages = {**({one.name: one for one in old.packages} if old else {}), **fresh}
            for name in options.prefer:
                if name not in packages:
                    raise profiles.NotInstalled(name)
            prefer = [*options.prefer, *(old.prefer if old else ())]
            every = list(packages.values())
            new = profile.install(store, every, list(dict.fromkeys(prefer)), by="install " + " ".join(fresh))
            profiles.mind_path(profile, context, new)
    profiles.report(new, generation.changes(old, every), as_json=options.json)
    return 0


def _packages(store: Store, context: Context, targets: list[str], *, everything: bool) -> list[Package]:
    from builder.commands import profiles
    from builder.commands.exported import resolve
    from builder.generation import Package

    found = profiles.build(store, context, [(word, everything) for word in targets if word.endswith(".py")])
    for word in targets:
        if not word.endswith(".py"):
            one = whole.taken(store, resolve(store, word), everything=everything)
            found.append(Package(one.folder.name, one.folder.version, one.digest, str(one.folder), None, everything))
    return found
