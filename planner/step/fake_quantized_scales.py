"""What fake-quantized layers keep from one forward pass to the next: their latest scales and zero points.

Source: torchao 0.18 quantization/qat/fake_quantizer.py IntxFakeQuantizer, `self.scale` and `self.zero_point`.
"""

from collections.abc import Mapping

from planner.families.parts import Decoder, Linear
from planner.ledger import Line
from planner.request.recipe import Recipe
from planner.step.from_recipe.linears import linears
from planner.units import allocated

# A float32 scale, an int32 zero point.
_EACH_BYTES = 4


def fake_quantized_scales(decoder: Decoder, recipe: Recipe) -> tuple[Line, ...]:
    """A float32 scale and an int32 zero point for each group of a weight and each token of an input."""
    qat = recipe.training.qat
    if qat is None:
        return ()
    blocks = decoder.structure.blocks
    sizes = [{**decoder.sizes, **own} for own in decoder.kind_sizes]

    def kept_by(part: Linear, numbers: Mapping[str, int]) -> int:
        groups = numbers[part.out] * numbers[part.in_] // qat.group_size
        return 2 * (allocated(_EACH_BYTES * groups) + allocated(_EACH_BYTES * recipe.tokens))

    kept_bytes = sum(kept_by(part, sizes[kind]) for kind in decoder.order for part in linears(blocks[kind]))
    if recipe.loss == "full_logits":  # other losses read the head's weight alone
        kept_bytes += kept_by(decoder.structure.head, decoder.sizes)
    return (
        Line(
            name="scales and zero points of fake-quantized layers", bytes=kept_bytes, cause="activations",
            alive_in=("forward", "loss", "backward", "optimizer"),
            formula="Σ 2 × 4 × (out·in / group + T)", working=f"group = {qat.group_size}, T = {recipe.tokens:,}",
            source="torchao 0.18 quantization/qat/fake_quantizer.py, IntxFakeQuantizer",
        ),
    )  # fmt: skip
