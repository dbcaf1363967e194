"""How much of an artifact a command takes that hands it on: what running needs, or all of it."""

from __future__ import annotations

import argparse

# As typing has it: help should not wait for what only the work needs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from store.resolve import Named
    from store.store import Store


def argument(parser: argparse.ArgumentParser) -> None:
    """Describe --all."""
    parser.add_argument(
        "--all", action="store_true", help="take headers, static libraries and documentation too, which running does not need"
    )


def taken(store: Store, named: Named, *, everything: bool) -> Named:
    """What is taken of ``named``. For who is in the store's ``in_use``. Raises what builder.runtime does."""
    from builder import runtime
    from store import graph
    from store.graph import Graph

    return runtime.whole(Graph(graph.steps(store)), named) if everything else runtime.needed(store, named)
