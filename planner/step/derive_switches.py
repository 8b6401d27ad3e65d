"""From a recipe and a card to switches (which tensors) and numbers (how large)."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from planner.families.census import census_of
from planner.families.parts import (
    Attention,
    Block,
    Decoder,
    DeltaNet,
    Experts,
    GatedMlp,
    Latent,
    Linear,
    Mamba2,
    PlainMlp,
)
from planner.gpu import Gpu, multiprocessors
from planner.memory import logits, workspace
from planner.memory.fused import fused_four_bit
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.request.schema import Lora
from planner.request.unsloth import UNSLOTH
from planner.step import liger_models
from planner.step.attention.kernel_choice import Asked, attention_kernel
from planner.step.attention.rotary import CONCATENATED
from planner.step.passes import passes_of
from planner.step.row_sums import row_sums, sums_rows
from planner.step.switches import LayerSwitches, LigerHead, Outside, Storage, Switches
from planner.step.unsloth_numbers import row_numbers, unsloth_numbers, unsloth_switches
from planner.tensors.targets import adapted_weights
from planner.units import ceil_div

# Tokens in a chunk of the gated delta rule (modeling_qwen3_5.py, torch_chunk_gated_delta_rule); Mamba says its own.
CHUNK = 64


@lru_cache(maxsize=256)
def switches_of(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Switches:
    """Everything about the run that is not a number."""
    adapted = _adapted(decoder, recipe.lora) if recipe.lora else frozenset()
    residual = 4 if recipe.kbit_preparation else DTYPE_BYTES[recipe.model_dtype]
    training = recipe.training
    return Switches(
        layers=tuple(
            _layer(block, sizes, _asked(decoder, block, sizes, recipe, gpu), recipe, adapted)
            for block, sizes in zip(decoder.structure.blocks, _all_sizes(decoder), strict=True)
        ),
        storage=_storage(recipe),
        double_quant=bool(recipe.quantization and recipe.quantization.bnb_4bit_use_double_quant),
        float16=recipe.model_dtype == "float16",
        model=DTYPE_BYTES[recipe.model_dtype],
        residual=residual,
        compute=DTYPE_BYTES[recipe.compute_dtype],
        expanded=DTYPE_BYTES[recipe.model_dtype],
        autocast=DTYPE_BYTES[recipe.autocast] if recipe.autocast else 0,
        adapter=DTYPE_BYTES[recipe.adapter_dtype],
        adapter_recast=recipe.autocast is not None and recipe.autocast != recipe.adapter_dtype,
        has_adapters=recipe.lora is not None,
        trains_base=recipe.method == "full",
        dropout=recipe.dropout,
        dora=bool(recipe.lora and recipe.lora.use_dora),
        checkpointing=bool(training.gradient_checkpointing),
        reentrant=training.use_reentrant,
        loss=_loss(decoder, recipe),
        liger=recipe.loss == "liger" and decoder.model_type in liger_models.REPLACED,
        liger_in_place=decoder.model_type not in liger_models.NORMS_BESIDE,
        liger_head_norms=decoder.model_type not in liger_models.LEAVES_HEAD_NORMS,
        liger_rotary=decoder.model_type not in liger_models.LEAVES_ROTARY,
        outputs_kept=recipe.outputs_kept,
        accumulates=recipe.accumulates,
        collated=recipe.collated,
        objective=recipe.objective,
        passes=passes_of(recipe),
        one_sequence=recipe.batch == 1,
        padded=training.padded,
        outside=_outside(decoder, recipe, gpu, adapted),
        liger_head=_liger_head(recipe, gpu.compute_capability),
        one_chunk=recipe.length <= decoder.sizes.get("chunk", CHUNK),
        filled_up=recipe.length % decoder.sizes.get("chunk", CHUNK) > 0,
        unsloth=unsloth_switches(decoder, recipe, gpu) if recipe.stack_name == UNSLOTH else None,
        loops_experts=gpu.compute_capability is not None and gpu.compute_capability < (8, 0),
    )


def _outside(decoder: Decoder, recipe: Recipe, gpu: Gpu, adapted: frozenset[str]) -> Outside:
    """Projections that belong to no layer."""
    inputs = decoder.structure.layer_inputs
    if inputs is None:
        return Outside()
    part, sizes = inputs.projection, decoder.sizes
    fused = fused_four_bit(recipe.tokens, sizes[part.out], sizes[part.in_], recipe.compute_dtype, gpu)
    names = frozenset({part.name})
    return Outside(names & adapted, names if fused else frozenset())


def _loss(decoder: Decoder, recipe: Recipe) -> str:
    """The loss that runs: where Liger does not replace it, the model's own."""
    fused = decoder.model_type in liger_models.REPLACED - liger_models.KEEPS_LOGITS
    return "full_logits" if recipe.loss == "liger" and not fused else recipe.loss


