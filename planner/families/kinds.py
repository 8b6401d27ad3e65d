"""Decoders whose layers come in several kinds: sliding and full attention, dense and expert, the odd last one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from planner.families.config import Fields
from planner.families.llama import structure
from planner.families.parts import Block, Decoder, Structure


def mixed_layers(
    fields: Fields, layers: Sequence[tuple[Block, Mapping[str, int]]], sizes: Mapping[str, int], **more: Any
) -> Decoder:
    """A decoder whose layers are listed one by one; equal ones become one kind, in order of first appearance.

    The first layer with another reach than the first is a kind of its own: backward, it frees the mask and the rotary
    tables of that reach.
    """
    reaches = [block.attention is not None and block.attention.window for block, _ in layers]
    alone = next((index for index, reach in enumerate(reaches) if reach != reaches[0]), 0)
    layers = [
        (replace(block, once="first"), own) if index == alone and alone and not block.once else (block, own)
        for index, (block, own) in enumerate(layers)
    ]
    kinds: list[tuple[Block, Mapping[str, int]]] = []
    order = []
    for layer in layers:
        if layer not in kinds:
            kinds.append(layer)
        order.append(kinds.index(layer))
    structural = {key: more.pop(key) for key in tuple(more) if key in Structure.__dataclass_fields__}
    return Decoder(
        model_type=fields.model_type,
        structure=structure(tuple(block for block, _ in kinds), fields, **structural),
        sizes=sizes,
        kind_sizes=tuple(own for _, own in kinds),
        order=tuple(order),
        **more,
    )


def in_turn(blocks: Sequence[Block], attends: Sequence[bool]) -> list[Block]:
    """Of layers that do not all attend, mark the first that does: backward, it frees the mask."""
    first = attends.index(True) if True in attends and not all(attends) else -1
    return [replace(block, once="first") if index == first else block for index, block in enumerate(blocks)]


def sliding_layers(fields: Fields, default: Sequence[bool]) -> tuple[bool, ...]:
    """Which layers attend to a sliding window: `layer_types`, or what the class makes of its own defaults."""
    listed = fields.list_of("layer_types", len(default))
    if listed is None:
        return tuple(default)
    return tuple(kind == "sliding_attention" for kind in listed)


def every(period: int, layers: int) -> tuple[bool, ...]:
    """True but for every `period`-th layer, as `(i + 1) % period` says; period 0 means never."""
    return tuple(bool(period) and bool((index + 1) % period) for index in range(layers))
