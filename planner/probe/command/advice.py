"""What would make a program fit, from the bytes that were recorded of it: each saving is computed, none is guessed.

A saving is `exact`, or the most there is to save: all activations of the peak, all holes of the allocator.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from planner.catalog.gpu_rows import gpu_catalog
from planner.units import format_gib

MOST_CARDS = 3


@dataclass(frozen=True, slots=True)
class Advice:
    """One change. `enough` is whether it alone fills the lack: yes, no, or, where only a bound is known, maybe."""

    change: str
    saves_bytes: int
    exact: bool
    enough: str
    why: str


def advice_for(process: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Changes for a process that does not fit or is tight, what saves most first; then larger cards."""
    lacking_bytes = lack_of(process)
    found = [_judged(*saving, lacking_bytes) for saving in _savings(process) if saving[1] > 0]
    found.sort(key=lambda advice: (advice.enough == "no", -advice.saves_bytes))
    return [asdict(advice) for advice in [*found, *_larger_cards(process)]]


def lack_of(process: Mapping[str, Any]) -> int:
    """Bytes that were missing: beside the smallest card that is enough, at the refused allocation, or for all lines."""
    total_bytes, high_bytes = int(process["card"]["total_bytes"]), sum(line["high"] for line in process["lines"])
    smallest, refused = process.get("smallest"), process["out_of_memory"]
    if process["outcome"] != "out_of_memory":
        return int(max(0, high_bytes - total_bytes))
    if smallest and smallest["bytes"]:
        return int(max(0, smallest["bytes"] - total_bytes))
    return int(max(0, refused["requested_bytes"] - refused["free_bytes"])) if refused else 0


def _savings(process: Mapping[str, Any]) -> Iterator[tuple[str, int, bool, str]]:
    """(change, bytes, exact, why)."""
    kinds = {row["name"]: row["bytes"] for row in (process["peak"] or {"by_kind": []})["by_kind"]}
    training, optimizer = process["training"], process["training"]["optimizer"]
    activations = kinds.get("activations", 0) + kinds.get("loading and activations", 0)
    if training["gradient_checkpointing"] is False:
        yield "turn gradient checkpointing on", activations, False, "all activations of the peak"
    yield "a smaller batch, or shorter sequences with more accumulation", activations, False, "the same"
    holes = process["peak_reserved_bytes"] - process["peak_allocated_bytes"]
    expandable = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    yield expandable, holes, False, "what the allocator reserved beyond what was allocated"
    if optimizer and kinds.get("optimizer"):
        saved = optimizer["bytes"] - optimizer["bytes_in_8bit"]
        yield f"an 8-bit optimizer for {optimizer['name']}", saved, True, "the same states in bitsandbytes' 8 bits"
        yield "a paged optimizer", optimizer["bytes"], True, "its states then lie in host memory when the card is full"
    if kinds.get("trained weights") and not kinds.get("weights"):
        gone = kinds.get("gradients", 0) + kinds.get("optimizer", 0)
        yield (
            "train an adapter (LoRA) and freeze the weights",
            gone,
            False,
            "gradients and optimizer states of the peak",
        )
    yield (
        "load the frozen linear layers in 4 bits",
        training["linear_in_4bit_saves_bytes"],
        True,
        "nf4, nested constants",
    )


def _judged(change: str, saves_bytes: int, exact: bool, why: str, lacking_bytes: int) -> Advice:
    enough = "no" if saves_bytes < lacking_bytes else "yes" if exact else "maybe"
    return Advice(change, saves_bytes, exact, enough, why)


def _larger_cards(process: Mapping[str, Any]) -> Iterator[Advice]:
    """The next larger cards that CUDA programs know, if what the run needs in all is known."""
    card, smallest = process["card"], process.get("smallest")
    beside_bytes = sum(line["high"] - line["likely"] for line in process["lines"])
    if process["outcome"] != "out_of_memory":
        needed_bytes = sum(line["high"] for line in process["lines"])
    elif smallest and smallest["bytes"]:
        needed_bytes = smallest["bytes"] + beside_bytes
    else:
        return
    sizes = [
        (found.gpu.usable_bytes, found.row.id)
        for found in gpu_catalog().cards.values()
        if found.gpu and found.row.vendor == "NVIDIA" and found.gpu.usable_bytes >= needed_bytes
    ]
    for size_bytes, name in sorted(sizes)[:MOST_CARDS]:
        why = f"{format_gib(needed_bytes)} is enough with all that is not certain"
        yield Advice(f"a larger card: {name}", size_bytes - card["total_bytes"], True, "yes", why)
