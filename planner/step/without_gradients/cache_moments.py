"""While tokens are made: at which of them most is there, and what stands of the cache beside the work on that token.

A usual cache is largest at the last token, or at the first, where a sliding layer still keeps the whole prompt. A
quantized one is largest before its last tokens are quantized, while they are, or at the end. Of an offloaded one a
layer's share stands.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.families.parts import Attention, Decoder
from planner.step.attention.cache_quantizers import Quantizer
from planner.step.attention.other_caches import OtherCache
from planner.step.cache_bytes import cache_bytes, cached_widths
from planner.units import allocated


@dataclass(frozen=True, slots=True)
class KeptCache:
    """How `generate` keeps its cache where it is told to: quantized by these, or without them on the host.

    `residual`: of a quantized cache, so many tokens at most stay as they are; 0: each is quantized at once (fp8).
    """

    keys: Quantizer | None = None
    values: Quantizer | None = None
    residual: int = 0

    @property
    def traced(self) -> OtherCache:
        """The same for a trace."""
        return OtherCache(self.keys, self.values)


@dataclass(frozen=True, slots=True)
class Moment:
    """One token more: `tokens` there are with it, `stored` of them quantized, `standing_bytes` of the whole cache."""

    tokens: int
    stored: int
    standing_bytes: int
    how: OtherCache | None = None

    @property
    def kept(self) -> int:
        """Tokens that stay as they are, the new one among them."""
        return self.tokens - self.stored


def refuse_what_cannot_be_kept(decoder: Decoder, kept: KeptCache) -> None:
    """QuantizedCache takes full attention alone (cache_utils.py); an offloaded one is planned where layers are alike.

    Raises:
        NotImplementedError: this model's layers have another cache.
    """
    for block in decoder.structure.blocks:
        attention = block.attention
        plain = isinstance(attention, Attention) and not attention.window and attention.keys == "own"
        if not plain and kept.keys:
            msg = "a quantized cache of layers without full attention, which transformers refuses; write dynamic"
            raise NotImplementedError(msg)
        if not plain:
            msg = "an offloaded cache of layers that slide, have latents or keep states; write dynamic"
            raise NotImplementedError(msg)


def moments(decoder: Decoder, kept: KeptCache | None, shape: tuple[int, int, int], each: int) -> Iterator[Moment]:
    """The tokens at which most may be there. `shape`: sequences, tokens of the prompt, tokens in all."""
    sequences, prompt, tokens = shape
    last = tokens - 1  # the last token made is not read
    if kept is None:
        first_bytes = cache_bytes(decoder, sequences, prompt, each=each, windows=False, repeated=True)
        yield Moment(last, 0, max(first_bytes, cache_bytes(decoder, sequences, last, each=each, repeated=True)))
    elif kept.keys is None or kept.values is None:
        yield Moment(last, 0, one_layer_bytes(decoder, sequences, last, each), kept.traced)
    elif not kept.residual:
        yield Moment(last, last, len(decoder.order) * _stored_bytes(decoder, kept, sequences, last, each), kept.traced)
    else:
        yield from _of_quantized(decoder, kept, shape, each)


def _of_quantized(decoder: Decoder, kept: KeptCache, shape: tuple[int, int, int], each: int) -> Iterator[Moment]:
    sequences, prompt, tokens = shape
    last, layers = tokens - 1, len(decoder.order)
    rounds = (last - prompt) // kept.residual

    def layer_bytes(stored: int, as_they_are: int) -> int:
        return _stored_bytes(decoder, kept, sequences, stored, each) + one_layer_bytes(
            decoder, sequences, as_they_are, each
        )

    stored = prompt + rounds * kept.residual
    if last > stored or not rounds:
        yield Moment(last, stored, layers * layer_bytes(stored, max(0, last - 1 - stored)), kept.traced)
    if rounds:
        before, full = stored - kept.residual, kept.residual - 1
        if full:
            yield Moment(stored - 1, before, layers * layer_bytes(before, full - 1), kept.traced)
        # The layers before this one have been quantized anew, or those after it have not.
        old_bytes, new_bytes = layer_bytes(before, full), layer_bytes(stored, 0)
        keys_bytes = (new_bytes - layer_bytes(before, 0)) // 2
        standing_bytes = max(layers * old_bytes, (layers - 1) * new_bytes + old_bytes + keys_bytes)
        yield Moment(stored, before, standing_bytes, OtherCache(kept.keys, kept.values, again=True))


def one_layer_bytes(decoder: Decoder, sequences: int, tokens: int, each: int) -> int:
    """Keys and values of a layer as they are."""
    return cache_bytes(decoder, sequences, tokens, each=each, repeated=True) // len(decoder.order)


def _stored_bytes(decoder: Decoder, kept: KeptCache, sequences: int, tokens: int, each: int) -> int:
    """Keys and values of a layer, quantized: packed, with a scale and a shift for each group, or a scale (fp8)."""
    total_bytes = 0
    for width, how in zip(cached_widths(decoder, 0, repeated=True), (kept.keys, kept.values), strict=True):
        elements = sequences * tokens * width
        if how is None or how.backend == "fp8":
            total_bytes += allocated(elements) + allocated(4)
        else:
            total_bytes += allocated(-(-elements * how.bits // 8)) + 2 * allocated(-(-elements // how.group) * each)
    return total_bytes
