"""Allocation streams of two published runs, recorded once so that the replay can be tested without torch's minutes.

`python -m tests.probe.recorded fitcheck-0050 fitcheck-0053` records them again. One line for each event: what it is by
its first letter, its block, its size, and a label where a reader of the stream asks for it.
"""

import lzma
import sys
from pathlib import Path

from planner.evidence.published import published_runs
from planner.probe.meters.events import Event
from planner.probe.score import recorded

FOLDER = Path(__file__).with_name("recordings")
_ACTIONS = {"a": "alloc", "f": "free", "e": "empty_cache", "p": "phase"}
_LABELS_READ = ("aten.empty.memory_format", "caching_allocator_warmup")


def read(run_id):
    lines = lzma.decompress((FOLDER / f"{run_id}.xz").read_bytes()).decode().splitlines()
    return [_event(*line.split("\t")) for line in lines]


def write(run_id, events):
    lines = "\n".join(f"{e.action[0]}\t{e.block}\t{e.size_bytes}\t{_label(e)}" for e in events)
    (FOLDER / f"{run_id}.xz").write_bytes(lzma.compress(lines.encode(), preset=9))


def _event(action, block, size_bytes, label):
    return Event(_ACTIONS[action], int(block), int(size_bytes), label)


def _label(event):
    return event.label if event.action == "phase" or event.label in _LABELS_READ else ""


if __name__ == "__main__":
    for published in published_runs():
        if published.id in sys.argv[1:]:
            write(published.id, recorded(published))
