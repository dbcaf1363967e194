"""What the commands that take exported files share."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from builder import readback, show
from store import resolve as artifact
from store.resolve import Named, NoArtifact
from store.store import Store


def bring(store: Store, path: Path) -> Named:
    """The artifact of an exported file, in the store, with progress shown meanwhile."""
    gc.enable()
    size = path.stat().st_size if path.is_file() else 0
    with show.progress(verbose=False) as progress, progress.task("import", path.name, total=size) as task:
        return readback.bring(store, path, task.advance)


def resolve(store: Store, spec: str) -> Named:
    """The artifact that a person means: of an exported file, or one that is in the store already."""
    path = Path(spec)
    if readback.format_of(path):
        return bring(store, path)
    try:
        return artifact.resolve(store, spec)
    except NoArtifact:
        if os.path.isfile(spec):
            raise readback.NotAnExport(path, "a file of another kind") from None
        raise
