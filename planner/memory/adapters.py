"""An adapter's own weights: LoRA's are r (K + N) numbers for each weight of N rows and K columns, DoRA's N more.

Those of PEFT's other methods are in planner/request/peft_types.py.
"""

from collections.abc import Sequence

from planner.ledger import PHASES, Line
from planner.request.peft_types import METHODS
from planner.tensors.inventory import TensorGroup
from planner.tensors.peft_methods import MAGNITUDE
from planner.tensors.trainable import TOKENS, Trainable
from planner.units import allocated

COPIES = "trained copies of whole modules"
_TOKENS_SOURCE = "peft/tuners/trainable_tokens/layer.py update_layer"
ALIVE_IN = PHASES[PHASES.index("prepare") :]


def adapter_lines(
    tensors: Sequence[Trainable], buffers: Sequence[TensorGroup] = (), *, peft_type: str = "LORA", frozen_bytes: int = 0
) -> list[Line]:
    """Lines for matrices and magnitude vectors, and for copies of whole modules, whose `buffers` are copied, too.

    `frozen_bytes`: what a method keeps beside what it trains (planner/tensors/peft_methods.py).

    PEFT makes both float32 whatever the base is (autocast_adapter_dtype); TRL then casts the matrices to bfloat16.
    """
    tensors = [tensor for tensor in tensors if not tensor.own]
    copies = [tensor for tensor in tensors if tensor.copied]
    magnitudes = [tensor for tensor in tensors if tensor.name.endswith(MAGNITUDE)]
    tokens = [tensor for tensor in tensors if tensor.name.endswith(TOKENS)]
    matrices = [tensor for tensor in tensors if not tensor.name.endswith((MAGNITUDE, TOKENS)) and not tensor.copied]
    method = METHODS[peft_type]
    return [
        _line(method.trained, method.formula, matrices, method.source),
        _frozen(method.label, method.source, frozen_bytes),
        _line("DoRA magnitudes", "Σ N", magnitudes, "peft/tuners/lora/dora.py update_layer"),
        _line(COPIES, "n", copies, "peft/utils/other.py ModulesToSaveWrapper.update, a deepcopy of the original"),
        _line("trained rows of the embedding", "tokens × h", tokens, _TOKENS_SOURCE),
        _rows_before_training(tokens),
        _buffers(buffers),
        _before_the_cast(tensors),
    ]


def _frozen(label: str, source: str, frozen_bytes: int) -> Line:
    """VeRA's shared pair of random matrices, OFT's places in a block."""
    return Line(
        name=f"what {label} does not train",
        bytes=frozen_bytes,
        cause="adapters",
        alive_in=ALIVE_IN,
        formula="AdaLoRA: 512 for each module; VeRA: 4 r (max K + max N); OFT: 16 b (b - 1) / 2 for each module",
        working=f"{frozen_bytes:,}",
        source=source,
    )


def _rows_before_training(tokens: Sequence[Trainable]) -> Line:
    """PEFT keeps them to merge and unmerge; its cast of adapters makes them float32, too."""
    elements = sum(tensor.elements for tensor in tokens)
    return Line(
        name="rows of the embedding before training",
        bytes=sum(allocated(4 * tensor.elements) for tensor in tokens),
        cause="adapters",
        alive_in=ALIVE_IN,
        formula="4 × tokens × h",
        working=f"4 × {elements:,}",
        source=_TOKENS_SOURCE,
    )


def _buffers(buffers: Sequence[TensorGroup]) -> Line:
    elements = sum(group.params for group in buffers)
    return Line(
        name="buffers of copied modules",
        bytes=sum(allocated(4 * group.params_each) * group.count for group in buffers),
        cause="adapters",
        alive_in=ALIVE_IN,
        formula="4 n, each tensor rounded up to 512 bytes",
        working=f"4 × {elements:,}",
        source="peft/utils/other.py ModulesToSaveWrapper.update, a deepcopy of the original",
    )


def _before_the_cast(tensors: Sequence[Trainable]) -> Line:
    """16-bit adapters begin as float32 ones, cast one after another: the first cast still has all of them."""
    extra_bytes = sum(
        max(0, allocated(t.made_bytes * t.elements) - allocated(t.itemsize_bytes * t.elements)) * t.count
        for t in tensors
    )
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
