"""Sequences cut over cards: what one card computes of them, and which models' attention can be cut so.

Sources: torch 2.14 torch/distributed/tensor/experimental/_context_parallel/_load_balancer.py; accelerate 1.15
big_modeling.py _attach_context_parallel_hooks, which refuses layers with windows; transformers 5.23 trainer.py
_prepare_context_parallel_inputs.
"""

from dataclasses import replace

from planner.families.parts import Attention, Decoder
from planner.request.recipe import Recipe
from planner.units import ceil_div

_BY = {"ring": "torch's context parallelism", "ulysses": "DeepSpeed's Ulysses"}
UNPROVED = {
    "ring": "planned from torch's source and held to nine dry runs of Llamas; other families to none",
    "ulysses": "planned from DeepSpeed's source and held to no dry run; cp_size is",
}


def of_own_tokens(recipe: Recipe) -> Recipe:
    """`recipe` with this card's part of each sequence: the batch is cut before the model sees it.

    A ring's part is two chunks, one from either end, so that it has an even length.
    """
    layout = recipe.layout
    if layout.sequence_by is None:
        return recipe
    pieces = layout.sequence_parts * (2 if layout.sequence_by == "ring" else 1)
    length = ceil_div(recipe.training.max_length, pieces) * pieces // layout.sequence_parts
    return replace(recipe, training=recipe.training.model_copy(update={"max_length": length}))


def refuse_layers(decoder: Decoder, recipe: Recipe) -> None:
    """Raise for attention that sees other tokens' parts otherwise than plain causal attention does.

    Raises:
        NotImplementedError: says which.
    """
    by = recipe.layout.sequence_by
    if by is None:
        return
    implementation = recipe.training.attn_implementation or decoder.default_attention
    for block in decoder.structure.blocks:
        attention = block.attention
        plain = isinstance(attention, Attention) and not (attention.window or attention.alibi or attention.sinks)
        if not plain or attention is None or implementation == "eager":
            msg = f"{_BY[by]} of layers with windows, latents, states, ALiBi, sinks or eager attention"
            raise NotImplementedError(msg)
