"""The links that commands leave to artifacts that came from elsewhere, and what these say of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from store import roots
from store.artifacts import Folder
from store.digest import Digest
from store.errors import Error
from store.store import Store


class Links:
    """A link each, called as the options say: `result`, or `result-NAME` when ``several`` are asked for; or none."""

    def __init__(self, store: Store, options: argparse.Namespace, *, several: bool) -> None:
        self._store = store
        self._options = options
        self._several = several
        self._made: dict[Path, Digest] = {}

    def row(self, folder: Folder, digest: Digest, path: Path) -> dict[str, str | None]:
        """What --json says of an artifact, which has its link now. Raises Error where two artifacts want one link."""
        link: Path | None = None
        if not self._options.no_link:
            link = Path(f"{self._options.out_link}-{folder.name}" if self._several else self._options.out_link)
            if self._made.setdefault(link, digest) != digest:
                raise Error(f"{link} is to lead to two artifacts", hint="Take them one by one, each with its own --out-link.")
            roots.add_link(self._store, link, digest, path)
        return {
            "name": folder.name,
            "version": folder.version,
            "digest": str(digest),
            "path": str(path),
            "link": os.path.abspath(link) if link else None,
        }
