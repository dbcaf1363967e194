"""Sign what this store holds: the results that lead to an artifact. `push` sends the signatures along.

Sign what you have built, or checked, yourself: your key says so to everyone who trusts it. Where several signatures are needed,
each signer builds the artifact, and signs or pushes it.

examples:
  builder sign result
  builder sign crystal --key release
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("artifacts", nargs="+", metavar="ARTIFACT", help="a result link, folder, digest or name")
    parser.add_argument("--key", metavar="NAME", help="the key that signs (default: the only one)")
    parser.add_argument("--json", action="store_true", help="print what was signed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Sign, keep the signatures in the store, and say of what."""
    from builder import publish
    from store import graph, resolve
    from store.errors import Error

    key = context.sharing().secret(options.key)
    if key is None:
        raise Error("there is no key to sign with", hint="`builder key new NAME` makes one.")
    store = context.store()
    rows = []
    with store.in_use():
        known = graph.Graph(graph.steps(store))
        for spec in options.artifacts:
            item = resolve.resolve(store, spec)
            shared = publish.share(store, known, item)
            if not shared.pointers:
                raise Error(
                    f"no result of this store gives the artifact {item.digest.short}",
                    hint="Only what was built here can be signed. `builder build` builds it.",
                )
            with store.batch() as batch:
                for statement in shared.statements:
                    batch.add_signature(key.sign(statement))
            rows.append({"digest": str(item.digest), "name": item.folder.name, "signatures": len(shared.statements)})
    if options.json:
        say_json({"signed": rows, "key": key.public().id})
    else:
        for row in rows:
            say(f"{row['digest']}  {row['name']}: {row['signatures']} results signed with {key.name}")
    return 0
