"""Which projections of each layer have adapters, and of what rank; layers unlike in this are of kinds of their own."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from planner.errors import FieldProblem, NotPlannedError
from planner.families.census import census_of
from planner.families.parts import Decoder
from planner.request.lora import Lora
from planner.step.switches import ADALORA_ELEMENTS, ADALORA_SQUARES, ADALORA_TENSORS
from planner.tensors.modules import ALL_LINEAR, LINEAR_NAMES
from planner.tensors.peft_methods import is_feedforward
from planner.tensors.targets import adapted_weights
from planner.units import allocated

# Of one layer or kind of layer: names of projections within it, and their adapters' ranks.
Ranks = Mapping[str, int]
_NOTHING: Ranks = {}
_HALF_BYTES = 2
# Each is traced by itself, in 30 ms; the deepest public model has 126 layers.
_MOST_KINDS = 126


def by_adapters(decoder: Decoder, lora: Lora | None) -> Decoder:
    """`decoder` with a kind for each set of adapters that a kind's layers have; itself where all of them have one.

    Raises:
        NotPlannedError: hundreds of layers differ.
    """
    return _by_adapters(decoder, lora) if lora and _chooses_layers(lora) else decoder


def adapters_by_kind(decoder: Decoder, lora: Lora | None) -> tuple[Ranks, ...]:
    """The adapters of each kind of layer; the layers of one are alike in this (`by_adapters`)."""
    return _by_kind(decoder, lora) if lora else (_NOTHING,) * len(decoder.structure.blocks)


@lru_cache(maxsize=1024)
def own_ranks(decoder: Decoder, lora: Lora) -> frozenset[str]:
    """Projections whose adapters have another rank than the common one, in some kind of layer."""
    kinds = adapters_by_kind(decoder, lora)
    return frozenset(name for ranks in kinds for name, rank in ranks.items() if rank != lora.r)


def scaled_inputs(decoder: Decoder, lora: Lora | None) -> frozenset[str]:
    """Projections whose input IA3 scales, and not their output."""
    if lora is None or lora.peft_type != "IA3":
        return frozenset()
    names = {name for ranks in adapters_by_kind(decoder, lora) for name in ranks}
    return frozenset(name for name in names if is_feedforward(f".{name}", lora, decoder.model_type))


@lru_cache(maxsize=1024)
def regularized_matrices(decoder: Decoder, lora: Lora | None) -> Mapping[str, int]:
    """How many matrices AdaLoRA has in all, and their numbers; nothing without it."""
    if lora is None or lora.peft_type != "ADALORA":
        return {}
    adapted = adapted_weights(census_of(decoder), decoder.model_type, lora)
    elements = sum(weight.rank * (weight.rows + weight.columns) * weight.count for weight in adapted)
    tensors = 2 * sum(weight.count for weight in adapted)
    square = allocated(_HALF_BYTES * lora.r**2) // _HALF_BYTES  # in whole granules, as autocast makes it
    return {ADALORA_TENSORS: tensors, ADALORA_ELEMENTS: elements, ADALORA_SQUARES: tensors * square}


def _chooses_layers(lora: Lora) -> bool:
    """Whether these options can tell layers apart: those that name modules by their ends alone cannot."""
    if lora.layers_to_transform is not None or lora.rank_pattern or lora.exclude_modules:
        return True
    if isinstance(lora.target_modules, str):
        return lora.target_modules.lower() not in {ALL_LINEAR, LINEAR_NAMES}
    return any(char.isdigit() for target in lora.target_modules for char in target)


@lru_cache(maxsize=1024)
def _by_kind(decoder: Decoder, lora: Lora) -> tuple[Ranks, ...]:
    """Of each kind, what its first layer has; a router's `gate.weight` goes by its module's name like any other."""
    firsts = [decoder.order.index(kind) for kind in range(len(decoder.structure.blocks))]
    return tuple(_of_layers(decoder, lora, firsts))


def _of_layers(decoder: Decoder, lora: Lora, layers: list[int]) -> list[Ranks]:
    found: dict[int, dict[str, int]] = {layer: {} for layer in layers}
    prefixes = {layer: decoder.structure.blocks[decoder.order[layer]].prefix for layer in layers}
    for weight in adapted_weights(census_of(decoder), decoder.model_type, lora):
        name = weight.name.removesuffix(".weight")
        rank = weight.rank_each
        for layer in layers:
            if layer in weight.layers:
                found[layer][name.removeprefix(prefixes[layer])] = rank
    return list(found.values())


@lru_cache(maxsize=256)
def _by_adapters(decoder: Decoder, lora: Lora) -> Decoder:
    alike = [
        (kind, frozenset(ranks.items()))
        for kind, ranks in zip(decoder.order, _of_layers(decoder, lora, list(range(decoder.layers))), strict=True)
    ]
    kinds = {own: number for number, own in enumerate(dict.fromkeys(alike))}
    if len(kinds) == len(decoder.structure.blocks):
        return decoder
    if len(kinds) > _MOST_KINDS:
        fix = f"gives {len(kinds)} layers adapters of their own; at most {_MOST_KINDS} kinds of layers are planned"
        raise NotPlannedError("These adapters cannot be planned.", [FieldProblem("lora.rank_pattern", fix)])
    blocks = tuple(decoder.structure.blocks[kind] for kind, _ in kinds)
    return replace(
        decoder,
        structure=replace(decoder.structure, blocks=blocks),
        kind_sizes=tuple(decoder.kind_sizes[kind] for kind, _ in kinds),
        order=tuple(kinds[own] for own in alike),
    )