def _liger_head(recipe: Recipe, capability: tuple[int, int] | None) -> LigerHead:
    """liger-kernel 0.8.5 ops/fused_linear_cross_entropy.py: its questions about dtypes and the card, answered."""
    held = "float32" if recipe.kbit_preparation else recipe.model_dtype
    logits = recipe.autocast or held
    return LigerHead(
        casts=logits != held,
        adds_in_place=(capability or (8, 0)) >= (8, 0) and logits != "float32" and held in {"float32", logits},
    )


def numbers_of(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[dict[str, int], ...]:
    """The value of every dimension, per kind of layer, on this card."""
    tables = (_numbers({**decoder.sizes, **sizes}, recipe, gpu) for sizes in decoder.kind_sizes)
    own = row_numbers(recipe) if recipe.stack_name == UNSLOTH else {}
    return tuple(table | own for table in tables)


def _numbers(sizes: Mapping[str, int], recipe: Recipe, gpu: Gpu) -> dict[str, int]:
    batch, length, kept = recipe.batch, recipe.length, sum(recipe.kept_tokens)
    pairs = recipe.training.per_device_train_batch_size
    heads, head_dim = sizes.get("H", 1), sizes.get("d", 1)
    return {
        **sizes,
        "b": batch, "s": length, "s-1": length - 1, "pairs": pairs,
        "chosen copied": pairs * (length - 1) if pairs > 1 else 0,
        "s+1": length + 1, "T": batch * length, "T+b": batch * (length + 1),
        "batch": recipe.tokens * recipe.steps_of_generation,
        "r": recipe.lora.r if recipe.lora else 1, "2r": 2 * recipe.lora.r if recipe.lora else 1,
        "flash dq": workspace.flash_dq_elements(batch, length, heads, head_dim),
        **_chunked(sizes, batch, length),
        "none": 0, "index top": min(sizes.get("index topk", 0), length), "rotated": sizes.get("rot", head_dim),
        "q rest": sizes.get("q", 0) - sizes.get("q rot", 0), "k rest": sizes.get("k", 0) - sizes.get("k rot", 0),
        **unsloth_numbers(_scored(recipe), sizes["V"], sizes["h"]),
        **logits.fused_sizes(_scored(recipe), batch * length, sizes["V"], sizes["h"]),
        "efficient lse": workspace.efficient_lse_elements(batch, length, heads),
        "efficient delta": workspace.efficient_delta_elements(batch, length, heads),
        "efficient work": workspace.efficient_workspace_elements(
            batch, length, heads, head_dim, gpu.compute_capability
        ),
        "multiprocessors": multiprocessors(gpu),
        "cudnn work": batch * length * (sizes.get("q", 0) + heads),
        **(row_sums(sizes, recipe, gpu) if sums_rows(recipe) else {}),
        "flash lse": workspace.flash_lse_elements(batch, length, heads),
        "splits": (splits := _key_splits(sizes, recipe, gpu)),
        "splits of d": splits * workspace.flash_columns(head_dim),
        "kept": kept,
        **_embedding_rows(sizes, batch * length),
        "flash row dq": workspace.flash_row_dq_elements(batch, kept, heads, head_dim),
        "flash row lse": workspace.flash_row_lse_elements(batch, kept, heads),
    }  # fmt: skip


def _key_splits(sizes: Mapping[str, int], recipe: Recipe, gpu: Gpu) -> int:
    return workspace.flash_splits(
        recipe.batch, recipe.length, sizes.get("H", 1), sizes.get("d", 1), multiprocessors(gpu)
    )


def _scored(recipe: Recipe) -> tuple[int, ...]:
    """Of each sequence the tokens that are scored, and one before them. GRPO's padding lies in the prompts."""
    return (recipe.completion + 1,) * recipe.batch if recipe.objective == "grpo" else recipe.kept_tokens


def _embedding_rows(sizes: Mapping[str, int], tokens: int) -> dict[str, int]:
    """Of the embedding, and of Gemma 4's second one."""
    found = {}
    for rows, words in (("embedding rows", sizes["V"]), ("input rows", sizes.get("V of inputs", 0))):
        found[rows] = workspace.embedding_partial_rows(tokens, words)
        found[f"{rows}' indices"] = workspace.embedding_indices(tokens, words)
    return found


def _chunked(sizes: Mapping[str, int], batch: int, length: int) -> dict[str, int]:
    """The chunks of linear attention and of state-space layers."""
    chunk = sizes.get("chunk", CHUNK)
    count = ceil_div(length, chunk)
    padded = batch * count * chunk
    return {
        "chunk": chunk, "chunks": count, "chunks+1": count + 1, "earlier chunks": max(0, count - 2),
        "earlier chunks but one": max(0, count - 3), "second chunk": min(1, count - 1),
        "third chunk": min(1, max(0, count - 2)),
        "C": batch * chunk, "TC": padded, "TC where padded": padded if length % chunk else 0,
        "T conv": batch * (length + sizes.get("conv kernel", 1) - 1),
    }  # fmt: skip


def _storage(recipe: Recipe) -> Storage | None:
    if recipe.quantization is None:
        return None
    kinds: dict[str, Storage] = {"hqq": "hqq", "awq": "packed", "gptq": "packed", "fp8": "fp8"}
    if recipe.quantization.quant_method in kinds:
        return kinds[recipe.quantization.quant_method]
    return "int8" if recipe.quantization.load_in_8bit else "4bit"


def _all_sizes(decoder: Decoder) -> Iterator[dict[str, int]]:
    """The numbers of each kind of layer, the model's own among them."""
    return ({**decoder.sizes, **sizes} for sizes in decoder.kind_sizes)


def _asked(decoder: Decoder, block: Block, sizes: Mapping[str, int], recipe: Recipe, gpu: Gpu) -> Asked:
    """What decides the attention kernel of one kind of layer."""
    attention = block.attention
    latent = isinstance(attention, Latent)
    windowed = attention is not None and attention.window and recipe.length >= sizes["window"]
    return Asked(
        implementation=recipe.training.attn_implementation or decoder.default_attention,
        pinned=recipe.training.sdpa_kernel,
        dtype=recipe.autocast or ("float32" if recipe.kbit_preparation else recipe.model_dtype),
        head_dim=sizes["q"] // sizes["H"] if latent else sizes.get("d", 1),
        value_dim=_value_width(block, sizes),
        equal_widths=not latent or sizes["q"] == sizes["v"],
        grouped=sizes.get("K", 1) != sizes.get("H", 1),
        masked=recipe.training.padded or windowed,
        always_masked=(isinstance(attention, Attention) and attention.always_masked)
        or (isinstance(attention, Latent) and attention.indexer is not None),
        gpu=gpu,
    )


def _layer(
    block: Block, sizes: Mapping[str, int], asked: Asked, recipe: Recipe, adapted: frozenset[str]
) -> LayerSwitches:
    projections, kernel = tuple(linears(block)), attention_kernel(asked)
    return LayerSwitches(
        kernel=kernel.name,
        masked=kernel.masked,
        grouped=asked.grouped,
        one_group=sizes.get("K") == 1,
        expands=kernel.expands,
        softcap=block.attention is not None and block.attention.softcap,
        windowed=block.attention is not None and block.attention.window,
        by_head=isinstance(block.attention, Latent) or _concatenates(block),
        splits_keys=kernel.name in {"flash", "flash_attention_2"} and _key_splits(sizes, recipe, asked.gpu) > 1,
        wide_values=_value_width(block, sizes) > workspace.WIDEST_IN_REGISTERS,
        dropout=isinstance(block.attention, Attention) and block.attention.dropout,
        adapters=frozenset(part.name for part in projections if block.prefix + part.name in adapted),
        fused=frozenset(
            part.name
            for part in projections
            if fused_four_bit(recipe.tokens, sizes[part.out], sizes[part.in_], recipe.compute_dtype, asked.gpu)
        ),
    )


def _value_width(block: Block, sizes: Mapping[str, int]) -> int:
    """Columns of one head's values."""
    return sizes["v"] // sizes["H"] if isinstance(block.attention, Latent) else sizes.get("d", 1)


def _concatenates(block: Block) -> bool:
    attention = block.attention
    return isinstance(attention, Attention) and (attention.rotary == "halves" or attention.rotary in CONCATENATED)


@lru_cache(maxsize=2048)
def _adapted(decoder: Decoder, lora: Lora) -> frozenset[str]:
    """Module paths that carry an adapter; a router's `gate.weight` goes by its module's name like any other."""
    weights = adapted_weights(census_of(decoder), decoder.model_type, lora)
    return frozenset(weight.name.removesuffix(".weight") for weight in weights)


def linears(block: Block) -> Iterator[Linear]:
    """Every `nn.Linear` of a block, in the order of its modules."""
    attention, mlp = block.attention, block.mlp
    if block.layer_input:
        yield from (block.layer_input.gate, block.layer_input.projection)
    if block.beside:
        experts = block.beside.experts
        yield from (experts.router, experts.up, experts.down)
    if isinstance(attention, Attention):
        yield from filter(None, (attention.q, attention.k, attention.v, attention.fused, attention.o))
    elif isinstance(attention, DeltaNet):
        yield from filter(None, (attention.qkv, attention.z, attention.b, attention.a, attention.out))
    elif isinstance(attention, Mamba2):
        yield from (attention.in_, attention.out)
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
