"""The linear layers of a decoder's blocks, and which of their own biases a recipe trains."""

from collections.abc import Iterator
from typing import Literal

from planner.families.parts import (
    Attention,
    Block,
    Decoder,
    Experts,
    GatedMlp,
    Latent,
    Linear,
    Mixer,
    PlainMlp,
)
from planner.request.lora import Lora


def trained_biases(decoder: Decoder, lora: Lora | None) -> Literal["none", "all", "lora_only"]:
    """Which biases of linear layers are trained: none of a model that has none, whatever is asked for."""
    has_some = any(part.bias for block in decoder.structure.blocks for part in linears(block))
    return lora.bias if lora and has_some else "none"


def linears(block: Block) -> Iterator[Linear]:
    """Every `nn.Linear` of a block, in the order of its modules."""
    attention, mlp = block.attention, block.mlp
    if block.layer_input:
        yield from (block.layer_input.gate, block.layer_input.projection)
    if block.parallel_experts:
        experts = block.parallel_experts.experts
        yield from (experts.router, experts.up, experts.down)
    if isinstance(attention, Attention):
        yield from filter(None, (attention.q, attention.k, attention.v, attention.fused, attention.o))
    elif isinstance(attention, Mixer):
        yield from (part for part in attention.tensors() if isinstance(part, Linear))
    elif isinstance(attention, Latent):
        yield from filter(None, (attention.q_a, attention.q, attention.kv_a, attention.kv_b, attention.o))
        if attention.indexer:
            yield from (attention.indexer.q, attention.indexer.k)
    if isinstance(mlp, Experts):
        yield from (mlp.router, mlp.up, mlp.down)
        yield from _linears_of(mlp.shared)
        yield from filter(None, (mlp.shared_gate,))
    else:
        yield from _linears_of(mlp)


def _linears_of(mlp: GatedMlp | PlainMlp | None) -> Iterator[Linear]:
    if isinstance(mlp, GatedMlp):
        yield from filter(None, (mlp.gate, mlp.up, mlp.fused, mlp.down))
    elif mlp:
        yield from (mlp.up, mlp.down)
