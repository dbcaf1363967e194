"""Keep artifacts alive by name, and show all that keeps one alive.

`root add NAME ARTIFACT` keeps an artifact until `root remove NAME`; a root of that name is replaced. `root list` shows named
roots, result links and running programs, and why each counts or not. `root remove` takes a name, or a result link's path; the
link is deleted too. ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder root add release-1 result
  builder root list --json | jq -r '.[] | select(.counts | not) | .name'
  builder root remove release-1
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json
from store import artifacts, roots
from store.errors import Error
from store.resolve import resolve
from store.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("what", choices=("add", "list", "remove"), help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the root's name; to remove, also a link's path")
    parser.add_argument("artifact", nargs="?", metavar="ARTIFACT", help="what to keep alive")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


class WrongWords(Error):
    """Too few or too many words behind `root add`, `list` or `remove`."""

    exit_code = 2

    def __init__(self, right: str) -> None:
        super().__init__(f"the words are: {right}", hint="`builder root --help` explains them.")


def run(options: argparse.Namespace, context: Context) -> int:
    """Add, list or remove."""
    store = context.store()
    name, artifact = options.name, options.artifact
    match options.what:
        case "add":
            if name is None or artifact is None:
                raise WrongWords("builder root add NAME ARTIFACT")
            with store.in_use():
                roots.add_named(store, name, resolve(store, artifact).digest)
        case "remove":
            if name is None or artifact is not None:
                raise WrongWords("builder root remove NAME")
            roots.remove(store, name)
        case _:
            if name is not None:
                raise WrongWords("builder root list")
            _list(store, as_json=options.json)
    return 0


def _list(store: Store, *, as_json: bool) -> None:
    from store.running import running

    folders = {artifacts.digest_of(store, folder): folder for folder in artifacts.folders(store)}
    paths = {digest: str(store.root / "artifacts" / str(folder)) for digest, folder in folders.items()}
    rows = [
        {
            "name": root.name,
            "kind": str(root.kind),
            "digest": str(root.artifact),
            "path": paths.get(root.artifact),
            "counts": root.alive,
            "why": root.why,
        }
        for root in roots.listed(store)
    ]
    rows += [
        {
            "name": str(one.process),
            "kind": "process",
            "digest": str(one.artifact),
            "path": paths.get(one.artifact),
            "counts": True,
            "why": f"{one.program} runs from it, or has a file of it open",
        }
        for one in running(store)
    ]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        say(f"{row['kind']} {row['name']}: {row['path'] or row['digest']}")
        say(f"  {'counts' if row['counts'] else 'does not count'}: {row['why']}")
