"""What PiSSA and OLoRA hold while they work an adapter's first values out of a weight, one weight after the other.

N = output rows, K = input columns, k the smaller of the two; everything in float32.
Source: peft 0.21.2, tuners/lora/layer.py pissa_init and olora_init.
"""

from collections.abc import Sequence

from planner.errors import FieldProblem, InvalidRequestError
from planner.ledger import Line
from planner.request.initialisation import decomposes, needs_float_weights
from planner.request.recipe import Recipe
from planner.tensors.modules import Adapted
from planner.units import allocated

FIELD = "lora.init_lora_weights"


def decomposition_lines(weights: Sequence[Adapted], recipe: Recipe) -> list[Line]:
    """The passing copies of the largest weight, in the preparation alone: a step has as much as of any other adapter.

    pissa: the weight, the product of its first adapters and what is left of it, beside the whole decomposition.
    pissa_niter_N: the same three beside r columns of it. olora: the weight and that product beside Q and R.
    cuSOLVER's own workspace is not counted.

    Raises:
        InvalidRequestError: PEFT cannot decompose quantized weights so.
    """
    way = recipe.lora.init_lora_weights if recipe.lora else True
    if recipe.quantization is not None and needs_float_weights(way):
        fix = (
            f"PEFT makes {way} adapters of float weights alone and fails on quantized ones; use method lora, or make "
            "them once, save what is left of the model and train that in 4 bits with init_lora_weights true"
        )
        raise InvalidRequestError("These first values cannot be made.", [FieldProblem(FIELD, fix)])
    if not decomposes(way):
        return []
    largest = max((_passing_bytes(weight, str(way)) for weight in weights), default=0)
    return [
        Line(
            name=f"{str(way).partition('_')[0]}: decomposition of the largest weight", bytes=largest, cause="adapters",
            alive_in=("prepare",), formula=_FORMULAS["pissa_niter" if "niter" in str(way) else str(way)],
            working=f"{largest:,}", evidence="modelled",
            source="peft/tuners/lora/layer.py pissa_init, olora_init; cuSOLVER's workspace is not counted",
        )
    ]  # fmt: skip


_FORMULAS = {
    "pissa": "3 × 4 N K + 4 k (N + K)",
    "pissa_niter": "3 × 4 N K + 4 r (N + K)",
    "olora": "2 × 4 N K + 4 k (N + K)",
}


def _passing_bytes(weight: Adapted, way: str) -> int:
    rows, columns = weight.rows, weight.columns
    inner = weight.rank if "niter" in way else min(rows, columns)
    copies = 2 if way == "olora" else 3
    return copies * allocated(4 * rows * columns) + allocated(4 * inner * rows) + allocated(4 * inner * columns)
