"""Keys: yours, to sign what you push, and those of others whom you trust.

Without a trusted key's signature nothing from a remote is taken for what a recipe gives. A key that you make is trusted at
once. Public keys are one line, which you may send to anybody; a secret key is a file of yours: who has it signs in your name.

examples:
  builder key new anna                     makes a key and prints its public line
  builder key list                         keys, and whom you trust
  builder key trust 'builder-key anna 3q2+7w…='
  builder key distrust anna
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say, say_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True, prog="builder key")
    new = actions.add_parser("new", help="make a key", description="Make a key of your own, and trust it.", allow_abbrev=False)
    new.add_argument("name", metavar="NAME", help="what the key is called: yourself, or a machine")
    listing = actions.add_parser(
        "list", help="list keys", description="List your keys and those you trust.", allow_abbrev=False
    )
    listing.add_argument("--json", action="store_true", help="print the keys as JSON")
    trust = actions.add_parser("trust", help="trust a key", description="Believe what a key signs.", allow_abbrev=False)
    trust.add_argument("line", metavar="LINE", help="the key's public line: builder-key NAME …, in quotes")
    trust.add_argument("--as", dest="name", metavar="NAME", help="call it otherwise")
    distrust = actions.add_parser(
        "distrust", help="trust a key no more", description="Trust a key no more.", allow_abbrev=False
    )
    distrust.add_argument("name", metavar="NAME", help="what the key is called here")


def run(options: argparse.Namespace, context: Context) -> int:
    """Do what was asked of the keys."""
    sharing = context.sharing()
    match options.action:
        case "new":
            say(str(sharing.new_key(options.name)))
        case "trust":
            say(str(sharing.trust(options.line, options.name)))
        case "distrust":
            sharing.distrust(options.name)
        case _:
            own = set(sharing.secrets())
            rows = [
                {"name": key.name, "id": key.id, "line": str(key), "own": key.name in own, "trusted": True}
                for key in sharing.trusted()
            ]
            for name in sorted(own - {row["name"] for row in rows}):
                secret = sharing.secret(name)
                assert secret is not None
                key = secret.public()
                rows.append({"name": name, "id": key.id, "line": str(key), "own": True, "trusted": False})
            if options.json:
                say_json({"keys": rows})
            else:
                for row in rows:
                    words = [word for word, there in (("yours", row["own"]), ("trusted", row["trusted"])) if there]
                    say(f"{row['line']}    {', '.join(words)}")
    return 0
