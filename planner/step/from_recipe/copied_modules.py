"""Which parts of a decoder a step trains as copies beside its adapters."""

from collections.abc import Iterator
from functools import lru_cache

from planner.errors import FieldProblem, NotPlannedError
from planner.families.census import census_of
from planner.families.parts import Attention, Block, Decoder, Experts, GatedMlp, PlainMlp, Structure
from planner.request.lora import Lora
from planner.request.recipe import Recipe
from planner.step.from_recipe.dtype_widths import width_of
from planner.step.switches import Copies
from planner.tensors.modules import module_name
from planner.tensors.whole_modules import FIELD, ties_the_copies, whole_modules


@lru_cache(maxsize=256)
def copies_of(decoder: Decoder, recipe: Recipe) -> Copies:
    """The copies of a run, in the words of its switches.

    Raises:
        NotPlannedError: no formula follows a trained copy of one of them; says which can be named.
    """
    if recipe.lora is None:
        return Copies()
    names = _named(decoder, recipe.lora)
    if not names:
        return Copies()
    structure, tied = decoder.structure, ties_the_copies(census_of(decoder), recipe.lora)
    return Copies(
        names=names | {structure.head.name} if tied else names,
        width=width_of(recipe.copied_dtype, recipe),
        embedding=structure.embedding in names,
        head=tied or structure.head.name in names,
        tied=tied,
    )


@lru_cache(maxsize=2048)
def _named(decoder: Decoder, lora: Lora) -> frozenset[str]:
    structure = decoder.structure
    known = dict(_parts(structure))
    copied = list(dict.fromkeys(module_name(group) for group in whole_modules(census_of(decoder), lora)))
    if unknown := [path for path in copied if path not in known]:
        leaves = ", ".join(dict.fromkeys(path.rsplit(".", 1)[-1] for path in known))
        fix = f"a trained copy of {unknown[0]} is not planned; name one of {leaves}"
        raise NotPlannedError("These modules cannot be planned as a whole.", [FieldProblem(FIELD, fix)])
    return frozenset(known[path] for path in copied)


def _parts(structure: Structure) -> Iterator[tuple[str, str]]:
    """Module paths whose trained copies the trace follows, each with the name that the part has there."""
    outside = [structure.embedding, structure.head.name]
    outside += [norm.name for norm in (structure.embedding_norm, structure.final_norm) if norm]
    yield from zip(outside, outside, strict=True)
    for block in structure.blocks:
        yield from ((block.prefix + name, name) for name in _parts_of(block))


def _parts_of(block: Block) -> Iterator[str]:
    yield from (norm.name for norm in block.norms if norm.weight)
    attention, mlp = block.attention, block.mlp
    if isinstance(attention, Attention):
        yield from (norm.name for norm in (attention.q_norm, attention.k_norm) if norm)
        yield from (part.name for part in (attention.q, attention.k, attention.v, attention.fused, attention.o) if part)
    if isinstance(mlp, Experts):
        if mlp.routing != "dense":
            yield from (part.name for part in (mlp.router, mlp.up, mlp.down))
        yield from _parts_of_mlp(mlp.shared)
        yield from (part.name for part in (mlp.shared_gate,) if part)
    else:
        yield from _parts_of_mlp(mlp)


def _parts_of_mlp(mlp: GatedMlp | PlainMlp | None) -> Iterator[str]:
    if isinstance(mlp, GatedMlp):
        yield from (part.name for part in (mlp.gate, mlp.up, mlp.fused, mlp.down) if part)
    if isinstance(mlp, PlainMlp):
        yield from (mlp.up.name, mlp.down.name)
