"""Say what an artifact is made up of: the packages, sources and builds that its files came from, with their sizes.

A row is a package, source or build; "changed" says that its files were rewritten on the way. INPUT is the input of the
build that brought them. `builder tree` says the same file by file, `builder why` of one file in full.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder origins result
  builder origins crystal --json | jq -r '.origins[].source'
"""

from __future__ import annotations

import argparse

from builder.commands import Context, artifact, plain, say, say_json
from builder.materials import named
from store.manifest import show
from store.origins import Origin, origins


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser)


def run(options: argparse.Namespace, context: Context) -> int:
    """List them, the largest first."""
    from builder.show import size

    with artifact.opened(context, options.artifact) as (_, named_artifact, index):
        found = origins(index, named_artifact.digest)
    groups: dict[tuple[str, str, str], list[Origin]] = {}
    for origin in found:
        groups.setdefault((origin.input, origin.source, origin.how), []).append(origin)
    ordered = sorted(groups.items(), key=lambda group: (-_bytes(group[1]), group[0]))
    if options.json:
        rows = [
            {
                "input": where,
                "source": source,
                "name": named(source)[0],
                "version": named(source)[1],
                "how": how,
                "files": len(items),
                "bytes": _bytes(items),
                "paths": [show(item.path) for item in items],
            }
            for (where, source, how), items in ordered
        ]
        say_json({"digest": str(named_artifact.digest), "origins": rows})
        return 0
    for (where, source, how), items in ordered:
        brought = f", in {where}" if where not in ("", source) else ""
        say(f"{size(_bytes(items)):>9}  {len(items):5} files  {how:8}  {plain(source + brought)}")
    return 0


def _bytes(items: list[Origin]) -> int:
    return sum(item.file.size for item in items)
