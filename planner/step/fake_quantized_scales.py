"""What fake-quantized layers keep from one forward pass to the next: their latest scales and zero points.

Source: torchao 0.18 quantization/qat/fake_quantizer.py IntxFakeQuantizer, `self.scale` and `self.zero_point`.
"""

from planner.families.parts import Decoder, Linear
from planner.ledger import Line
from planner.request.recipe import Recipe
from planner.step.from_recipe.linears import linears

_BLOCK_BYTES = 512
_EACH_BYTES = 4


def fake_quantized_scales(decoder: Decoder, recipe: Recipe) -> tuple[Line, ...]:
    """A float32 scale and an int32 zero point for each group of a weight and each token of an input."""
    qat = recipe.training.qat
    if qat is None:
        return ()
    blocks = decoder.structure.blocks
    sizes = [{**decoder.sizes, **own} for own in decoder.kind_sizes]

    def of_part(part: Linear, kind: int) -> int:
        groups = sizes[kind][part.out] * sizes[kind][part.in_] // qat.group_size
        return 2 * (_blocks(groups) + _blocks(recipe.tokens))

    kept_bytes = sum(of_part(part, kind) for kind in decoder.order for part in linears(blocks[kind]))
    if recipe.loss == "full_logits":  # other losses read the head's weight alone
        kept_bytes += 2 * (_blocks(decoder.sizes["h"] * decoder.sizes["V"] // qat.group_size) + _blocks(recipe.tokens))
    return (
        Line(
            name="scales and zero points of fake-quantized layers", bytes=kept_bytes, cause="activations",
            alive_in=("forward", "loss", "backward", "optimizer"),
            formula="Σ 2 × 4 × (out·in / group + T)", working=f"group = {qat.group_size}, T = {recipe.tokens:,}",
            source="torchao 0.18 quantization/qat/fake_quantizer.py, IntxFakeQuantizer",
        ),
    )  # fmt: skip


def _blocks(count: int) -> int:
    return -(-count * _EACH_BYTES // _BLOCK_BYTES) * _BLOCK_BYTES
