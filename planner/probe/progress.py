"""Progress as JSON lines on stderr: each stage as it begins, each phase's bytes as they grow.

{"stage": "load", "index": 0, "seconds": 1.25}
{"phase": "load", "peak_allocated_bytes": 512, "allocated_bytes": 512, "ended": false, "seconds": 1.75}
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from planner.measurement import PhaseReading
from planner.probe.meters.meter import Meter, Tell

LOOK_SECONDS = 0.5


class Progress:
    """Says each stage once it begins and each phase where there is news, with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._told: dict[str, tuple[int, bool]] = {}
        self._voice = threading.Lock()

    def __call__(self, stage: str, index: int = 0) -> None:
        """`stage` begins; `index` counts what repeats."""
        self._say({"stage": stage, "index": index})

    def phase(self, reading: PhaseReading, ended: bool) -> None:
        """Say what a phase has read so far: its first bytes, a higher peak, its first end. The rest is no news."""
        peak_bytes, was_over = self._told.get(reading.name, (-1, False))
        news = max(peak_bytes, reading.peak_allocated_bytes), was_over or ended
        if news == (peak_bytes, was_over):
            return
        self._told[reading.name] = news
        bytes_read = {"peak_allocated_bytes": news[0], "allocated_bytes": reading.resident_bytes}
        self._say({"phase": reading.name, **bytes_read, "ended": ended})

    def _say(self, line: dict[str, Any]) -> None:
        text = json.dumps(line | {"seconds": round(time.monotonic() - self._started, 3)})
        with self._voice:  # one write, one line: two threads speak
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


class Silence(Progress):
    """For runs without a watcher."""

    def _say(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def __reduce__(self) -> tuple[type["Silence"], tuple[()]]:
        """It has nothing to keep, and its lock cannot be pickled."""
        return Silence, ()


@contextmanager
def watching(meter: Meter, tell: Tell) -> Iterator[None]:
    """Tell of the phase under way twice a second: loading a large model is one phase of minutes."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            reading = meter.now()
            if reading is not None:
                tell(reading, False)

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
