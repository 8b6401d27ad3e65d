"""A threaded load as a race: threads copy tensors to the device while the main thread makes something of each in turn.

Source: transformers 5.0, core_model_loading.py: a pool of GLOBAL_WORKERS = min(4, os.cpu_count() or 4) threads copies
parameters in the order of their names, while the main thread quantizes them in the same order.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Literal

THREADS = 4
# What happens to a tensor: it is copied to the device, later the main thread makes something of it.
Happening = tuple[Literal["copied", "made"], int]


def race(sizes_bytes: Sequence[int], seed: int, workers: int = THREADS) -> Iterator[Happening]:
    """One of the orders that may happen, each tensor by its index: copied once, made once, made in turn.

    `seed` decides it; which copy is ahead is chance.
    """
    chance = random.Random(seed)  # noqa: S311  # a simulation
    queue: list[tuple[float, int, str, int]] = []  # (time, order of scheduling, what, tensor)
    there: set[int] = set()
    taken, made, order = 0, 0, count()

    def schedule(time: float, what: str, index: int) -> None:
        heapq.heappush(queue, (time + _half_a_copy(sizes_bytes[index], chance), next(order), what, index))

    for _ in range(min(workers, len(sizes_bytes))):
        schedule(0.0, "ask", taken)
        taken += 1
    while queue:
        time, _, what, index = heapq.heappop(queue)
        if what == "ask":
            yield "copied", index
            schedule(time, "done", index)
            continue
        there.add(index)
        if taken < len(sizes_bytes):
            schedule(time, "ask", taken)
            taken += 1
        while made in there:
            yield "made", made
            made += 1


def _half_a_copy(size_bytes: int, chance: random.Random) -> float:
    """How long half of one copy takes: its bytes' worth on average, with nothing else known.

    Half of a copy (reading the file) comes before the device memory is asked for, half (the transfer) after. Of all
    laws with a given mean the exponential assumes least. Making is a kernel launch, no time beside a copy.
    """
    return size_bytes / 2 * chance.expovariate(1.0)
