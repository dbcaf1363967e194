"""Measuring two ways of doing the same, in turns, so that what else the machine does meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(rounds: int, ways: dict[str, Callable[[], float]], *, unit: float = 1.0, name: str = "s") -> dict[str, float]:
    """Run every way once a round, print each median divided by ``unit``, and give the medians in seconds."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        # The other order every second time: what runs after something else finds other caches.
        for way in list(ways)[:: 1 if number % 2 else -1]:
            times[way].append(ways[way]())
    medians = {way: statistics.median(taken) for way, taken in times.items()}
    width = max(map(len, medians))
    for way, median in medians.items():
        print(f"{way:{width}}  {median / unit:10.3f} {name}   ({min(times[way]) / unit:.3f} to {max(times[way]) / unit:.3f})")
    return medians
