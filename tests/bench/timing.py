"""Medians of repeated calls."""

import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], repeats: int, warm_up: int = 3) -> float:
    """Median wall time of `call` over `repeats`, after `warm_up` calls that do not count."""
    for _ in range(warm_up):
        call()
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def report(name: str, value: str, target: str = "") -> None:
    """One aligned line."""
    print(f"{name:<58} {value:>16}   {target}", flush=True)
