"""Where a quantized cache's groups do not come out even, `generate` dies: at the prompt, or when it quantizes again.

Sources: optimum-quanto 0.2.7 tensor/grouped.py, `group`; hqq 0.2.8 core/quantize.py (is_divisible), core/bitpack.py,
which puts the first and the second half of the rows into one byte.
"""

from collections.abc import Iterator
from math import gcd

from planner.errors import FieldProblem, InvalidRequestError
from planner.model.model import Model
from planner.serving.generation_cache import CacheConfig
from planner.serving.request import Inference
from planner.step.cache_bytes import cached_widths


def refuse_uneven_groups(asked: Inference, model: Model) -> None:
    """Raise for a prompt, or what is quantized later, that this cache cannot be cut into groups of.

    Raises:
        InvalidRequestError: names the field and the multiple that the prompt has to be of.
    """
    config = asked.quantized_cache
    if config is None or config.backend == "fp8" or model.decoder is None:
        return
    decoder = model.decoder
    widths, head = cached_widths(decoder, 0, repeated=True), decoder.kind_sizes[0].get("d", decoder.sizes.get("d", 1))
    for tokens in _quantized_lengths(asked, config):
        for width, axis in zip(widths, (config.axis_key, config.axis_value), strict=False):
            if not _divides(config, axis, (asked.batch, tokens, width, head)):
                again = "" if tokens == asked.prompt else f" when {tokens:,} tokens are quantized"
                message = (
                    f"groups of {config.q_group_size} along axis {axis} do not come out even{again}, and "
                    f"{config.backend} fails there; write another, or a prompt (context less max_new_tokens) "
                    "that is a multiple of it"
                )
                raise InvalidRequestError("generate fails with this cache.", [FieldProblem("cache_config", message)])


def _quantized_lengths(asked: Inference, config: CacheConfig) -> Iterator[int]:
    """Of the prompt, and of each later round whose remainder is a new one: they come again after `period` rounds."""
    yield asked.prompt
    rounds = (asked.max_new_tokens - 1) // config.residual_length
    # Elements are asked for a multiple of the group, and its rows for one of the values that share a byte.
    multiple = config.q_group_size * (8 // config.nbits)
    period = multiple // gcd(multiple, config.residual_length)
    yield from (asked.prompt + index * config.residual_length for index in range(1, min(rounds, period) + 1))


def _divides(config: CacheConfig, axis: int, shape: tuple[int, int, int, int]) -> bool:
    batch, tokens, width, head = shape
    group, elements = config.q_group_size, batch * tokens * width
    if config.backend == "quanto":
        along = elements // batch if axis == 0 else elements // head
        return along % group == 0
    rows = group if axis == 0 else elements // group
    return elements % group == 0 and rows % (8 // config.nbits) == 0
