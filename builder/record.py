"""The record that this builder did something."""

from __future__ import annotations

import time

from builder import VERSION
from store.action import Action
from store.digest import Digest
from store.result import Result


def record(action: Action, label: str, output: Digest, started: float, *, log: Digest | None = None) -> Result:
    """The result of an action that gave ``output`` just now, begun at ``started`` (seconds since 1970)."""
    milliseconds = int((time.time() - started) * 1000)
    return Result(action.encode(), label, output, int(started), milliseconds, f"builder {VERSION}", log)
