"""The buffers of a described decoder: what lies on the card beside the parameters, as `model.named_buffers()` names it.

Sources: transformers 5.23, modeling_rope_utils.py and the modelling code of the families; all are a few hundred bytes,
but for GPT-J's tables of positions, one in every layer.
"""

from collections.abc import Iterator

from planner.families.parts import Decoder, Experts, Structure
from planner.tensors.inventory import TensorGroup

# Every attention layer keeps a table of its own in place of frequencies (models/gptj: create_sinusoidal_positions).
_TABLES_IN_LAYERS = frozenset({"gptj"})


def buffers_of(decoder: Decoder) -> Iterator[TensorGroup]:
    """Rotary frequencies, scales of embeddings, correction biases of routers; others are extras of their blocks."""
    structure = decoder.structure
    if decoder.model_type not in _TABLES_IN_LAYERS:
        yield from _frequencies(decoder)
    if structure.embedding_scaled == "inside":
        yield _buffer(f"{structure.embedding}.embed_scale", ())
        if structure.layer_inputs:
            yield _buffer(f"{structure.layer_inputs.embedding}.embed_scale", ())
    yield from _correction_biases(decoder)


def _frequencies(decoder: Decoder) -> Iterator[TensorGroup]:
    """One per pair of turned columns, and the original ones; two sets where layer types turn differently."""
    structure, sizes = decoder.structure, decoder.sizes
    where = structure.embedding.rpartition(".")[0]
    for kind in _rotary_kinds(structure):
        wide = structure.rotary_wide and kind == "full_attention_"
        columns = sizes["rotated wide"] if wide else sizes.get("rot", sizes.get("d", 0))
        count = columns if _shares_halves(structure) else columns // 2
        for form in ("", "original_"):
            yield _buffer(f"{where}.rotary_emb.{kind}{form}inv_freq", (count,), keeps_float32=True)


def _rotary_kinds(structure: Structure) -> tuple[str, ...]:
    if structure.rotary_sets == 0:
        return ()
    if structure.rotary_wide:  # the wide heads are those of full attention; there may be no others
        return ("full_attention_", "sliding_attention_")[: structure.rotary_sets]
    return ("full_attention_", "sliding_attention_") if structure.rotary_sets > 1 else ("",)


def _shares_halves(structure: Structure) -> bool:
    """GPT-OSS's tables are half as wide as its heads, for both halves: a frequency for every column of theirs."""
    return any(getattr(block.attention, "rotary", "") == "halves" for block in structure.blocks)


def _correction_biases(decoder: Decoder) -> Iterator[TensorGroup]:
    """Sigmoid routers balance their experts with a bias that is not trained: float32 beside a float32 router."""
    found: dict[TensorGroup, int] = {}
    for kind, block in enumerate(decoder.structure.blocks):
        routed = block.mlp
        if isinstance(routed, Experts) and routed.routing == "sigmoid":
            owner = routed.router.name if routed.float_router else routed.router.name.rpartition(".")[0]
            sizes = {**decoder.sizes, **decoder.kind_sizes[kind]}
            name = f"{block.prefix}{owner}.e_score_correction_bias"
            group = _buffer(name, (sizes["E"],), count=0, keeps_float32=routed.float_router)
            found[group] = found.get(group, 0) + decoder.order.count(kind)
    for group, count in found.items():
        yield _buffer(group.name, group.shape, count, keeps_float32=group.keeps_float32)


def _buffer(name: str, shape: tuple[int, ...], count: int = 1, *, keeps_float32: bool = False) -> TensorGroup:
    return TensorGroup(name=name, role="buffer", shape=shape, count=count, keeps_float32=keeps_float32)
