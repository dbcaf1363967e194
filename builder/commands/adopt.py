"""Make an artifact of programs that are on this machine, with the libraries that they have here. No recipe is needed.

PROGRAM is a path, or a name in PATH: it becomes bin/NAME of the artifact. What programs read besides libraries is taken along
with --file: /usr/X and /usr/local/X become X, any other /X becomes X. The link is made as by `builder build`.

examples:
  builder adopt --name jq jq               then: result/bin/jq --version
  builder adopt --name python3 python3 --file /usr/lib/python3.11
  builder adopt --name git git --file /usr/lib/git-core --env GIT_EXEC_PATH={root}/lib/git-core
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from builder.commands import Context, say, say_json
from launcher.settings import DATA

if TYPE_CHECKING:
    from builder.adopt import Default

_VARIABLE = re.compile(r"(?:(?P<program>[^:=]+):)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>[^\0]*)", re.DOTALL)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("programs", nargs="+", metavar="PROGRAM", help="a program's path, or its name in PATH")
    parser.add_argument("--name", required=True, metavar="NAME", help="what the artifact is called")
    parser.add_argument(
        "--file", action="append", default=[], metavar="PATH", help="a file or folder to take along: /usr/X becomes X"
    )
    parser.add_argument(
        "--lib", action="append", default=[], type=text, metavar="SONAME", help="a library that the programs open by themselves"
    )
    parser.add_argument(
        "--data", action="append", default=[], choices=DATA, help="what the C library and others read, taken along"
    )
    parser.add_argument(
        "--missing", action="append", default=[], type=text, metavar="SONAME", help="a library that may be missing"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        type=variable,
        metavar="[PROGRAM:]NAME=VALUE",
        help="a variable for a program, or all, where the user has not set it; {root} is the artifact's folder",
    )
    parser.add_argument("--root", default="/", metavar="DIR", help="adopt from this root instead of /: an image, say")
    parser.add_argument("-o", "--out-link", default="result", metavar="PATH", help="the link's name (default: result)")
    parser.add_argument("--no-link", action="store_true", help="make no link: a collection may take the artifact")
    parser.add_argument("--json", action="store_true", help="print the artifact's name, version, digest and path as JSON")


def text(word: str) -> str:
    """An argument that is text: names of files can be other bytes, and keys cannot."""
    if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
        raise argparse.ArgumentTypeError(f"{word!r} is not UTF-8")
    return word


def variable(word: str) -> Default:
    """An argument that gives a program, or all of them, a variable."""
    from builder.adopt import Default

    match = _VARIABLE.fullmatch(text(word))
    if match is None:
        raise argparse.ArgumentTypeError(f"{word!r} is not NAME=VALUE or PROGRAM:NAME=VALUE")
    program = match["program"] or ""
    return Default(f"bin/{program}" if program and "/" not in program else program, match["name"], match["value"])


def run(options: argparse.Namespace, context: Context) -> int:
    """Adopt, link and print."""
    import gc
    import os
    from pathlib import Path

    from builder import show
    from builder.adopt import SEARCH, VERSION, Wish, adopt
    from store import roots

    gc.enable()
    root = Path(os.path.abspath(options.root))
    wish = Wish(
        name=options.name,
        programs=tuple(options.programs),
        root=root,
        search=context.environment.get("PATH") or SEARCH if root == Path("/") else SEARCH,
        files=tuple(options.file),
        libraries=tuple(options.lib),
        missing=tuple(options.missing),
        data=tuple(options.data),
        environment=tuple(options.env),
    )
    store = context.store()
    with store.in_use(), show.progress(verbose=False) as progress:
        store.sweep()
        digest, path = adopt(store, wish, progress)
        link = None if options.no_link else Path(options.out_link)
        if link is not None:
            roots.add_link(store, link, digest, path)
    if options.json:
        row = {
            "name": wish.name,
            "version": VERSION,
            "digest": str(digest),
            "path": str(path),
            "link": os.path.abspath(link) if link else None,
        }
        say_json({"artifacts": [row]})
    else:
        say(str(path))
    return 0
