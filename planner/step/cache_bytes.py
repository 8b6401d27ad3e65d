"""Bytes of the cache alone: what each kind of layer keeps of the tokens that went through it."""

from collections import Counter
from functools import lru_cache
from math import prod

from planner.families.parts import Attention, Decoder, Latent, Mixer
from planner.units import allocated


@lru_cache(maxsize=1024)
def cache_bytes(  # noqa: PLR0913 (each is one thing that an engine decides)
    decoder: Decoder, batch: int, tokens: int, *, each: int, windows: bool = True, repeated: bool = False
) -> int:
    """What all layers keep of `tokens` tokens of each of `batch` sequences, `each` bytes an element.

    Tensors are rounded up to 512 bytes. Without `windows`, sliding layers keep every token, as transformers' do from
    the prompt to the first token after it (cache_utils.py, DynamicSlidingWindowLayer keeps a view). `repeated`: as
    transformers' Falcon, which repeats grouped keys for every head before it keeps them (modeling_falcon.py,
    _split_heads).
    """
    total = 0
    for kind, layers in Counter(decoder.order).items():
        rows = batch * (cached_tokens(decoder, kind, tokens) if windows else tokens)
        keys_and_values = sum(
            allocated(rows * width * each) for width in cached_widths(decoder, kind, repeated=repeated)
        )
        total += layers * (keys_and_values + state_bytes(decoder, kind, batch, each))
    return total


def cached_widths(decoder: Decoder, kind: int, *, repeated: bool = False) -> tuple[int, ...]:
    """Columns of what a layer of this kind keeps of each token: keys and values, or a latent and its rotary part.

    None for a layer that keeps a state, has no attention, or reads the keys of an earlier one.
    """
    attention, sizes = decoder.structure.blocks[kind].attention, _sizes(decoder, kind)
    if isinstance(attention, Latent):
        indexer = (sizes["index d"],) if attention.indexer else ()
        return (sizes["kv low"], sizes["k rot"], *indexer)
    if isinstance(attention, Attention) and attention.keys != "reused":
        width = sizes["q" if repeated and attention.cut == "groups" else "k"]
        return width, width
    return ()


def state_bytes(decoder: Decoder, kind: int, batch: int, each: int) -> int:
    """A float32 state and the last inputs of the short convolution, of a layer that keeps those; else none."""
    attention, sizes = decoder.structure.blocks[kind].attention, _sizes(decoder, kind)
    if not isinstance(attention, Mixer):
        return 0
    state = 4 * batch * prod(sizes[name] for name in attention.state[1:]) if attention.state else 0
    return allocated(state) + allocated(each * batch * sizes["conv"] * sizes["conv kernel"])


def cached_tokens(decoder: Decoder, kind: int, tokens: int) -> int:
    """Tokens that a layer of this kind keeps of `tokens`: all, or as many as its window reaches."""
    attention = decoder.structure.blocks[kind].attention
    window = _sizes(decoder, kind).get("window") if attention and attention.window else None
    return min(tokens, window) if window else tokens


def _sizes(decoder: Decoder, kind: int) -> dict[str, int]:
    return {**decoder.sizes, **decoder.kind_sizes[kind]}
