"""The closed-form census: every parameter of a described decoder, as `model.named_parameters()` names them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from planner.families.buffers import buffers_of
from planner.families.parts import (
    Attention,
    Block,
    Decoder,
    Experts,
    Extra,
    GatedMlp,
    Latent,
    Linear,
    Mixer,
    Norm,
    ParallelExperts,
    PlainMlp,
    Structure,
)
from planner.tensors.inventory import Census, TensorGroup, as_layers

# (name, role, symbolic shape, quantizable, keeps float32)
_Row = tuple[str, str, tuple[str, ...], bool, bool]


@lru_cache(maxsize=512)
def census_of(decoder: Decoder) -> Census:
    """Every tensor of the model, equal ones of all layers together, tied weights once; then the buffers."""
    groups: dict[TensorGroup, list[int]] = {}
    for row in _rows_before_layers(decoder.structure):
        _count(groups, row, decoder.sizes, ())
    for kind, (block, sizes) in enumerate(zip(decoder.structure.blocks, decoder.kind_sizes, strict=True)):
        numbers = {**decoder.sizes, **sizes}
        layers = [layer for layer, own in enumerate(decoder.order) if own == kind]
        for row in _block_rows(block) if layers else ():
            _count(groups, row, numbers, layers)
    for row in _rows_after_layers(decoder.structure):
        _count(groups, row, decoder.sizes, ())
    kept = decoder.kept_from_float16
    parameters = (
        replace(
            group,
            count=len(layers) or 1,
            layers=as_layers(layers),
            keeps_float32_of_float16=any(part in group.name for part in kept),
            stacked_in_checkpoint=decoder.stacked_in_checkpoint and group.role == "expert" and len(group.shape) == 3,
        )
        for group, layers in groups.items()
    )
    return (*parameters, *decoder.towers, *buffers_of(decoder))


def _count(groups: dict[TensorGroup, list[int]], row: _Row, sizes: Mapping[str, int], layers: Iterable[int]) -> None:
    name, role, shape, quantizable, keeps_float32 = row
    group = TensorGroup(
        name=name, role=role, shape=tuple(sizes[width] for width in shape), count=0,  # type: ignore[arg-type]  # a Role
        quantizable=quantizable, keeps_float32=keeps_float32,
    )  # fmt: skip
    groups.setdefault(group, []).extend(layers)


@lru_cache(maxsize=512)
def _rows_before_layers(structure: Structure) -> tuple[_Row, ...]:
    return tuple(_before_layers(structure))


@lru_cache(maxsize=512)
def _rows_after_layers(structure: Structure) -> tuple[_Row, ...]:
    return tuple(_after_layers(structure))


@lru_cache(maxsize=512)
def _block_rows(block: Block) -> tuple[_Row, ...]:
    return tuple((block.prefix + name, *rest) for name, *rest in _block(block))  # type: ignore[misc]  # same five


def _before_layers(structure: Structure) -> Iterator[_Row]:
    width = structure.embedding_width or "h"
    yield f"{structure.embedding}.weight", "embedding", ("V", width), False, False
    if structure.positions:
        yield f"{structure.positions}.weight", "embedding", ("positions", "h"), False, False
    if structure.embedding_norm:
        yield from _norm(structure.embedding_norm)
    if structure.layer_inputs:
        yield f"{structure.layer_inputs.embedding}.weight", "embedding", ("V of inputs", "L·P"), False, False
        yield from _linear(structure.layer_inputs.projection)
        yield from _norm(structure.layer_inputs.norm)
    yield from (_extra(extra) for extra in structure.extras)


def _after_layers(structure: Structure) -> Iterator[_Row]:
    if structure.final_norm:
        yield from _norm(structure.final_norm)
    if not structure.tied:
        yield from _linear(structure.head)
    elif structure.head.bias:
        yield f"{structure.head.name}.bias", "bias", ("V",), False, False


def _block(block: Block) -> Iterator[_Row]:
    for norm in block.norms:
        yield from _norm(norm)
    if isinstance(block.attention, Attention):
        attention = block.attention
        for linear in filter(None, (attention.q, attention.k, attention.v, attention.fused, attention.o)):
            yield from _linear(linear)
        for head_norm in filter(None, (attention.q_norm, attention.k_norm)):
            yield from _norm(head_norm)
        if attention.sinks:
            yield "self_attn.sinks", "other", ("H",), False, False
    elif isinstance(block.attention, Latent):
        latent = block.attention
        for linear in filter(None, (latent.q_a, latent.q, latent.kv_a, latent.kv_b, latent.o)):
            yield from _linear(linear)
        for norm in filter(None, (latent.q_norm, latent.kv_norm)):
            yield from _norm(norm)
    elif isinstance(block.attention, Mixer):
        yield from _mixer(block.attention)
    yield from _mlp(block.mlp)
    if block.parallel_experts:
        yield from _parallel_experts(block.parallel_experts)
    if block.layer_input:
        yield from _linear(block.layer_input.gate)
        yield from _linear(block.layer_input.projection)
        yield from _norm(block.layer_input.norm)
    yield from (_extra(extra) for extra in block.extras)


def _mixer(mixer: Mixer) -> Iterator[_Row]:
    for part in mixer.tensors():
        if isinstance(part, Extra):
            yield _extra(part)
        else:
            yield from _linear(part) if isinstance(part, Linear) else _norm(part)


def _parallel_experts(part: ParallelExperts) -> Iterator[_Row]:
    for norm in part.norms:
        yield from _norm(norm)
    yield from (_extra(scale) for scale in part.scales)
    yield from _linear(part.experts.router)
    yield from _stacks(part.experts)


def _mlp(mlp: GatedMlp | PlainMlp | Experts | None) -> Iterator[_Row]:
    if isinstance(mlp, GatedMlp):
        for linear in filter(None, (mlp.gate, mlp.up, mlp.fused, mlp.down)):
            yield from _linear(linear)
    elif isinstance(mlp, PlainMlp):
        yield from _linear(mlp.up)
        yield from _linear(mlp.down)
    elif isinstance(mlp, Experts):
        yield from _router(mlp.router)
        yield from _stacks(mlp)
        yield from _mlp(mlp.shared)
        if mlp.shared_gate:
            yield from _linear(mlp.shared_gate)


def _stacks(experts: Experts) -> Iterator[_Row]:
    for stack in (experts.up, experts.down):
        shape = ("E", stack.in_, stack.out) if stack.transposed else ("E", stack.out, stack.in_)
        yield stack.name, "expert", shape, False, False
        if stack.bias:
            yield f"{stack.name}_bias", "expert", ("E", stack.out), False, False


def _linear(linear: Linear) -> Iterator[_Row]:
    shape = (linear.in_, linear.out) if linear.transposed else (linear.out, linear.in_)
    yield f"{linear.name}.weight", linear.role, shape, linear.quantizable, False
    if linear.bias:
        yield f"{linear.name}.bias", "bias", (linear.out,), False, False


def _router(router: Linear) -> Iterator[_Row]:
    yield f"{router.name}.weight", "router", (router.out, router.in_), False, False
    if router.bias:
        yield f"{router.name}.bias", "router", (router.out,), False, False


def _norm(norm: Norm) -> Iterator[_Row]:
    shape = (*norm.stored_per, norm.width)
    if norm.weight:
        yield f"{norm.name}.weight", "norm", shape, False, False
    if norm.bias:
        yield f"{norm.name}.bias", "norm", shape, False, False


def _extra(extra: Extra) -> _Row:
    return extra.name, extra.role, extra.shape, extra.linear, extra.keeps_float32
