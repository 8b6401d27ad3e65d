"""`python -m tests.planner.allocator.smallest`: the formula's smallest capacity beside torch's own allocator's.

recorded_smallest.jsonl: three settings drawn from each table of tests/planner/step/tables, each run with less and less
memory on a virtual card until torch refused it (`python -m planner.probe.recording.smallest`).
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from planner.allocator.caching_allocator import ROUND_LARGE_BYTES
from planner.answer.plan import plan
from planner.answer.replay.reserved_bytes import smallest_capacity_bytes
from planner.request.schema import Request

FILE = Path(__file__).with_name("recorded_smallest.jsonl")


class Smallest(NamedTuple):
    """One setting: the least the allocator may reserve, in pages of 2 MiB, by torch and by the formula."""

    name: str
    torch_pages: int
    formula_pages: int

    @property
    def apart(self) -> int:
        """Pages that the formula asks for beyond torch's."""
        return self.formula_pages - self.torch_pages


def compared() -> Iterator[Smallest]:
    """Every recorded setting."""
    for line in FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answer = plan(Request.parse(row["request"]))
        least_bytes = smallest_capacity_bytes(answer.model, answer.recipe, answer.gpu)
        yield Smallest(row["name"], row["smallest_bytes"] // ROUND_LARGE_BYTES, least_bytes // ROUND_LARGE_BYTES)


if __name__ == "__main__":
    rows = sorted(compared(), key=lambda row: -abs(row.apart))
    for row in rows:
        sys.stdout.write(f"{row.apart:+3d} of {row.torch_pages:4d} pages of 2 MiB  {row.name}\n")
    sys.stdout.write(f"{sum(abs(row.apart) <= 1 for row in rows)} of {len(rows)} within a page\n")
