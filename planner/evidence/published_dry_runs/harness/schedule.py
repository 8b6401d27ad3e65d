"""transformers' loader with its threads replayed in the order of a seed.

Source: transformers 5.0 to 5.8, core_model_loading.py.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from transformers import core_model_loading

from .pool import SeededPool


def replay_threads(seed: int) -> None:
    """Load in the order of this seed from here on."""
    original = core_model_loading.spawn_materialize

    class Sized:
        """The pool for one tensor: the loader submits jobs without saying how large they are."""

        def __init__(self, pool: SeededPool, size_bytes: int) -> None:
            self.pool, self.size_bytes = pool, size_bytes

        def submit(self, job: Callable[[], Any]) -> "Future[Any]":
            return self.pool.submit(job, self.size_bytes)

    def spawn(pool: SeededPool | None, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return original(pool and Sized(pool, _bytes_of(tensor)), tensor, *args, **kwargs)

    # max_workers is this machine's number of processors, not the publisher's.
    core_model_loading.ThreadPoolExecutor = lambda max_workers: SeededPool(seed)  # noqa: ARG005
    core_model_loading.spawn_materialize = spawn


def _bytes_of(tensor: Any) -> int:
    """Of a safetensors slice."""
    count = 1
    for length in tensor.get_shape():
        count *= length
    return count * int(tensor.get_dtype().lstrip("BFIU")) // 8
