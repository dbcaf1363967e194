"""Say what two artifacts share, and how they differ: by sizes, by where their files came from, and by path.

A and B are each a result link, a folder of the store, the start of a digest (b3:...), or a name. With --exit-code the
status is 1 when they differ, as `git diff` has it; else it is 0 whenever they could be compared.

examples:
  builder diff jq-1.6 jq-1.7.1
  builder diff b3:1234 result --exit-code --json
"""

from __future__ import annotations

import argparse

from builder.commands import Context, plain, say, say_json
from builder.materials import named
from store import index
from store.difference import Change, Difference, difference
from store.manifest import Directory, File, Node, Symlink, show
from store.resolve import resolve


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    for word, metavar in (("before", "A"), ("after", "B")):
        parser.add_argument(word, metavar=metavar, help="a result link, a folder of the store, a digest, or a name")
    parser.add_argument("--exit-code", action="store_true", help="end with status 1 when they differ")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Compare them."""
    store = context.store()
    with store.in_use():
        one, two = resolve(store, options.before), resolve(store, options.after)
        with index.opened(store) as opened:
            found = difference(opened, one.digest, two.digest)
    sources = _sources(found)
    if options.json:
        _print_json(found, sources)
    else:
        _print(found, sources)
    return 1 if options.exit_code and found.changes else 0


def _print_json(found: Difference, sources: list[tuple[str, str | None, str | None]]) -> None:
    say_json(
        {
            "before": {"digest": str(found.before.digest), "bytes": found.before.size},
            "after": {"digest": str(found.after.digest), "bytes": found.after.size},
            "shared": found.shared,
            "only_before": found.only_before,
            "only_after": found.only_after,
            "sources": [{"name": name, "before": before, "after": after} for name, before, after in sources],
            "added": [{"path": show(c.path), "after": _node(c.after)} for c in found.added],
            "removed": [{"path": show(c.path), "before": _node(c.before)} for c in found.removed],
            "changed": [{"path": show(c.path), "before": _node(c.before), "after": _node(c.after)} for c in found.changed],
        }
    )


def _print(found: Difference, sources: list[tuple[str, str | None, str | None]]) -> None:
    from builder.show import size

    say(f"{size(found.before.size)} -> {size(found.after.size)}")
    say(f"shared {size(found.shared)}, only before {size(found.only_before)}, only after {size(found.only_after)}")
    say(f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed")
    for name, before, after in sources:
        match before, after:
            case None, str():
                say(plain(f"+ source {name} {after}".rstrip()))
            case str(), None:
                say(plain(f"- source {name} {before}".rstrip()))
            case _:
                say(plain(f"~ source {name} {before} -> {after}"))
    for change in found.changes:
        say(_line(change, size))


def _line(change: Change, size: object) -> str:
    assert callable(size)

    def told(node: Node | None) -> str:
        match node:
            case File():
                return f"{size(node.size)}{', executable' if node.executable else ''}"
            case Symlink():
                return f"-> {show(node.target)}"
        return "directory"

    if change.before is None:
        return f"+ {show(change.path)}  ({told(change.after)})"
    if change.after is None:
        return f"- {show(change.path)}  ({told(change.before)})"
    return f"~ {show(change.path)}  ({told(change.before)}; now {told(change.after)})"


def _node(node: Node | None) -> dict[str, object]:
    match node:
        case File(blob, count, executable):
            return {"kind": "file", "digest": str(blob), "bytes": count, "executable": executable}
        case Symlink(target):
            return {"kind": "symlink", "target": show(target)}
        case Directory() | None:
            return {"kind": "directory"}


def _sources(found: Difference) -> list[tuple[str, str | None, str | None]]:
    """What files came from in only one of both, or in another version: the name, and the version in each."""
    versions: dict[str, tuple[list[str], list[str]]] = {}
    for side, labels in enumerate((found.sources_before, found.sources_after)):
        for label in sorted(labels):
            name, version = named(label)
            versions.setdefault(name, ([], []))[side].append(version)
    return [
        (name, ", ".join(before) if before else None, ", ".join(after) if after else None)
        for name, (before, after) in sorted(versions.items())
        if before != after
    ]
