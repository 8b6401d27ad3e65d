"""`python -m planner.probe.recording.differences < SETTING`: where a step's trace and torch part, tensor by tensor.

Reads a setting as the tables have them (`{"name": ..., "request": ...}`) or a plain request, runs it on a virtual card
and prints, for forward, loss and backward: the bytes of both at the phase's largest instant, and each size of which
they hold a different number, with the line of code that made torch's tensors and the cause the trace gives its own.
Then the first allocation that one has and the other has not. Tensors below 16 KiB are passed over.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from types import TracebackType
from typing import Any, NamedTuple

from planner.catalog import resolve_gpu
from planner.families import decoder_of
from planner.model.model import resolve_model
from planner.probe.__main__ import be_quiet
from planner.probe.devices.virtual_card import insert_card
from planner.probe.options import Options
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.engine.program import played
from planner.step.engine.segment_peaks import PHASES
from planner.step.lines import program_order_and_tables
from planner.units import allocated

_SMALLEST_BYTES = 16 * 1024
_FRAMES_SHOWN = 3
_KINDS_SHOWN = 6
# Frames that say nothing about who asked.
_WRAPPERS = ("torch/nn/modules/module.py", "torch/_", "torch/utils/", "planner/probe/values/", "torch/library.py")


class Change(NamedTuple):
    """One allocation (positive) or free (negative) of a tensor; `key` pairs the two, `origin` says who made it."""

    phase: str
    signed_bytes: int
    key: object
    origin: str


def torch_changes(request: Request) -> list[Change]:
    """Every allocation and free of a steady step, as torch's allocator records them, with the code that asked."""
    import torch  # noqa: PLC0415  # torch comes after its card

    from planner.probe.devices.allocator_settings import settle_allocator  # noqa: PLC0415
    from planner.probe.devices.virtual_card import make_values_true  # noqa: PLC0415
    from planner.probe.training.configs import config_of  # noqa: PLC0415
    from planner.probe.training.phases import Job, story  # noqa: PLC0415

    recipe, options = Recipe.of(request), Options()
    settle_allocator(os.environ, expandable=request.training.expandable_segments)
    job = Job(request, recipe, config_of(request, recipe), options, lambda *_: None)
    make_values_true(options.seed, options.routing)
    with _StackMeter() as meter:
        trained = story(job, torch.device("cuda", 0), meter)
    del trained
    return list(meter.changes())


