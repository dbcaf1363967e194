"""What the commands that look at one artifact share."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from builder.commands import Context
from store import index
from store.index import Index
from store.resolve import Named, resolve
from store.store import Store


def argument(parser: argparse.ArgumentParser, *, json: str = "print all of it as JSON") -> None:
    """Describe the word that names the artifact, and --json."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="a result link, a folder of the store, a digest, or a name")
    parser.add_argument("--json", action="store_true", help=json)


@contextlib.contextmanager
def opened(context: Context, spec: str) -> Iterator[tuple[Store, Named, Index]]:
    """The store, the artifact that ``spec`` means, and the index, with collections kept away as long as they are looked at."""
    store = context.store()
    with store.in_use():
        named = resolve(store, spec)
        with index.opened(store) as found:
            yield store, named, found
