"""What a process takes of its card, a line for each cause: those torch's allocator does not know are modelled."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from planner.overheads.table import Band
from planner.units import MIB

# A connection of one channel holds two buffers, 10 MiB and 2 MiB: https://github.com/NVIDIA/nccl/issues/1685.
_NCCL_CONNECTION_BYTES = 12 * MIB
# A ring has one connection a channel, and NCCL makes at least two channels (nccl/src/graph/connect.cc doubles them).
_NCCL_LEAST_BYTES = 2 * _NCCL_CONNECTION_BYTES
# The most that was reported of one communicator after an all-reduce: https://github.com/NVIDIA/nccl/issues/864.
_NCCL_MOST_BYTES = 1_600_000_000

_NCCL_REASON = (
    "NCCL chooses its channels by the machine's links, which nobody knows here; from two channels of 12 MiB "
    "(github.com/NVIDIA/nccl/issues/1685) to 1.6 GB a communicator (github.com/NVIDIA/nccl/issues/864)"
)
_NO_DISPLAY = "none assumed: give --taken what nvidia-smi shows as used before the run, where a desktop is on the card"


@dataclass(frozen=True, slots=True)
class CardLine:
    """Bytes of one cause, `low` to `high`, with `likely` counted on the card while the program ran."""

    name: str
    low: int
    likely: int
    high: int
    evidence: Literal["counted", "modelled", "given"]
    source: str


def card_lines(process: Mapping[str, Any], context: Band, taken_bytes: int) -> list[CardLine]:
    """What the process held of its card at its peak, and what else a real card would hold."""
    card, reserved_bytes = process["card"], process["peak_reserved_bytes"]
    aside_bytes = max(0, card["peak_used_bytes"] - card["context_bytes"] - reserved_bytes)
    context_bytes, groups = card["context_bytes"], process["training"]["nccl_groups"]
    lines = [
        _counted("torch's allocator", reserved_bytes, "torch.cuda.max_memory_reserved"),
        _counted("taken beside it by libraries", aside_bytes, "counted by the virtual card"),
        CardLine(
            name="CUDA context",
            low=context_bytes - round(context.likely - context.low),
            likely=context_bytes,
            high=context_bytes + round(context.high - context.likely),
            evidence="modelled",
            source=context.source,
        ),
        CardLine("NCCL's buffers", groups * _NCCL_LEAST_BYTES, 0, groups * _NCCL_MOST_BYTES, "modelled", _NCCL_REASON),
        CardLine(
            "display and other programs", taken_bytes, taken_bytes, taken_bytes,
            "given", "as --taken says" if taken_bytes else _NO_DISPLAY,
        ),
    ]  # fmt: skip
    return [line for line in lines if line.high or line.evidence == "given"]


def as_documents(lines: list[CardLine]) -> list[dict[str, Any]]:
    """As the report has them."""
    return [asdict(line) for line in lines]


def _counted(name: str, size_bytes: int, source: str) -> CardLine:
    return CardLine(name, size_bytes, size_bytes, size_bytes, "counted", source)