@dataclass(slots=True)
class _StackMeter:
    """Torch's history with stacks, from the first steady forward to the first steady optimizer phase."""

    marks: list[tuple[int, str]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> "_StackMeter":
        import torch  # noqa: PLC0415

        torch.cuda.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import torch  # noqa: PLC0415

        torch.cuda.memory._record_memory_history(None)

    def begin(self, phase: str) -> None:
        import torch  # noqa: PLC0415

        if phase == PHASES[0] and not self.marks:
            torch.cuda.memory._record_memory_history("all", context="all", stacks="python", max_entries=10_000_000)
        if self.marks or phase == PHASES[0]:
            if not self.entries:
                self.marks.append((len(self._trace()), phase))
            if phase == "optimizer" and not self.entries:
                self.entries = self._trace()

    def readings(self) -> tuple[()]:
        return ()

    def now(self) -> None:
        return None

    @staticmethod
    def _trace() -> list[dict[str, Any]]:
        import torch  # noqa: PLC0415

        traces: list[list[dict[str, Any]]] = torch.cuda.memory._snapshot()["device_traces"]
        return traces[torch.cuda.current_device()]

    def changes(self) -> Iterator[Change]:
        """The entries of each phase; what was there before the step has no allocation and is left out."""
        ends = [*self.marks[1:], (len(self.entries), "")]
        alive = set()
        for (start, phase), (end, _) in zip(self.marks, ends, strict=True):
            for entry in self.entries[start:end]:
                size_bytes, address = allocated(entry["size"]), entry["addr"]
                if entry["action"] == "alloc":
                    alive.add(address)
                    yield Change(phase, size_bytes, address, _origin(entry))
                elif entry["action"] == "free_completed" and address in alive:
                    alive.discard(address)
                    yield Change(phase, -size_bytes, address, "")


def _origin(entry: dict[str, Any]) -> str:
    found = []
    for frame in entry.get("frames", ()):
        file = frame["filename"].split("site-packages/")[-1].replace("transformers/models/", "")
        if file.endswith(".py") and not any(part in file for part in _WRAPPERS):
            found.append(f"{file}:{frame['line']} {frame['name']}")
    return " < ".join(found[:_FRAMES_SHOWN]) or "(autograd)"


def trace_changes(request: Request) -> list[Change]:
    """The same of the formulas' trace."""
    decoder, recipe = decoder_of(resolve_model(request.model).config), Recipe.of(request)
    program, order, tables = program_order_and_tables(decoder, recipe, resolve_gpu(request.gpu))
    changes: list[Change] = []
    alive: dict[int, list[int]] = {}
    for index in played(program, tuple(order)):
        segment = program.segments[index]
        for move in segment.moves:
            key = move if move >= 0 else ~move
            tag, size = program.keys[key]
            size_bytes = tables[segment.kind or 0][key]
            if move >= 0:
                alive.setdefault(key, []).append(len(changes))
                changes.append(Change(segment.phase, size_bytes, len(changes), f"{tag}: {size.num} x {size.dims}"))
            else:
                changes.append(Change(segment.phase, -size_bytes, alive[key].pop(), ""))
    return changes


class Moment(NamedTuple):
    """The largest instant of a phase: its bytes, and what is alive, by size and origin."""

    live_bytes: int
    alive: Counter[tuple[int, str]]


def largest_moment(changes: Iterable[Change], phase: str) -> Moment:
    """Find it."""
    alive: dict[object, tuple[int, str]] = {}
    live_bytes, largest = 0, Moment(-1, Counter())
    for change in changes:
        live_bytes += change.signed_bytes
        if change.signed_bytes > 0:
            alive[change.key] = (change.signed_bytes, change.origin)
        else:
            alive.pop(change.key, None)
        if change.phase == phase and live_bytes > largest.live_bytes:
            largest = Moment(live_bytes, Counter(alive.values()))
    return largest


def report(torch_side: Sequence[Change], trace_side: Sequence[Change]) -> Iterator[str]:
    """The lines that are printed."""
    for phase in PHASES:
        ours, theirs = largest_moment(trace_side, phase), largest_moment(torch_side, phase)
        beyond_bytes = ours.live_bytes - theirs.live_bytes
        yield f"{phase}: torch {theirs.live_bytes:,}, trace {ours.live_bytes:,} ({beyond_bytes:+,} bytes)"
        yield from _unequal_sizes(theirs, ours)
    yield _first_difference(torch_side, trace_side)


def _unequal_sizes(theirs: Moment, ours: Moment) -> Iterator[str]:
    counts = [Counter[int](), Counter[int]()]
    for count, moment in zip(counts, (theirs, ours), strict=True):
        for (size_bytes, _), number in moment.alive.items():
            count[size_bytes] += number
    for size_bytes in sorted(set(counts[0]) | set(counts[1]), reverse=True):
        if size_bytes < _SMALLEST_BYTES or counts[0][size_bytes] == counts[1][size_bytes]:
            continue
        yield f"  {size_bytes:,} bytes: torch {counts[0][size_bytes]}, trace {counts[1][size_bytes]}"
        for side, moment in (("torch", theirs), ("trace", ours)):
            of_size = Counter({origin: n for (size, origin), n in moment.alive.items() if size == size_bytes})
            yield from (f"    {side} {number} x {origin}" for origin, number in of_size.most_common(_KINDS_SHOWN))


def _first_difference(torch_side: Sequence[Change], trace_side: Sequence[Change]) -> str:
    theirs, ours = (
        [change for change in side if change.signed_bytes >= _SMALLEST_BYTES] for side in (torch_side, trace_side)
    )
    matcher = SequenceMatcher(
        None, [change.signed_bytes for change in theirs], [change.signed_bytes for change in ours], autojunk=False
    )
    for kind, start, end, our_start, our_end in matcher.get_opcodes():
        if kind != "equal":
            shown = [f"torch {c.signed_bytes:,} {c.phase} {c.origin}" for c in theirs[start:end][:_KINDS_SHOWN]]
            shown += [f"trace {c.signed_bytes:,} {c.phase} {c.origin}" for c in ours[our_start:our_end][:_KINDS_SHOWN]]
            return f"first difference, after {start} equal allocations:\n  " + "\n  ".join(shown)
    return f"all {len(theirs)} allocations are equal, in their order"


def main() -> int:
    """Compare the setting on stdin."""
    be_quiet()
    document = json.load(sys.stdin)
    request = Request.parse(document.get("request", document))
    insert_card(request)
    print("\n".join(report(torch_changes(request), trace_changes(request))))  # noqa: T201  a program
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
