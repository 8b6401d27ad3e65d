"""Time that no change of the system's clock moves: how long attempts run, and when one may be tried again."""

import time
from collections.abc import Callable, Collection

# No probe is postponed for longer (`ProbeStore.fault`); a later time was written before the clock was set back.
MAX_POSTPONED_SECONDS = 60.0


class Stopwatch:
    """How long this process has seen each attempt run, by ref.

    It starts again after a restart: the probe and its engine keep the deadline themselves.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, float] = {}

    def seconds(self, ref: str, *, runs: bool) -> float:
        """Time since `ref` was first seen to run; 0 for one that never was."""
        now = self._clock()
        return now - (self._began.setdefault(ref, now) if runs else self._began.get(ref, now))

    def keep(self, refs: Collection[str]) -> None:
        """Forget all others."""
        self._began = {ref: began for ref, began in self._began.items() if ref in refs}


def is_due(not_before: float, now: float) -> bool:
    """Whether a probe's turn has come, `now` being seconds since the epoch by a clock that may have been set back."""
    return not_before <= now or not_before > now + MAX_POSTPONED_SECONDS
