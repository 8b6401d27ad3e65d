"""Record the least memory in which torch's own allocator lets a run live, for the formula's to be held to.

    python -m tests.planner.step.tables.settings llama full | python -m planner.probe.recording.smallest

One JSON line per setting on stdin (`name`, `request`); one line back with `smallest_bytes`: what the allocator may
reserve at the least, a whole number of 2 MiB, so that two steps more than the first end well. Each try is the whole
dry run, its allocator held to so much by `set_per_process_memory_fraction`. The search starts at the formula's answer
and goes away from it with growing strides, so that an answer that is right costs two tries.
"""

from collections.abc import Callable
from typing import Any

from planner.allocator.caching_allocator import ROUND_LARGE_BYTES
from planner.answer.plan import plan
from planner.answer.replay.reserved_bytes import smallest_capacity_bytes
from planner.measurement import Measurement
from planner.probe.__main__ import be_quiet
from planner.probe.devices.virtual_card import insert_any_card, insert_card
from planner.probe.options import Options
from planner.probe.processes.forked import in_fork
from planner.probe.progress import Silence
from planner.probe.recording.settings_on_stdin import answer_each
from planner.request.schema import Request


def record(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Search the smallest card for one request."""
    request = Request.parse(document)
    whole = in_fork(lambda: _run(request, None))

    def survives(pages: int) -> bool:
        return in_fork(lambda: _run(request, pages * ROUND_LARGE_BYTES)).outcome == "ok"

    answer = plan(request)
    expected_bytes = smallest_capacity_bytes(answer.model, answer.recipe, answer.gpu)
    pages = smallest_pages(survives, expected_bytes // ROUND_LARGE_BYTES)
    reserved_bytes = max(phase.peak_reserved_bytes or 0 for phase in whole.phases)
    return {
        "name": name,
        "request": document,
        "reserved_bytes": reserved_bytes,
        "smallest_bytes": pages * ROUND_LARGE_BYTES,
    }


def smallest_pages(survives: Callable[[int], bool], expected: int) -> int:
    """The least number of pages that is enough, looked for around the one that is expected."""
    stride, enough = 1, survives(expected)
    known = expected
    while True:
        tried = max(0, known - stride if enough else known + stride)
        if survives(tried) != enough:
            low, high = sorted((known, tried))
            break
        known, stride = tried, 2 * stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if survives(middle) else (middle, high)
    return high


def _run(request: Request, capacity_bytes: int | None) -> Measurement:
    """The run on its whole card, of which torch's allocator may take `capacity_bytes`."""
    insert_card(request)
    import torch  # noqa: PLC0415  # comes after its card

    from planner.probe.measure import measure  # noqa: PLC0415  # the same

    if capacity_bytes is not None:
        total_bytes = torch.cuda.get_device_properties(0).total_memory
        # torch multiplies again and cuts off: half a page more than what is meant is never a page.
        torch.cuda.set_per_process_memory_fraction((capacity_bytes + ROUND_LARGE_BYTES // 2) / total_bytes)
    return measure(request, Options(), Silence())


def main() -> int:
    """Record every setting on stdin."""
    be_quiet()
    insert_any_card()
    answer_each(record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
