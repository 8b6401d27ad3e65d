"""Progress as JSON lines on stderr."""

import json
import sys
import time


class Progress:
    """Says each stage once it begins, with the seconds since the program started."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, stage: str, index: int = 0) -> None:
        """`stage` begins; `index` counts what repeats."""
        line = {"stage": stage, "index": index, "seconds": round(time.monotonic() - self._started, 3)}
        print(json.dumps(line), file=sys.stderr, flush=True)  # noqa: T201  # this program's own protocol
