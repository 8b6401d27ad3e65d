"""What torch allocates and frees for one operator, forward and backward, by its own history of the allocator.

A program, which prints a JSON line per case and size. Each operator is given tensors that nothing else holds, so that
the history shows which of them it saves: an input goes when the operator returns, or after its backward. What it
returned goes before the backward, unless it is saved.
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from planner.probe.recording.operators.torch_cases import CASES, SIZES, Case, numbers_of, shape_of

_ENTRIES = 100_000


class _Source(torch.autograd.Function):
    """A new tensor of the graph, without other references; its gradient goes when it has arrived."""

    @staticmethod
    def forward(_: Any, anchor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:  # noqa: ARG004  it brings the graph
        return torch.empty(shape, dtype=dtype, device="cuda")

    @staticmethod
    def backward(*_: Any) -> tuple[None, ...]:
        return None, None, None


class _Sink(torch.autograd.Function):
    """Takes what an operator returned; its backward makes their gradients."""

    @staticmethod
    def forward(ctx: Any, history: "_History", *outputs: torch.Tensor) -> torch.Tensor:
        ctx.history, ctx.like = history, [(out.shape, out.dtype) for out in outputs]
        return torch.empty((), device="cuda")

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[Any, ...]:
        ctx.history.mark("gradients in")
        made = [torch.empty(shape, dtype=dtype, device="cuda") for shape, dtype in ctx.like]
        ctx.history.mark("backward")
        return None, *made


class _History:
    """Torch's history of one case, cut into parts."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, int]] = []
        torch.cuda.memory._record_memory_history(None)
        torch.cuda.memory._record_memory_history("all", context=None, max_entries=_ENTRIES)
        self.start = len(self._entries())

    @staticmethod
    def _entries() -> list[dict[str, Any]]:
        traces: list[list[dict[str, Any]]] = torch.cuda.memory._snapshot()["device_traces"]
        return traces[torch.cuda.current_device()]

    def mark(self, part: str) -> None:
        """What comes next belongs to `part`."""
        self.marks.append((part, len(self._entries())))

    def events(self) -> Iterator[tuple[str, int, int]]:
        """The part, the number of the tensor, and the bytes it asked for; 0 bytes where it goes."""
        entries, numbers = self._entries(), dict[int, int]()
        ends = [start for _, start in self.marks[1:]] + [len(entries)]
        count = 0
        for (part, start), end in zip(self.marks, ends, strict=True):
            for entry in entries[start:end] if part else ():
                if entry["action"] == "alloc":
                    numbers[entry["addr"]] = count
                    yield part, count, entry["size"]
                    count += 1
                elif entry["action"] == "free_completed" and entry["addr"] in numbers:
                    yield part, numbers.pop(entry["addr"]), 0


def record(case: Case, dtype: str, sizes: dict[str, int], *, trains: bool) -> list[tuple[str, int, int]]:
    """The events of one case at one size. `trains`: with a graph and its backward; without gradients otherwise."""
    anchor, one = torch.zeros(1, device="cuda", requires_grad=True), torch.ones((), device="cuda")
    shapes = [shape_of(tensor, sizes) for tensor in case.tensors]
    dtypes = [getattr(torch, tensor.dtype or dtype) for tensor in case.tensors]
    # Weights have no creation record.
    weights = {
        tensor.name: torch.zeros(shape, dtype=own, device="cuda", requires_grad=trains and tensor.role == "trained")
        for tensor, shape, own in zip(case.tensors, shapes, dtypes, strict=True)
        if tensor.role in {"trained", "fixed"}
    }

    def given() -> Iterator[torch.Tensor]:
        for tensor, shape, own in zip(case.tensors, shapes, dtypes, strict=True):
            if tensor.name in weights:
                yield weights[tensor.name]
            elif tensor.role == "active" and trains:
                yield _Source.apply(anchor, shape, own)
            else:
                yield torch.zeros(shape, dtype=own, device="cuda")

    history = _History()
    history.mark("inputs")
    tensors = list(given())
    history.mark("forward")
    with torch.set_grad_enabled(trains):
        out = _called(case.run, tensors)
        outputs = [each for each in (out if isinstance(out, tuple) else (out,)) if each.requires_grad]
        history.mark("")
        loss = _Sink.apply(history, *outputs) if trains else None
        history.mark("forward")
        del out, outputs
    if loss is not None:
        torch.autograd.backward(loss, one)
    events = list(history.events())
    del loss
    return events


def _called(run: Callable[..., Any], tensors: list[torch.Tensor]) -> Any:
    """Hand the tensors over: none is named here when the operator returns."""
    taken = tuple(tensors)
    tensors.clear()
    return run(*taken)


def main(names: list[str]) -> int:
    """Print a line for torch's release, and one per case, dtype and size."""
    print(json.dumps({"torch": torch.__version__.split("+")[0]}))  # noqa: T201  a program
    for case in CASES:
        if names and case.name not in names:
            continue
        for dtype in case.dtypes:
            for sizes in SIZES:
                for trains in (True, False):
                    line: dict[str, Any] = {
                        "operator": case.name,
                        "dtype": dtype,
                        "dims": numbers_of(sizes),
                        "trains": trains,
                    }
                    line["tensors"] = [(*each[:3], each.dtype or dtype) for each in case.tensors]
                    try:
                        record(case, dtype, sizes, trains=trains)  # cuBLAS takes its workspace
                        line["events"] = record(case, dtype, sizes, trains=trains)
                    except (RuntimeError, TypeError, AttributeError) as error:
                        line["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                    print(json.dumps(line), flush=True)  # noqa: T201  a program
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
