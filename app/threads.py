"""Threads in which whatever goes wrong becomes an answer."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Found = TypeVar("_Found")


class AnsweringExecutor(ThreadPoolExecutor):
    """A pool whose every failure reaches the coroutine that waits for it.

    asyncio's futures refuse a StopIteration (PEP 479), and say so where nobody listens: without this, the request that
    waits for that thread waits for ever.
    """

    def submit(self, fn: Callable[..., _Found], /, *args: Any, **kwargs: Any) -> Future[_Found]:
        """Run `fn` in a thread."""
        return super().submit(_without_stop_iteration, fn, *args, **kwargs)


def _without_stop_iteration(fn: Callable[..., _Found], *args: Any, **kwargs: Any) -> _Found:
    try:
        return fn(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("an iterator ended in a thread") from error
