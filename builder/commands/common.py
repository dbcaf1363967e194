"""What the commands that build share. Imported only when there is something to build."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

from builder import mirrors, show
from builder.commands import Context
from builder.fetch import Fetcher
from builder.progress import Progress
from builder.realise import Options, Realiser
from builder.recipe import Buildable
from store.store import Store

if TYPE_CHECKING:
    from builder.substitutes import Substitutes


class Step(TypedDict):
    """A row of --dry-run: what would happen to a recipe, and how many bytes would be fetched for it."""

    name: str
    version: str
    state: str
    bytes: int


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def realiser(
    store: Store,
    context: Context,
    *,
    verbose: bool,
    keep_failed: bool = False,
    rebuild: frozenset[str] = frozenset(),
    parallel: int | None = None,
    sources: Sequence[str] = (),
    debug: frozenset[str] = frozenset(),
) -> Iterator[Realiser]:
    """One run of the builder, with its progress shown for as long as the with block lasts.

    ``sources`` are remotes to take results from, before those that are for all builds. ``debug`` are the recipes whose
    debug information is wanted too.
    """
    gc.enable()
    store.sweep()
    options = Options(parallel=parallel or cores(), jobs=cores(), rebuild=rebuild, keep_failed=keep_failed, debug=debug)
    with show.progress(verbose=verbose) as progress:
        places = mirrors.find(context.config_path, context.environment)
        yield Realiser(
            store, Fetcher(store, places, progress), progress, options, _elsewhere(store, context, progress, sources)
        )


def _elsewhere(store: Store, context: Context, progress: Progress, sources: Sequence[str]) -> Substitutes | None:
    sharing = context.sharing()
    named = [entry.name for entry in sharing.remotes() if entry.builds]
    specs = list(dict.fromkeys([*sources, *named]))
    if not specs:
        return None
    from builder.substitutes import Substitutes

    return Substitutes(store, [sharing.open(spec) for spec in specs], sharing.trust_policy(), progress)


def explain(store: Store, context: Context, targets: Sequence[Buildable], *, debug: frozenset[str] = frozenset()) -> list[Step]:
    """What building ``targets`` would do, inputs first, as far as that can be known before it is done."""
    with realiser(store, context, verbose=False, debug=debug) as maker:
        return [Step(name=i.name, version=i.version, state=s, bytes=b) for i, s, b in maker.explain(targets)]
