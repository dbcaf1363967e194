from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.fetch import Fetcher
from builder.mirrors import Mirrors
from builder.progress import Silent
from store.store import Store
from tests.sources.server import Server, serve


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", durable=False)


@pytest.fixture
def fetcher(store: Store, server: Server) -> Fetcher:
    mirrors = Mirrors({"debian": (f"{server.base}/debian",), "pypi": (), "npm": ()}, Path("config.toml"))
    return Fetcher(store, mirrors, Silent(), jobs=4, pauses=(0.01, 0.01))
