"""LoRA's own weights: r (K + N) numbers for each adapted weight of N rows and K columns, DoRA N more."""

from collections.abc import Sequence

from planner.ledger import PHASES, Line
from planner.tensors.trainable import MAGNITUDE, Trainable
from planner.units import allocated

ALIVE_IN = PHASES[PHASES.index("prepare") :]


def adapter_lines(tensors: Sequence[Trainable]) -> list[Line]:
    """Lines for matrices and magnitude vectors.

    PEFT makes both float32 whatever the base is (autocast_adapter_dtype); TRL then casts the matrices to bfloat16.
    """
    magnitudes = [tensor for tensor in tensors if tensor.name.endswith(MAGNITUDE)]
    matrices = [tensor for tensor in tensors if not tensor.name.endswith(MAGNITUDE)]
    return [
        _line("LoRA matrices", "Σ r (K + N)", matrices, "peft/tuners/lora/layer.py update_layer"),
        _line("DoRA magnitudes", "Σ N", magnitudes, "peft/tuners/lora/dora.py update_layer"),
        _before_the_cast(tensors),
    ]


def _before_the_cast(tensors: Sequence[Trainable]) -> Line:
    """16-bit adapters begin as float32 ones, cast one after another: the first cast still has all of them."""
    extra_bytes = sum((allocated(4 * t.elements) - allocated(t.itemsize_bytes * t.elements)) * t.count for t in tensors)
    return Line(
        name="float32 adapters before their cast",
        bytes=extra_bytes,
        cause="adapters",
        alive_in=("prepare",),
        formula="(4 - e) × adapter parameters",
        evidence="modelled",
        source="trl/trainer/sft_trainer.py: adapters of quantized models are cast to bfloat16",
    )


def _line(name: str, formula: str, tensors: Sequence[Trainable], source: str) -> Line:
    elements = sum(tensor.elements * tensor.count for tensor in tensors)
    itemsize_bytes = tensors[0].itemsize_bytes if tensors else 0
    return Line(
        name=name,
        bytes=sum(allocated(tensor.elements * tensor.itemsize_bytes) * tensor.count for tensor in tensors),
        cause="adapters",
        alive_in=ALIVE_IN,
        formula=f"e × {formula}, each tensor rounded up to 512 bytes",
        working=f"{itemsize_bytes} × {elements:,}",
        source=source,
    )
